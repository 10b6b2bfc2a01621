// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/mmds_responder.h"

#include <algorithm>
#include <utility>

namespace hum {

using namespace mmds;

static_assert(TcpConnection::most_received >= most_request_bytes);

namespace {

// RFC 9293, 3.4.1, without the secret: a guest has its own wire for itself.
std::uint32_t initial_sequence(TcpConnection::Clock::time_point now) {
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch());
  return static_cast<std::uint32_t>(since.count() / 4);
}

}  // namespace

MmdsResponder::MmdsResponder(const MetadataService& service, const Ipv4Address& address)
    : service_(service), address_(address) {
  resets_.reserve(most_resets);
  connections_.reserve(most_connections);
}

void MmdsResponder::take(std::span<const std::byte> frame, std::size_t checksum_at, Clock::time_point now) {
  if (const auto request = read_arp_request(frame)) {
    asked_ = request;
    return;
  }
  const auto content = read_segment(frame, checksum_at);
  if (!content) return;
  const Segment& segment = content->segment;
  Connection* const connection = content->to.port == port ? find(content->from) : nullptr;
  if (connection != nullptr) {
    connection->peer = content->from;
    if (connection->tcp.take(segment, now))
      serve(connection->tcp, now);
    else
      refuse(*content);
  } else if (content->to.port == port && segment.syn && !segment.ack && !segment.rst && !segment.fin &&
             make_room(now)) {
    open(content->from, segment, now);
  } else {
    refuse(*content);
  }
  std::erase_if(connections_, [](const Connection& each) { return each.tcp.over(); });
}

MmdsResponder::Connection* MmdsResponder::find(const Place& peer) {
  const auto found = std::find_if(connections_.begin(), connections_.end(), [&](const Connection& each) {
    return each.peer.address == peer.address && each.peer.port == peer.port;
  });
  return found == connections_.end() ? nullptr : &*found;
}

void MmdsResponder::open(const Place& peer, const Segment& syn, Clock::time_point now) {
  connections_.push_back({peer, TcpConnection(syn, initial_sequence(now), now)});
}

bool MmdsResponder::make_room(Clock::time_point now) {
  if (connections_.size() < most_connections) return true;
  const auto longest = std::min_element(
      connections_.begin(), connections_.end(),
      [](const Connection& a, const Connection& b) { return a.tcp.last_heard() < b.tcp.last_heard(); });
  if (now - longest->tcp.last_heard() < idle) return false;
  add_reset(longest->peer, port, longest->tcp.reset());
  connections_.erase(longest);
  return true;
}

// One request after the other: the next one is looked at when the response to the last one has arrived.
void MmdsResponder::serve(TcpConnection& tcp, Clock::time_point now) const {
  if (!tcp.may_send()) return;
  if (std::optional<MetadataService::Reply> reply = service_.reply(tcp.received())) {
    tcp.consume(reply->bytes);
    tcp.send(std::move(reply->text), now);
    if (reply->close) tcp.close(now);
  } else if (tcp.peer_closed()) {
    tcp.close(now);
  }
}

// RFC 9293, 3.5.2: the answer to a segment that belongs to nothing here.
void MmdsResponder::refuse(const SegmentFrame& content) {
  const Segment& segment = content.segment;
  if (segment.rst) return;
  Segment reset{.rst = true};
  if (segment.ack) {
    reset.sequence = segment.acknowledgement;
  } else {
    reset.acknowledgement = segment.sequence + segment.length();
    reset.ack = true;
  }
  add_reset(content.from, content.to.port, reset);
}

void MmdsResponder::add_reset(const Place& peer, std::uint16_t from_port, const Segment& segment) {
  if (resets_.size() < most_resets) resets_.push_back({peer, from_port, segment});
}

std::size_t MmdsResponder::next(std::span<std::byte, most_made_bytes> frame, Clock::time_point now) {
  if (asked_) {
    const ArpRequest request = *std::exchange(asked_, {});
    return write_arp_reply(request, address_, mac, frame);
  }
  if (!resets_.empty()) {
    const Reset reset = resets_.back();
    resets_.pop_back();
    return write(reset.peer, reset.from_port, reset.segment, frame);
  }
  std::size_t bytes = 0;
  for (std::size_t asked = 0; asked < connections_.size() && bytes == 0; ++asked) {
    Connection& connection = connections_[turn_++ % connections_.size()];
    if (const std::optional<Segment> segment = connection.tcp.next(now))
      bytes = write(connection.peer, port, *segment, frame);
  }
  std::erase_if(connections_, [](const Connection& each) { return each.tcp.over(); });
  return bytes;
}

std::size_t MmdsResponder::write(const Place& peer, std::uint16_t from_port, const Segment& segment,
                                 std::span<std::byte> frame) const {
  return write_segment({.from = {mac, address_, from_port}, .to = peer, .segment = segment}, frame);
}

MmdsResponder::Clock::time_point MmdsResponder::due() const {
  if (asked_ || !resets_.empty()) return Clock::time_point::min();
  auto due = Clock::time_point::max();
  for (const Connection& each : connections_) due = std::min(due, each.tcp.due());
  return due;
}

}  // namespace hum
