// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "devices/vhost_user/vhost_user_wire.h"
#include "vmm/base/fd.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/virt_queue.h"

namespace hum {

// The server is not there, does not answer in time, or answers nonsense: the connection is of no use any
// more. The message is the reason, to stand behind the server's name.
class VhostUserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Where a server notes the requests it has taken and not answered, so that its successor finds them. The
// file is shared with the server; nothing in it is used here.
struct InflightArea {
  static constexpr std::uint64_t most_bytes = 16 << 20;

  Fd file;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;  // in the file
  std::uint16_t queues = 0;
  std::uint16_t queue_size = 0;

  // The area as it is now, and a new one with that content. Throw HostError.
  std::vector<std::byte> content() const;
  static InflightArea from(std::span<const std::byte> content, std::uint16_t queues,
                           std::uint16_t queue_size);
};

// How long a client waits for its server.
struct VhostUserPatience {
  std::chrono::milliseconds answer{5000};
  int give_up_fd = -1;  // readable: waits no longer; -1: nothing ends a wait early
};

// Another process can map it all. what and value are those of the option, in the error. Throws ConfigError.
void require_shared(const GuestMemory& memory, const std::string& what, const std::string& value);

// A connection to a server of vhost-user, the front-end's side. Belongs to one thread at a time. Every
// function may throw VhostUserError, after which only the destructor may be called.
class VhostUserClient {
 public:
  // Connects to a Unix socket and agrees on protocol features. Throws also HostError.
  VhostUserClient(const std::string& path, VhostUserPatience patience);

  void set_patience(VhostUserPatience patience) { patience_ = patience; }

  // Readable when the server is gone: it never speaks first on this one.
  int fd() const { return socket_.get(); }
  // Readable when the server asks for something (take_request), or -1.
  int channel_fd() const { return channel_.get(); }

  std::uint64_t features() const { return features_; }        // virtio features
  std::uint64_t most_queues() const { return most_queues_; }  // of an interface: pairs
  // Throws ConfigError where the server has fewer, or more than one without the device's feature for that.
  void require_queues(const std::string& what, std::uint16_t queues, std::uint64_t feature_mq) const;
  bool has_config() const { return has(vhost_user_wire::protocol_config); }
  bool disables_rings() const { return negotiates_; }
  bool takes_mtu() const { return has(vhost_user_wire::protocol_net_mtu); }
  bool tracks_inflight() const { return has(vhost_user_wire::protocol_inflight); }

  std::vector<std::byte> read_config(std::uint32_t bytes);
  void write_config(std::uint32_t offset, std::span<const std::byte> data);

  // To be called in this order, before the first ring starts.
  void set_features(std::uint64_t driver_features);
  void set_mtu(std::uint16_t bytes);
  void share(const GuestMemory& memory);  // all of it: shared memory
  InflightArea get_inflight(std::uint16_t queues, std::uint16_t queue_size);
  void set_inflight(const InflightArea& area);

  // Gives a ring to the server, from queue.next_available() on.
  void start_ring(std::uint16_t index, const virtio::VirtQueue& queue, int kick_fd, int call_fd,
                  bool enabled);
  // Of an interface: frames of a ring that is not enabled are dropped. Nothing if it cannot be disabled.
  void enable_ring(std::uint16_t index, bool enabled);
  // Returns when the server has carried out all that was asked for.
  void settle();
  // Takes a ring back; the index of the next request that the server would have taken.
  std::uint16_t stop_ring(std::uint16_t index);

  // Reads one request of the server and answers it; true if its configuration space has changed.
  bool take_request();

 private:
  using Clock = std::chrono::steady_clock;
  struct Message {
    vhost_user_wire::Header header;
    std::vector<std::byte> payload;
    std::vector<Fd> files;
  };

  bool has(std::uint64_t protocol_feature) const { return (protocol_ & protocol_feature) != 0; }
  void wait(int fd, short events, Clock::time_point end) const;
  void send(int fd, vhost_user_wire::Header header, std::span<const std::byte> payload,
            std::span<const int> files = {}) const;
  Message receive(int fd) const;
  void receive_bytes(int fd, std::span<std::byte> bytes, Clock::time_point end, std::vector<Fd>& files) const;

  // A request without answer but for a REPLY_ACK.
  void tell(vhost_user_wire::Request request, std::span<const std::byte> payload,
            std::span<const int> files = {});
  void tell(vhost_user_wire::Request request, std::uint64_t value, std::span<const int> files = {});
  // A request with an answer, whose payload has one of the sizes.
  Message ask(vhost_user_wire::Request request, std::span<const std::byte> payload, std::size_t answer);
  std::uint64_t ask_number(vhost_user_wire::Request request);
  Message answer_to(vhost_user_wire::Request request) const;
  void open_channel();

  Fd socket_;
  Fd channel_;
  VhostUserPatience patience_;
  std::uint64_t features_ = 0;
  bool negotiates_ = false;  // the server has protocol features
  std::uint64_t protocol_ = 0;
  std::uint64_t most_queues_ = 1;
};

}  // namespace hum
