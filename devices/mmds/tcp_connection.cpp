// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/tcp_connection.h"

#include <algorithm>
#include <utility>

namespace hum::mmds {
namespace {

constexpr std::uint16_t usual_payload = 536;  // 3.7.1, of a peer that does not say
constexpr std::uint16_t least_payload = 28;   // in the smallest packets that IPv4 has to carry (RFC 791, 3.2)

// Sequence numbers go round (3.4).
bool before(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::int32_t>(a - b) < 0;
}

}  // namespace

TcpConnection::TcpConnection(const Segment& syn, std::uint32_t initial_sequence, Clock::time_point now)
    : last_heard_(now),
      receive_next_(syn.sequence + 1),
      owes_answer_(true),
      send_begin_(initial_sequence + 1),
      send_unacknowledged_(initial_sequence),
      send_next_(initial_sequence),
      send_highest_(initial_sequence),
      send_window_(syn.window),
      window_sequence_(syn.sequence),
      window_acknowledgement_(initial_sequence),
      send_most_payload_(std::clamp(syn.most_payload.value_or(usual_payload), least_payload, most_payload)) {}

// 3.10.7.4, with the stricter rules of RFC 5961 for SYN and RST.
bool TcpConnection::take(const Segment& segment, Clock::time_point now) {
  last_heard_ = now;
  if (!in_window(segment)) {
    owes_answer_ |= !segment.rst;
    return true;
  }
  if (segment.rst) {
    if (segment.sequence == receive_next_)
      state_ = State::over;
    else
      owes_answer_ = true;
    return true;
  }
  if (segment.syn) {
    owes_answer_ = true;
    return true;
  }
  if (!segment.ack) return true;
  if (state_ == State::handshake) {
    const bool of_ours = segment.acknowledgement == send_begin_ && send_highest_ == send_begin_;
    if (!of_ours) return false;
    state_ = State::open;
    owes_answer_ = false;
  }
  if (take_acknowledgement(segment)) take_payload(segment);
  set_timer(now);
  return true;
}

bool TcpConnection::in_window(const Segment& segment) const {
  const std::uint32_t length = segment.length();
  const std::uint32_t end = receive_next_ + window();
  const auto inside = [&](std::uint32_t number) {
    return !before(number, receive_next_) && before(number, end);
  };
  if (length == 0) return segment.sequence == receive_next_ || inside(segment.sequence);
  return inside(segment.sequence) || inside(segment.sequence + length - 1);
}

// False: the segment goes no further.
bool TcpConnection::take_acknowledgement(const Segment& segment) {
  const std::uint32_t number = segment.acknowledgement;
  if (before(send_highest_, number)) {  // of what was not sent
    owes_answer_ = true;
    return false;
  }
  if (before(number, send_unacknowledged_)) return true;
  const bool was_shut = send_window_ == 0;
  if (before(window_sequence_, segment.sequence) ||
      (window_sequence_ == segment.sequence && !before(number, window_acknowledgement_))) {
    send_window_ = segment.window;
    window_sequence_ = segment.sequence;
    window_acknowledgement_ = number;
  }
  if (was_shut) retries_ = 0;  // the peer lives
  if (number == send_unacknowledged_) {
    if (was_shut && send_window_ != 0) send_next_ = number;  // it had no room for what probed
    return true;
  }
  if (!before(number, data_end())) {
    send_begin_ = data_end();
    sending_ = std::string();
  } else if (before(send_begin_, number)) {
    sending_.erase(0, number - send_begin_);
    send_begin_ = number;
  }
  send_unacknowledged_ = number;
  if (before(send_next_, number)) send_next_ = number;
  timeout_ = first_timeout;
  retries_ = 0;
  timer_ = Clock::time_point::max();
  return true;
}

void TcpConnection::take_payload(const Segment& segment) {
  if (segment.length() == 0) return;
  owes_answer_ = true;
  if (peer_closed_ || before(receive_next_, segment.sequence)) return;
  const auto fresh = segment.payload.subspan(receive_next_ - segment.sequence);  // ends in the window
  const auto fits = fresh.first(std::min<std::size_t>(fresh.size(), window()));
  receive_next_ += static_cast<std::uint32_t>(fits.size());
  if (!closing_) received_.append(reinterpret_cast<const char*>(fits.data()), fits.size());
  if (!segment.fin || fits.size() != fresh.size()) return;
  ++receive_next_;
  peer_closed_ = true;
}

void TcpConnection::send(std::string text, Clock::time_point now) {
  sending_ = std::move(text);
  set_timer(now);
}

void TcpConnection::close(Clock::time_point now) {
  closing_ = true;
  set_timer(now);
}

// What of the stream goes next, where the window lets it.
TcpConnection::Plan TcpConnection::plan() const {
  const std::uint32_t limit = send_unacknowledged_ + std::max<std::uint32_t>(send_window_, probes_ ? 1 : 0);
  Plan plan;
  if (!before(send_next_, limit)) return plan;
  const std::size_t room = limit - send_next_;
  if (before(send_next_, data_end()))
    plan.bytes = std::min({room, send_most_payload_, std::size_t{data_end() - send_next_}});
  plan.fin =
      closing_ && room > plan.bytes && send_next_ + static_cast<std::uint32_t>(plan.bytes) == data_end();
  return plan;
}

std::optional<Segment> TcpConnection::next(Clock::time_point now) {
  if (timer_ <= now) expire(now);
  if (due() > now) return {};
  Segment segment = blank();
  if (state_ == State::handshake) {
    segment.sequence = send_unacknowledged_;
    segment.syn = true;
    segment.most_payload = most_payload;
    send_next_ = send_begin_;
  } else {
    const Plan plan = this->plan();
    segment.payload = std::as_bytes(std::span(sending_));
    if (plan.bytes != 0) segment.payload = segment.payload.subspan(send_next_ - send_begin_);
    segment.payload = segment.payload.first(plan.bytes);
    segment.fin = plan.fin;
    send_next_ += segment.length();
    segment.push = plan.bytes != 0 && send_next_ == stream_end();
  }
  if (before(send_highest_, send_next_)) send_highest_ = send_next_;
  owes_answer_ = false;
  probes_ = false;
  set_timer(now);
  return segment;
}

TcpConnection::Clock::time_point TcpConnection::due() const {
  constexpr auto at_once = Clock::time_point::min();
  if (state_ == State::over) return Clock::time_point::max();
  if (owes_answer_) return at_once;
  if (state_ == State::handshake) return send_next_ == send_begin_ ? timer_ : at_once;
  const Plan plan = this->plan();
  return plan.bytes != 0 || plan.fin ? at_once : timer_;
}

Segment TcpConnection::blank() const {
  return {.sequence = send_next_, .acknowledgement = receive_next_, .window = window(), .ack = true};
}

// 3.8.1: back to what is not acknowledged; 3.8.6.1: a closed window is probed.
void TcpConnection::expire(Clock::time_point now) {
  if (++retries_ > most_retries) {
    state_ = State::over;
    return;
  }
  timeout_ = std::min(2 * timeout_, longest_timeout);
  timer_ = now + timeout_;
  send_next_ = send_unacknowledged_;
  probes_ = send_window_ == 0;
}

// Runs while something is on its way, or waits for the window.
void TcpConnection::set_timer(Clock::time_point now) {
  const bool needed = send_unacknowledged_ != send_highest_ || before(send_next_, stream_end());
  if (!needed)
    timer_ = Clock::time_point::max();
  else if (timer_ == Clock::time_point::max())
    timer_ = now + timeout_;
}

bool TcpConnection::over() const {
  const bool told = closing_ && send_unacknowledged_ == stream_end();
  return state_ == State::over || (told && peer_closed_ && !owes_answer_);
}

Segment TcpConnection::reset() const {
  Segment segment = blank();
  segment.rst = true;
  return segment;
}

}  // namespace hum::mmds
