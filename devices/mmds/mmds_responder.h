// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "devices/mmds/metadata_service.h"
#include "devices/mmds/mmds_frames.h"
#include "devices/mmds/tcp_connection.h"
#include "devices/net/ip_address.h"
#include "devices/net/mac_address.h"

namespace hum {

// A host of its own on a guest's wire, that has one address and answers there with a VM's metadata: ARP, and
// HTTP on port 80. It needs nothing of the real host's network. Frames are made when somebody asks for them:
// what it holds is bounded, whatever the guest sends. Belongs to one thread at a time.
class MmdsResponder {
 public:
  using Clock = mmds::TcpConnection::Clock;

  static constexpr std::size_t most_connections = 30;
  // One that was silent for so long makes room for a new one.
  static constexpr std::chrono::seconds idle{1};
  // What it takes and what it makes; larger frames cannot be in its window.
  static constexpr std::size_t most_taken_bytes =
      mmds::most_header_bytes + mmds::TcpConnection::most_received;
  static constexpr std::size_t most_made_bytes = mmds::least_header_bytes + mmds::TcpConnection::most_payload;

  static constexpr Ipv4Address usual_address{169, 254, 169, 254};
  static constexpr MacAddress mac{{0x06, 0x01, 0x23, 0x45, 0x67, 0x01}};
  static constexpr std::uint16_t port = 80;

  // service outlives the responder.
  explicit MmdsResponder(const MetadataService& service, const Ipv4Address& address = usual_address);

  // Whether a frame of the guest that begins so is for this host, and not for others. start: up to
  // mmds::start_bytes.
  bool is_for_it(std::span<const std::byte> start) const { return mmds::is_for(address_, start); }

  // Takes a frame that is. checksum_at: as in Frame.
  void take(std::span<const std::byte> frame, std::size_t checksum_at, Clock::time_point now);

  // Makes the next frame to the guest, if there is one now; returns its bytes, or 0.
  std::size_t next(std::span<std::byte, most_made_bytes> frame, Clock::time_point now);
  // When next() is to be asked: at the beginning of time for at once, at its end for never.
  Clock::time_point due() const;

 private:
  struct Connection {
    mmds::Place peer;
    mmds::TcpConnection tcp;
  };
  struct Reset {
    mmds::Place peer;
    std::uint16_t from_port;
    mmds::Segment segment;
  };
  static constexpr std::size_t most_resets = 16;

  Connection* find(const mmds::Place& peer);
  void open(const mmds::Place& peer, const mmds::Segment& syn, Clock::time_point now);
  bool make_room(Clock::time_point now);
  void serve(mmds::TcpConnection& tcp, Clock::time_point now) const;
  void refuse(const mmds::SegmentFrame& content);
  void add_reset(const mmds::Place& peer, std::uint16_t from_port, const mmds::Segment& segment);
  std::size_t write(const mmds::Place& peer, std::uint16_t from_port, const mmds::Segment& segment,
                    std::span<std::byte> frame) const;

  const MetadataService& service_;
  const Ipv4Address address_;
  std::optional<mmds::ArpRequest> asked_;  // the last one
  std::vector<Reset> resets_;              // to be sent; more than there is room for are not
  std::vector<Connection> connections_;
  std::size_t turn_ = 0;  // of them, which one is asked first
};

}  // namespace hum
