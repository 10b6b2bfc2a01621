// SPDX-License-Identifier: Apache-2.0
#include "devices/net/loopback_backend.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "devices/net/net_wire.h"
#include "vmm/base/fd.h"

namespace hum {

using namespace net_wire;

namespace {

// What is sent with one of these on one side is received with it on the other.
constexpr std::uint64_t to_guest = feature_guest_csum | feature_guest_tso4 | feature_guest_tso6 |
                                   feature_guest_ecn | feature_guest_uso4 | feature_guest_uso6;
constexpr std::uint64_t from_guest =
    feature_csum | feature_host_tso4 | feature_host_tso6 | feature_host_ecn | feature_host_uso;

}  // namespace

// A ring of frames, whose memory is kept for those that follow.
class LoopbackBackend::Endpoint final : public FrameEndpoint {
 public:
  int fd() const override { return ready_.fd(); }

  Transfer receive(std::span<const iovec> buffers) override {
    if (waiting_ == 0) {
      ready_.drain();
      return {};
    }
    const std::vector<std::byte>& frame = frames_[first_];
    std::size_t done = 0;
    for (const iovec& each : buffers) {
      const std::size_t here = std::min(each.iov_len, frame.size() - done);
      if (here != 0) std::memcpy(each.iov_base, frame.data() + done, here);
      done += here;
    }
    first_ = (first_ + 1) % most_waiting;
    --waiting_;
    return {State::moved, frame.size(), 0};
  }

  Transfer send(std::span<const iovec> pieces) override {
    if (waiting_ == most_waiting) return {State::lost, 0, ENOBUFS};
    std::vector<std::byte>& frame = frames_[(first_ + waiting_) % most_waiting];
    frame.clear();
    for (const iovec& each : pieces) {
      const auto* const begin = static_cast<const std::byte*>(each.iov_base);
      frame.insert(frame.end(), begin, begin + each.iov_len);
    }
    if (waiting_++ == 0) ready_.signal();
    return {State::moved, frame.size(), 0};
  }

 private:
  EventFd ready_;  // signalled while frames wait, and until receive finds none
  std::array<std::vector<std::byte>, most_waiting> frames_;
  std::size_t first_ = 0;
  std::size_t waiting_ = 0;
};

LoopbackBackend::LoopbackBackend(std::uint16_t pairs) {
  for (std::uint16_t i = 0; i < pairs; ++i) endpoints_.push_back(std::make_unique<Endpoint>());
}

LoopbackBackend::~LoopbackBackend() = default;

std::uint64_t LoopbackBackend::offloads() const {
  return to_guest | from_guest;
}

std::uint16_t LoopbackBackend::pairs() const {
  return static_cast<std::uint16_t>(endpoints_.size());
}

FrameEndpoint& LoopbackBackend::endpoint(std::uint16_t index) {
  return *endpoints_.at(index);
}

}  // namespace hum
