// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_transmitter.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

#include "devices/net/frame_header.h"

namespace hum {

using namespace net_wire;

FrameTransmitter::FrameTransmitter(QueueService& service, const FrameTraffic& traffic,
                                   FrameEndpoint& endpoint, std::uint16_t pair, FrameCounters& counters,
                                   Closed closed)
    : service_(service),
      traffic_(traffic),
      endpoint_(endpoint),
      pair_(pair),
      index_(static_cast<std::uint16_t>(2 * pair + 1)),
      counters_(counters),
      closed_(std::move(closed)),
      gate_(service, traffic, FrameFilter::Direction::from_guest, [this] { transmit(); }) {
  parts_.reserve(IOV_MAX + 1);
}

void FrameTransmitter::transmit() {
  if (service_.queue(index_) == nullptr) return;
  is_full_ = false;
  if (finish())
    service_.drain(index_, [this](virtio::DescriptorChain& chain) {
      std::swap(chain_, chain);
      busy_ = true;
      return !prepare() || finish();
    });
  if (!traffic_.closed && !endpoint_.flush()) is_full_ = true;
  if (is_full_) {
    wait_for_host();
  } else {
    stop_waiting();
  }
}

void FrameTransmitter::wait_for_host() {
  if (!writable_) writable_ = Fd::duplicate(endpoint_.send_fd());
  service_.watch(writable_.get(), EventLoop::Interest::writable, [this] { transmit(); });
}

void FrameTransmitter::stop_waiting() {
  if (writable_) service_.unwatch(writable_.get());
  writable_ = Fd();
}

void FrameTransmitter::look_again() {
  stop_waiting();  // for an endpoint with another descriptor, it may be
  gate_.hurry();
  transmit();
}

void FrameTransmitter::give_back() {
  if (std::exchange(busy_, false)) service_.queue(index_)->undo_pop(chain_);
}

// Copies and checks what is to be looked at; false if the frame goes nowhere.
bool FrameTransmitter::prepare() {
  Header header;
  if (chain_.readable_bytes < sizeof header + ethernet_header_bytes ||
      chain_.readable_bytes > sizeof header + most_frame_bytes)
    return drop(counters_.tx_malformed);
  bytes_ = chain_.readable_bytes - sizeof header;
  filtered_ = gate_.looks();
  start_bytes_ = sizeof header + (filtered_ ? std::min(bytes_, Frame::most_start_bytes) : 0);
  copy_from(chain_.readable, 0, std::span(start_).first(start_bytes_));
  std::memcpy(&header, start_.data(), sizeof header);
  const auto checked = checked_header(header, bytes_, traffic_.driver_features);
  if (!checked) return drop(counters_.tx_malformed);
  std::memcpy(start_.data(), &*checked, sizeof header);
  const bool lacks_checksum = (checked->flags & header_needs_csum) != 0;
  checksum_at_ = lacks_checksum ? std::size_t{checked->csum_start} + checked->csum_offset : 0;
  parts_.assign(1, {start_.data(), start_bytes_});
  append_range(chain_.readable, start_bytes_, chain_.readable_bytes - start_bytes_, parts_);
  if (parts_.size() > IOV_MAX) return drop(counters_.tx_malformed);
  return true;
}

// Goes on with the frame under way; true if there is none any more.
bool FrameTransmitter::finish() {
  if (!busy_) return true;
  if (service_.stopping()) return false;
  if (!traffic_.carrier || pair_ >= traffic_.pairs) {
    drop(counters_.tx_link);
    return true;
  }
  if (filtered_) {
    const FrameFilter::Verdict verdict =
        gate_.ask({.start = std::span(start_).first(start_bytes_).subspan(sizeof(Header)),
                   .rest = std::span(parts_).subspan(1),
                   .bytes = bytes_,
                   .checksum_at = checksum_at_});
    if (verdict == FrameFilter::Verdict::hold) return false;
    if (verdict == FrameFilter::Verdict::drop) {
      drop(counters_.tx_filtered);
      return true;
    }
    filtered_ = false;  // once, however often it is sent
  }
  return send();
}

bool FrameTransmitter::send() {
  if (traffic_.closed) {
    drop(counters_.tx_host);
    return true;
  }
  const FrameEndpoint::Transfer transfer = endpoint_.send(parts_);
  switch (transfer.state) {
    case FrameEndpoint::State::moved:
      counters_.tx_frames.add();
      counters_.tx_bytes.add(bytes_);
      complete();
      break;
    case FrameEndpoint::State::wait:
      is_full_ = true;
      return false;
    case FrameEndpoint::State::lost:
      drop(counters_.tx_host);
      break;
    case FrameEndpoint::State::closed:
      drop(counters_.tx_host);
      closed_(transfer.error);
      break;
  }
  return true;
}

bool FrameTransmitter::drop(Counter& reason) {
  reason.add();
  gate_.forget();
  complete();
  return false;
}

void FrameTransmitter::complete() {
  service_.queue(index_)->push(chain_.head, 0);
  busy_ = false;
}

}  // namespace hum
