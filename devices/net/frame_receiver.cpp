// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_receiver.h"

#include <climits>

#include <algorithm>
#include <cstring>
#include <utility>

#include "devices/net/frame_header.h"

namespace hum {

using namespace net_wire;

namespace {

constexpr int frames_per_turn = 64;

constexpr std::size_t most_bytes = sizeof(Header) + most_frame_bytes;
constexpr std::size_t vlan_tag_bytes = 4;

// With these a frame may be larger than the network's.
constexpr std::uint64_t large_frames =
    feature_guest_tso4 | feature_guest_tso6 | feature_guest_ufo | feature_guest_uso4 | feature_guest_uso6;

// The driver gives buffers back within that time, or not at all.
constexpr std::chrono::milliseconds patience_for_room{20};

}  // namespace

FrameReceiver::FrameReceiver(QueueService& service, const FrameTraffic& traffic, FrameEndpoint& endpoint,
                             std::uint16_t pair, FrameCounters& counters, Closed closed)
    : service_(service),
      traffic_(traffic),
      endpoint_(endpoint),
      pair_(pair),
      index_(static_cast<std::uint16_t>(2 * pair)),
      counters_(counters),
      closed_(std::move(closed)),
      gate_(service, traffic, FrameFilter::Direction::to_guest, [this] { receive(); }),
      rest_(most_bytes) {
  parts_.reserve(IOV_MAX);
}

bool FrameReceiver::receive() {
  virtio::VirtQueue* const queue = service_.queue(index_);
  if (queue == nullptr) return false;
  if (chains_.empty()) chains_.resize(queue->layout().size);
  Step last = Step::closed;
  bool any = false;
  if (!traffic_.closed && pair_ < traffic_.pairs) {
    last = Step::done;
    for (int left = frames_per_turn; left != 0 && last == Step::done && !service_.stopping(); --left) {
      last = step();
      any |= last == Step::done;
    }
  }
  queue->publish();
  if (last == Step::done) {
    service_.serve_later(index_);  // an endpoint may have frames that its descriptor does not tell of
  } else if (last == Step::no_frame) {
    watched_ = endpoint_.fd();
    service_.watch(watched_, EventLoop::Interest::readable, [this] { receive(); });
  } else {
    service_.unwatch(std::exchange(watched_, -1));
  }
  return any;
}

void FrameReceiver::look_again() {
  service_.unwatch(std::exchange(watched_, -1));  // the endpoint may have another descriptor now
  gate_.hurry();
  receive();
}

void FrameReceiver::give_back() {
  virtio::VirtQueue* const queue = service_.queue(index_);
  if (queue == nullptr) return;
  if (bytes_ != 0) drop(counters_.rx_no_room);
  while (count_ != 0) queue->undo_pop(held(--count_));
  room_ = 0;
}

FrameReceiver::Step FrameReceiver::step() {
  if (bytes_ == 0) {
    const Step read = this->read();
    if (bytes_ == 0) return read;
  }
  if (!traffic_.carrier) return drop(counters_.rx_link);
  if (!std::exchange(looked_at_, true) && !is_wanted()) return drop(counters_.rx_unwanted);
  if (bytes_ > in_buffers_)
    if (const Step room = make_room(); bytes_ == 0 || room != Step::done) return room;
  return pass();
}

FrameReceiver::Step FrameReceiver::read() {
  parts_.clear();
  in_buffers_ = 0;
  if (traffic_.carrier) {
    gather(likely_bytes());
    if (count_ == 0) return Step::no_room;
    in_buffers_ = spread(most_bytes, IOV_MAX - 2);  // one for the rest, and one for the endpoint
  }
  if (in_buffers_ < most_bytes) parts_.push_back({rest_.data(), rest_.size()});
  const FrameEndpoint::Transfer transfer = endpoint_.receive(parts_);
  switch (transfer.state) {
    case FrameEndpoint::State::moved:
      break;
    case FrameEndpoint::State::wait:
      return Step::no_frame;
    case FrameEndpoint::State::lost:
      counters_.rx_host.add();
      return Step::done;
    case FrameEndpoint::State::closed:
      closed_(transfer.error);
      return Step::closed;
  }
  if (transfer.bytes < sizeof(Header) + ethernet_header_bytes || transfer.bytes > most_bytes) {
    counters_.rx_host.add();
    return Step::done;
  }
  bytes_ = transfer.bytes;
  looked_at_ = false;
  filtered_ = false;
  give_up_at_ = {};
  return Step::done;
}

// Copies the start of the frame. What the guest makes of it meanwhile is its own affair.
bool FrameReceiver::is_wanted() {
  const std::size_t known = std::min(bytes_, start_.size());
  copy_from(parts_, 0, std::span(start_).first(known));
  std::memcpy(&header_, start_.data(), sizeof header_);
  MacAddress destination;
  std::memcpy(destination.bytes.data(), start_.data() + sizeof header_, destination.bytes.size());
  return can_take(header_, traffic_.offloads) && traffic_.rules.wants(destination);
}

// 5.1.6.3: several buffers only with MRG_RXBUF.
FrameReceiver::Step FrameReceiver::make_room() {
  if (!mergeable()) return drop(counters_.rx_no_room);
  gather(bytes_);
  if (room_ < bytes_) {
    if (count_ == chains_.size()) return drop(counters_.rx_no_room);  // all there can be
    const auto now = FrameGate::Clock::now();
    if (give_up_at_ == FrameGate::Clock::time_point()) {
      give_up_at_ = now + patience_for_room;
      gate_.wait(patience_for_room);
    }
    return now < give_up_at_ ? Step::no_room : drop(counters_.rx_no_room);
  }
  const std::size_t before = in_buffers_;
  parts_.clear();
  in_buffers_ = spread(bytes_, SIZE_MAX);
  copy_to(parts_, before, std::span(rest_).first(bytes_ - before));
  return Step::done;
}

FrameReceiver::Step FrameReceiver::pass() {
  if (!filtered_ && gate_.looks()) {
    const std::size_t known = std::min(bytes_, start_.size());
    behind_start_.clear();
    append_range(parts_, known, bytes_ - known, behind_start_);
    filtered_ = true;
  }
  if (filtered_) {
    const std::size_t known = std::min(bytes_, start_.size());
    const FrameFilter::Verdict verdict =
        gate_.ask({.start = std::span(start_).first(known).subspan(sizeof(Header)),
                   .rest = behind_start_,
                   .bytes = bytes_ - sizeof(Header)});
    if (verdict == FrameFilter::Verdict::hold) return Step::held;
    if (verdict == FrameFilter::Verdict::drop) return drop(counters_.rx_filtered);
  }
  deliver();
  return Step::done;
}

void FrameReceiver::deliver() {
  std::size_t buffers = 0;
  for (std::size_t left = bytes_; left != 0; ++buffers)
    left -= static_cast<std::size_t>(std::min<std::uint64_t>(left, held(buffers).writable_bytes));
  const auto number = static_cast<std::uint16_t>(buffers);
  copy_to(parts_, offsetof(Header, num_buffers), bytes_of(number));
  // 5.1.6.4.1: no flags for a driver that does not know them.
  if (header_.flags != 0 && !(traffic_.offloads & feature_guest_csum))
    copy_to(parts_, offsetof(Header, flags), bytes_of(std::uint8_t{0}));
  virtio::VirtQueue& queue = *service_.queue(index_);
  for (std::size_t left = bytes_; buffers != 0; --buffers) {
    const virtio::DescriptorChain& chain = held(0);
    const auto here = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, chain.writable_bytes));
    queue.push(chain.head, here);
    left -= here;
    room_ -= chain.writable_bytes;
    first_ = (first_ + 1) % chains_.size();
    --count_;
  }
  counters_.rx_frames.add();
  counters_.rx_bytes.add(bytes_ - sizeof(Header));
  bytes_ = 0;
}

