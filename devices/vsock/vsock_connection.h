// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "devices/vsock/vsock_wire.h"

namespace hum {

struct VsockPorts {
  std::uint32_t host = 0;
  std::uint32_t guest = 0;

  bool operator==(const VsockPorts&) const = default;
};

// One stream connection as the protocol sees it (virtio 1.2, 5.10.6): its state, the credit of both
// directions, and the packets that are due. Knows neither sockets nor queues: its owner hands in the guest's
// headers and what the host has done, and takes the headers to be sent, which lack only the CIDs. What is due
// is a state, not a queue: whatever the guest does, it takes no memory. Belongs to one thread.
class VsockConnection {
 public:
  // Bytes that the guest may have sent and the host's side not yet taken.
  static constexpr std::uint32_t window = 128 * 1024;

  // What a packet of the guest comes to.
  enum class Event : std::uint8_t {
    none,
    accepted,  // the guest has accepted the host's request
    data,      // the payload belongs to the host
    ended,     // the guest has reset the connection, or refused it
    broken,    // the packet is against the protocol; a reset is due
  };

  // The host asks the guest for a connection.
  explicit VsockConnection(VsockPorts ports);
  // The guest has asked for one, and the host accepts.
  VsockConnection(VsockPorts ports, const vsock_wire::Header& request);

  VsockPorts ports() const { return ports_; }
  bool was_opened() const { return opened_; }
  bool open() const { return opened_ && !over_; }
  bool over() const { return over_; }
  // Over, and the guest knows.
  bool finished() const { return over_ && due_ == 0; }
  // What the guest and the host do no more (shutdown_...).
  std::uint32_t guest_done() const { return guest_done_; }
  std::uint32_t host_done() const { return host_done_; }

  // A packet of the guest, as long as the connection is not finished.
  Event take(const vsock_wire::Header& header);

  // The host has taken, or will never want, so many bytes of the guest's.
  void forwarded(std::size_t bytes);
  // What the host does no more, for good.
  void host_does_no_more(std::uint32_t shutdown);
  // Ends the connection; the guest is told where it knows of it.
  void reset();

  // Bytes that the guest can be sent now.
  std::uint32_t credit() const;
  // Whether the guest would take bytes of the host, if it has given credit.
  bool wants_data() const;
  // The host has bytes, but there is no credit for them.
  void ask_for_credit();

  // What is to be sent before any data.
  bool control_due() const { return due_ != 0; }
  std::optional<vsock_wire::Header> next_control();
  // The header for so many bytes, at most credit().
  vsock_wire::Header data(std::uint32_t bytes);

 private:
  Event broken();
  Event take_open(const vsock_wire::Header& header);
  bool take_credit(const vsock_wire::Header& header);
  vsock_wire::Header header(std::uint16_t op);

  VsockPorts ports_;
  bool opened_ = false;
  bool over_ = false;
  std::uint32_t due_;  // control packets: 1 << op
  std::uint32_t guest_done_ = 0;
  std::uint32_t host_done_ = 0;
  // Counts of bytes since the beginning, modulo 2^32. From the guest: what it may have sent, what it has
  // sent, and what the host has taken of that.
  std::uint32_t granted_ = 0;
  std::uint32_t received_ = 0;
  std::uint32_t forwarded_ = 0;
  // To the guest: what was sent, what the guest's applications have taken, and how much may lie in between.
  std::uint32_t sent_ = 0;
  std::uint32_t guest_forwarded_ = 0;
  std::uint32_t guest_window_ = 0;
  bool asked_for_credit_ = false;
};

}  // namespace hum
