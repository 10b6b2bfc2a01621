// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>

#include "devices/queue_service.h"
#include "devices/vsock/vsock_connection.h"
#include "devices/vsock/vsock_listener.h"
#include "devices/vsock/vsock_stream.h"
#include "vmm/base/counter.h"

namespace hum {

struct VsockCounters {
  Counter opened;
  Counter refused;  // by the guest, by the host, or by the bound on connections
  Counter reset;    // open ones that ended without a word of both sides
  Counter bytes_from_guest;
  Counter bytes_to_guest;
};

// All connections of a socket device: carries packets between the guest's queues and the host's sockets. Each
// connection that has something for the guest sends one packet in its turn. The connections outlive a pause.
// The maker, start, clear and the destructor belong to the device's owner, while no service runs; all else
// belongs to the service's thread.
class VsockSwitch {
 public:
  struct Settings {
    std::uint32_t cid = vsock_wire::first_guest_cid;
    std::size_t most_connections = 1024;
    std::chrono::milliseconds answer_patience{10'000};  // for the guest's answer to a request
    std::chrono::milliseconds close_patience{8'000};    // for its reset when the host has finished
  };

  // Both outlive the switch. Throws HostError.
  VsockSwitch(const Settings& settings, VsockListener& listener, VsockCounters& counters);
  VsockSwitch(const VsockSwitch&) = delete;
  VsockSwitch& operator=(const VsockSwitch&) = delete;

  // Starts a service and works with its queues until its end.
  void start(QueueService& service, QueueService::Kicked kicked);
  // Drops all connections and whatever the guest was to be told.
  void clear();

  // The guest has put packets into the transmit queue: false if some were left there.
  bool receive_packets();
  // Sends what there is to send, as far as the guest has given buffers.
  void send_packets();

  // Passes on what the guest had queued, and waits for the sockets until give_up_fd is readable.
  void flush(int give_up_fd);

 private:
  struct Link {
    Link(VsockConnection of, Fd socket)
        : connection(of), stream(std::move(socket), VsockConnection::window) {}

    VsockConnection connection;
    VsockStream stream;
    bool has_turn = false;
    std::optional<std::chrono::steady_clock::time_point> until = {};  // then it ends
  };
  using Links = std::list<Link>;

  // A request of the guest to a program of the host that has too many clients waiting.
  struct Waiting {
    vsock_wire::Header request;
    std::chrono::steady_clock::time_point until;  // then it is refused
  };

  // Resets for packets that belong to no connection.
  struct Reset {
    VsockPorts ports;
    std::uint16_t type = 0;
  };
  static constexpr std::size_t most_resets = 256;

  static std::uint64_t key_of(VsockPorts ports) { return std::uint64_t{ports.host} << 32 | ports.guest; }

  void take(const virtio::DescriptorChain& chain);
  void take(Link& link, const vsock_wire::Header& header, const virtio::DescriptorChain& chain);
  void refuse(const vsock_wire::Header& header);
  void take_unknown(const vsock_wire::Header& header, bool sound);
  bool open_to_host(const vsock_wire::Header& request);
  void open_to_guest(Fd client, std::uint32_t port);
  bool has_room() const;
  Link* add(const VsockConnection& connection, Fd socket);
  void remove(Link& link);
  void lose(Link& link);
  void settle(Link& link);
  void pass_on(Link& link);
  void count_end(const VsockConnection& connection);
  std::uint32_t next_packet(const virtio::DescriptorChain& chain);
  std::uint32_t packet_of(Link& link, const virtio::DescriptorChain& chain);
  std::uint32_t put(vsock_wire::Header header, std::span<const iovec> to) const;
  void serve_sockets();
  void serve_timer();
  void end_after(Link& link, std::chrono::milliseconds patience);
  void retry_waiting(std::chrono::steady_clock::time_point now);
  void wake_at(std::chrono::steady_clock::time_point time);

  Settings settings_;
  VsockListener& listener_;
  VsockCounters& counters_;
  QueueService* service_ = nullptr;
  Fd sockets_;  // epoll
  Timer timer_;
  std::optional<std::chrono::steady_clock::time_point> timer_until_;
  Links quiet_;  // nothing to send
  Links turns_;  // the next first
  std::unordered_map<std::uint64_t, Links::iterator> links_;
  std::list<Waiting> waiting_;
  std::uint32_t next_port_;
  std::array<Reset, most_resets> resets_;  // a ring
  std::size_t first_reset_ = 0;
  std::size_t resets_due_ = 0;
  bool stalled_ = false;  // packets wait in their queue for room among the resets
};

}  // namespace hum
