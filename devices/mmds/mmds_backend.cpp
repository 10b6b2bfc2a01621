// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/mmds_backend.h"

#include <arpa/inet.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <span>
#include <utility>

#include "devices/mmds/mmds_responder.h"
#include "devices/net/frame_gate.h"
#include "devices/net/net_wire.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/memory/guest_memory.h"

namespace hum {

using namespace net_wire;

// The responder of an interface and the lock that the threads of its pairs take for it. Those of frames to
// and from others take none: they look at an atomic.
class MmdsBackend::Station {
 public:
  using Clock = MmdsResponder::Clock;

  Station(const MetadataService& service, const Ipv4Address& address) : responder_(service, address) {}

  bool is_for_it(std::span<const std::byte> start) const { return responder_.is_for_it(start); }

  void take(std::span<const std::byte> frame, std::size_t checksum_at) {
    const std::lock_guard lock(mutex_);
    responder_.take(frame, checksum_at, Clock::now());
    if (due_.load(std::memory_order_relaxed) != at_once) tell();
  }

  // The next frame to the guest, in the buffers behind an empty header; 0: there is none now.
  std::size_t next(std::span<const iovec> buffers) {
    const Clock::rep due = due_.load(std::memory_order_relaxed);
    if (due == never || (due != at_once && Clock::now().time_since_epoch().count() < due)) return 0;
    const std::lock_guard lock(mutex_);
    std::array<std::byte, MmdsResponder::most_made_bytes> frame;
    const std::size_t bytes = responder_.next(frame, Clock::now());
    if (bytes == 0) {
      ready_.drain();
      tell();
      return 0;
    }
    const Header header;
    copy_to(buffers, 0, bytes_of(header));
    copy_to(buffers, sizeof header, std::span(frame).first(bytes));
    return sizeof header + bytes;
  }

  // Either is readable when next() may have a frame.
  int ready_fd() const { return ready_.fd(); }
  int timer_fd() const { return timer_.fd(); }

 private:
  static constexpr Clock::rep at_once = Clock::time_point::min().time_since_epoch().count();
  static constexpr Clock::rep never = Clock::time_point::max().time_since_epoch().count();

  void tell() {
    const Clock::time_point due = responder_.due();
    due_.store(due.time_since_epoch().count(), std::memory_order_relaxed);
    if (due == Clock::time_point::min())
      ready_.signal();
    else if (due == Clock::time_point::max())
      timer_.stop();
    else
      timer_.set(due - Clock::now());
  }

  std::mutex mutex_;  // guards what of responder_ changes
  MmdsResponder responder_;
  std::atomic<Clock::rep> due_ = never;
  EventFd ready_;
  Timer timer_;
};

class MmdsBackend::Endpoint final : public FrameEndpoint {
 public:
  Endpoint(FrameEndpoint& inner, Station& station, bool answers) : inner_(inner), station_(station) {
    if (!answers) return;
    either_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!either_) throw HostError(errno, "make an epoll descriptor");
    for (const int each : {inner.fd(), station.ready_fd(), station.timer_fd()}) {
      epoll_event event{.events = EPOLLIN, .data = {}};
      if (::epoll_ctl(either_.get(), EPOLL_CTL_ADD, each, &event) != 0)
        throw HostError(errno, "watch the host's end of a network interface");
    }
  }

  int fd() const override { return either_ ? either_.get() : inner_.fd(); }
  int send_fd() const override { return inner_.send_fd(); }

  Transfer receive(std::span<const iovec> buffers) override {
    if (either_)
      if (const std::size_t bytes = station_.next(buffers)) return {State::moved, bytes};
    return inner_.receive(buffers);
  }

  // What decides is a copy, which goes on in place of what the guest may change.
  Transfer send(std::span<const iovec> frame) override {
    std::array<std::byte, sizeof(Header) + mmds::start_bytes> start;
    const std::size_t known = copy_from(frame, 0, start);
    const std::span seen(start.data(), known);
    if (known <= sizeof(Header)) return inner_.send(frame);
    if (station_.is_for_it(seen.subspan(sizeof(Header)))) return take(frame, seen);
    if (frame[0].iov_len >= known) return inner_.send(frame);
    parts_.assign(1, {start.data(), known});
    append_range(frame, known, SIZE_MAX, parts_);
    return inner_.send(parts_);
  }
  bool flush() override { return inner_.flush(); }

 private:
  Transfer take(std::span<const iovec> frame, std::span<const std::byte> seen) {
    // A byte more than the responder takes: such a frame is lost.
    std::array<std::byte, sizeof(Header) + MmdsResponder::most_taken_bytes + 1> whole;
    const std::size_t bytes = copy_from(frame, 0, whole);
    std::copy(seen.begin(), seen.end(), whole.begin());
    if (bytes == whole.size()) return {State::lost, 0, EMSGSIZE};
    Header header;
    std::memcpy(&header, whole.data(), sizeof header);
    const bool lacks_checksum = (header.flags & header_needs_csum) != 0;
    station_.take(std::span(whole).first(bytes).subspan(sizeof header),
                  lacks_checksum ? std::size_t{header.csum_start} + header.csum_offset : 0);
    return {State::moved, bytes};
  }

  FrameEndpoint& inner_;
  Station& station_;
  Fd either_;  // readable when the inner one is or there is an answer; none: answers go to another pair
  std::vector<iovec> parts_;
};

Ipv4Address parse_mmds_address(const std::string& key, const std::string& text) {
  Ipv4Address address{};
  if (::inet_pton(AF_INET, text.c_str(), address.data()) != 1 || address[0] != 169 || address[1] != 254 ||
      address[2] == 0 || address[2] == 255)
    throw ConfigError(key, text, "not an address from 169.254.1.0 to 169.254.254.255",
                      "give 169.254.169.254, where guests look for it");
  return address;
}

MmdsBackend::MmdsBackend(std::unique_ptr<NetBackend> backend, const MetadataService& service,
                         const Ipv4Address& address)
    : backend_(std::move(backend)), station_(std::make_unique<Station>(service, address)) {
  for (std::uint16_t pair = 0; pair < backend_->pairs(); ++pair)
    endpoints_.push_back(std::make_unique<Endpoint>(backend_->endpoint(pair), *station_, pair == 0));
}

MmdsBackend::~MmdsBackend() = default;

FrameEndpoint& MmdsBackend::endpoint(std::uint16_t index) {
  return *endpoints_.at(index);
}

}  // namespace hum
