// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_connection.h"

#include <algorithm>
#include <array>
#include <utility>

namespace hum {

using namespace vsock_wire;

namespace {

// In the order in which the guest is told.
constexpr std::array control_packets = {op_rst,           op_request,        op_response,
                                        op_credit_update, op_credit_request, op_shutdown};

constexpr std::uint32_t due_bit(std::uint16_t op) {
  return 1u << op;
}

// So that what is under way is always less than half of the counters' range.
constexpr std::uint32_t most_guest_window = 1u << 30;

// Whether one counter is ahead of the other, modulo 2^32.
bool ahead(std::uint32_t one, std::uint32_t other) {
  return static_cast<std::int32_t>(one - other) > 0;
}

}  // namespace

VsockConnection::VsockConnection(VsockPorts ports) : ports_(ports), due_(due_bit(op_request)) {}

VsockConnection::VsockConnection(VsockPorts ports, const Header& request)
    : ports_(ports), opened_(true), due_(due_bit(op_response)) {
  guest_window_ = std::min<std::uint32_t>(request.buf_alloc, most_guest_window);
}

VsockConnection::Event VsockConnection::take(const Header& header) {
  if (header.op == op_rst) {
    due_ = 0;
    return std::exchange(over_, true) ? Event::none : Event::ended;
  }
  if (over_) return Event::none;  // the guest will see our reset behind what it had sent
  if (!take_credit(header)) return broken();
  if (opened_) return take_open(header);
  if (header.op != op_response || (due_ & due_bit(op_request)) != 0) return broken();
  opened_ = true;
  return Event::accepted;
}

VsockConnection::Event VsockConnection::take_open(const Header& header) {
  switch (header.op) {
    case op_rw:
      if ((guest_done_ & shutdown_send) != 0 || header.len > granted_ - received_) return broken();
      received_ += header.len;
      return Event::data;
    case op_shutdown:
      guest_done_ |= header.flags & shutdown_both;
      return Event::none;
    case op_credit_update:
      return Event::none;
    case op_credit_request:
      due_ |= due_bit(op_credit_update);
      return Event::none;
    default:
      return broken();
  }
}

// A guest with several processors may send headers in another order than it filled them, so a count that was
// already surpassed is no mistake.
bool VsockConnection::take_credit(const Header& header) {
  if (ahead(header.fwd_cnt, sent_)) return false;
  if (ahead(header.fwd_cnt, guest_forwarded_)) guest_forwarded_ = header.fwd_cnt;
  guest_window_ = std::min<std::uint32_t>(header.buf_alloc, most_guest_window);
  if (credit() != 0) asked_for_credit_ = false;
  return true;
}

VsockConnection::Event VsockConnection::broken() {
  reset();
  return Event::broken;
}

// The guest is told of room as it has gathered, or with whatever else it is sent.
void VsockConnection::forwarded(std::size_t bytes) {
  forwarded_ += static_cast<std::uint32_t>(bytes);
  if (open() && (guest_done_ & shutdown_send) == 0 && forwarded_ + window - granted_ >= window / 4)
    due_ |= due_bit(op_credit_update);
}

void VsockConnection::host_does_no_more(std::uint32_t shutdown) {
  if (!open() || (shutdown & ~host_done_) == 0) return;
  host_done_ |= shutdown;
  due_ |= due_bit(op_shutdown);
}

void VsockConnection::reset() {
  if (over_) return;
  over_ = true;
  const bool unknown = (due_ & due_bit(op_request)) != 0;
  due_ = unknown ? 0 : due_bit(op_rst);
}

std::uint32_t VsockConnection::credit() const {
  const std::uint32_t under_way = sent_ - guest_forwarded_;
  return under_way < guest_window_ ? guest_window_ - under_way : 0;
}

bool VsockConnection::wants_data() const {
  return open() && (host_done_ & shutdown_send) == 0 && (guest_done_ & shutdown_receive) == 0;
}

// Once, until there was some: a guest that answers without giving any is not asked again.
void VsockConnection::ask_for_credit() {
  if (asked_for_credit_) return;
  asked_for_credit_ = true;
  due_ |= due_bit(op_credit_request);
}

std::optional<Header> VsockConnection::next_control() {
  for (const std::uint16_t op : control_packets) {
    if ((due_ & due_bit(op)) == 0) continue;
    due_ &= ~due_bit(op);
    Header next = header(op);
    if (op == op_shutdown) next.flags = host_done_;
    return next;
  }
  return {};
}

Header VsockConnection::data(std::uint32_t bytes) {
  sent_ += bytes;
  Header next = header(op_rw);
  next.len = bytes;
  return next;
}

// Every packet tells of the credit, so an update is due no more.
Header VsockConnection::header(std::uint16_t op) {
  granted_ = forwarded_ + window;
  due_ &= ~due_bit(op_credit_update);
  Header next{};
  next.src_port = ports_.host;
  next.dst_port = ports_.guest;
  next.type = type_stream;
  next.op = op;
  next.buf_alloc = window;
  next.fwd_cnt = forwarded_;
  return next;
}

}  // namespace hum
