// SPDX-License-Identifier: Apache-2.0
#include "devices/entropy.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include "devices/config_space.h"

namespace hum {
namespace {

constexpr std::size_t most_per_request = 64 * 1024;

ssize_t from_host(std::span<std::byte> buffer) {
  return ::getrandom(buffer.data(), buffer.size(), 0);
}

constexpr OptionSpec entropy_options[] = {
    {.key = "bandwidth",
     .type = OptionType::limit,
     .help = "the most bytes: SIZE[/MILLISECONDS][+BURST], like 1M (in each second) or 64K/100",
     .default_value = "off",
     .live = true},
    {.key = "ops",
     .type = OptionType::limit,
     .help = "the most requests, in the same way, like 100",
     .default_value = "off",
     .live = true},
};

EntropyDevice::Limits limits_of(const OptionValues& values) {
  return {.bandwidth = values.limit("bandwidth"), .operations = values.limit("ops")};
}

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext&) {
  return std::make_unique<EntropyDevice>(limits_of(values));
}

std::uint64_t room_in(std::span<const iovec> buffers) {
  std::uint64_t room = 0;
  for (const iovec& buffer : buffers) room += buffer.iov_len;
  return std::min<std::uint64_t>(room, most_per_request);
}

}  // namespace

EntropyDevice::EntropyDevice(const Limits& limits) : EntropyDevice(limits, from_host) {}

EntropyDevice::EntropyDevice(const Limits& limits, Source source) : source_(source) {
  limiter_.set(limits.bandwidth, limits.operations);
}

void EntropyDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  read_config_space({}, offset, data);
}

void EntropyDevice::activate(std::uint64_t, std::vector<virtio::ActiveQueue> queues,
                             virtio::DeviceEvents& events) {
  service_ = std::make_unique<QueueService>("rng", std::move(queues), events);
  service_->start([this](std::uint16_t index) { serve(index); });
}

std::vector<virtio::ActiveQueue> EntropyDevice::suspend() {
  std::vector<virtio::ActiveQueue> queues = QueueService::end(service_);
  timer_.reset();
  return queues;
}

void EntropyDevice::apply(const OptionValues& options) {
  const Limits limits = limits_of(options);
  limiter_.set(limits.bandwidth, limits.operations);
  if (service_) service_->call([this] { serve(0); });
}

std::vector<virtio::DeviceReport::Own> EntropyDevice::report() const {
  return {{"throttled", throttled_.get()}};
}

void EntropyDevice::serve(std::uint16_t index) {
  service_->drain(index, [&](virtio::DescriptorChain& chain) {
    virtio::VirtQueue& queue = *service_->queue(index);
    if (const auto wait = limiter_.take(room_in(chain.writable)); wait != wait.zero()) {
      throttled_.add();
      queue.undo_pop();
      serve_after(index, wait);
      return false;
    }
    queue.push(chain.head, fill(chain.writable));
    return true;
  });
}

void EntropyDevice::serve_after(std::uint16_t index, TokenBucket::Clock::duration wait) {
  if (!timer_) {
    timer_.emplace();
    service_->watch(timer_->fd(), EventLoop::Interest::readable, [this, index] {
      timer_->stop();
      serve(index);
    });
  }
  timer_->set(wait);
}

// A request larger than the limit, or one that the host cuts short, gets less than it has room for, which the
// driver expects (5.4.6.2).
std::uint32_t EntropyDevice::fill(std::span<const iovec> buffers) const {
  std::size_t filled = 0;
  for (const iovec& buffer : buffers) {
    const std::size_t room = std::min(buffer.iov_len, most_per_request - filled);
    std::size_t here = 0;
    while (here < room) {
      const ssize_t count = source_({static_cast<std::byte*>(buffer.iov_base) + here, room - here});
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return static_cast<std::uint32_t>(filled + here);
      here += static_cast<std::size_t>(count);
    }
    filled += here;
  }
  return static_cast<std::uint32_t>(filled);
}

constinit const DeviceKind entropy_kind{
    .name = "rng",
    .help = "random numbers from the host (virtio)",
    .options = entropy_options,
    .create = DeviceKind::VirtioFactory{create},
};

}  // namespace hum