// The next frame gets its buffers.
FrameReceiver::Step FrameReceiver::drop(Counter& reason) {
  reason.add();
  gate_.forget();
  bytes_ = 0;
  return Step::done;
}

// Takes requests until they have that much room. Where there are no more the driver tells of the next one.
void FrameReceiver::gather(std::uint64_t bytes) {
  while (count_ < chains_.size() && (mergeable() ? room_ < bytes : count_ == 0)) {
    virtio::DescriptorChain& chain = chains_[(first_ + count_) % chains_.size()];
    if (!service_.take(index_, chain)) return;
    room_ += chain.writable_bytes;
    ++count_;
  }
}

// Appends the buffers for a frame to parts_, at most so many; returns what they have room for, which may be
// more than asked for.
std::size_t FrameReceiver::spread(std::size_t bytes, std::size_t most_parts) {
  std::size_t room = 0;
  const std::size_t chains = mergeable() ? count_ : std::min<std::size_t>(count_, 1);
  for (std::size_t number = 0; number < chains; ++number)
    for (const iovec& part : held(number).writable) {
      if (room >= bytes || parts_.size() == most_parts) return room;
      parts_.push_back(part);
      room += part.iov_len;
    }
  return room;
}

const virtio::DescriptorChain& FrameReceiver::held(std::size_t number) const {
  return chains_[(first_ + number) % chains_.size()];
}

bool FrameReceiver::mergeable() const {
  return (traffic_.driver_features & feature_mrg_rxbuf) != 0;
}

std::size_t FrameReceiver::likely_bytes() const {
  if (traffic_.offloads & large_frames) return most_bytes;
  return sizeof(Header) + ethernet_header_bytes + vlan_tag_bytes + traffic_.mtu;
}

}  // namespace hum
