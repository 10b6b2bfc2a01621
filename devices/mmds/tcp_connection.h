// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "devices/mmds/mmds_frames.h"

namespace hum::mmds {

// The server's end of a TCP connection (RFC 9293), of which it has what a peer on the same wire needs:
// handshake, data in order, retransmission after a time that doubles, the peer's window and segment size,
// probes of a closed window, the end from either side and resets. What comes out of order is dropped, the
// peer sends it again. There is no TIME-WAIT, and no congestion control: nothing is between the two.
//
// It sends nothing by itself: next() makes a segment when there is one to be sent, so what is held is one
// response and what of a request has come, however fast the peer is. Belongs to one thread at a time.
class TcpConnection {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr std::size_t most_received = 4096;   // bytes that wait to be consumed: the window
  static constexpr std::uint16_t most_payload = 1460;  // of a segment
  static constexpr std::chrono::milliseconds first_timeout{1000};  // RFC 6298, section 2
  static constexpr std::chrono::milliseconds longest_timeout{16000};
  static constexpr int most_retries = 6;

  // syn: the segment that opens it.
  TcpConnection(const Segment& syn, std::uint32_t initial_sequence, Clock::time_point now);

  // Takes a segment of the peer. False: it is to be answered with a reset, and changes nothing.
  bool take(const Segment& segment, Clock::time_point now);

  // The next segment to be sent, if there is one now; its payload is the connection's, until the next call.
  std::optional<Segment> next(Clock::time_point now);
  // When next() is to be asked: at the beginning of time for at once, at its end for never.
  Clock::time_point due() const;

  // What was received and is not consumed.
  std::string_view received() const { return received_; }
  void consume(std::size_t bytes) { received_.erase(0, bytes); }
  bool peer_closed() const { return peer_closed_; }

  // Open, and all that was sent has arrived: the next may be sent. text is not empty.
  bool may_send() const { return state_ == State::open && !closing_ && sending_.empty(); }
  void send(std::string text, Clock::time_point now);
  // Nothing more will be sent; what comes is thrown away. After may_send or send.
  void close(Clock::time_point now);

  // Closed by both sides, reset, or given up.
  bool over() const;
  // The one that ends it from this side.
  Segment reset() const;
  Clock::time_point last_heard() const { return last_heard_; }

 private:
  enum class State : std::uint8_t { handshake, open, over };
  struct Plan {
    std::size_t bytes = 0;
    bool fin = false;
  };

  bool take_acknowledgement(const Segment& segment);
  void take_payload(const Segment& segment);
  Plan plan() const;
  Segment blank() const;
  void expire(Clock::time_point now);
  void set_timer(Clock::time_point now);
  std::uint16_t window() const { return static_cast<std::uint16_t>(most_received - received_.size()); }
  bool in_window(const Segment& segment) const;
  std::uint32_t data_end() const { return send_begin_ + static_cast<std::uint32_t>(sending_.size()); }
  std::uint32_t stream_end() const { return data_end() + (closing_ ? 1 : 0); }

  State state_ = State::handshake;
  Clock::time_point last_heard_;

  // From the peer.
  std::string received_;
  std::uint32_t receive_next_;
  bool peer_closed_ = false;
  bool owes_answer_ = false;  // an acknowledgement, at least

  // To the peer. RFC 9293, 3.3.1: SND.UNA, SND.NXT, SND.WND, SND.WL1, SND.WL2.
  std::string sending_;   // from send_begin_ on, where it is not acknowledged
  bool closing_ = false;  // a FIN follows it
  std::uint32_t send_begin_;
  std::uint32_t send_unacknowledged_;
  std::uint32_t send_next_;
  std::uint32_t send_highest_;  // of what was ever sent, the end
  std::uint32_t send_window_;
  std::uint32_t window_sequence_;
  std::uint32_t window_acknowledgement_;
  std::size_t send_most_payload_;
  bool probes_ = false;  // one number more than the window lets

  Clock::time_point timer_ = Clock::time_point::max();
  std::chrono::milliseconds timeout_ = first_timeout;
  int retries_ = 0;
};

}  // namespace hum::mmds
