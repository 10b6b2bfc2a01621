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

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues&, DeviceContext&) {
  return std::make_unique<EntropyDevice>();
}

}  // namespace

EntropyDevice::EntropyDevice() : EntropyDevice(from_host) {}

void EntropyDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  read_config_space({}, offset, data);
}

void EntropyDevice::activate(std::uint64_t, std::vector<virtio::ActiveQueue> queues,
                             virtio::DeviceEvents& events) {
  service_ = std::make_unique<QueueService>("rng", std::move(queues), events);
  service_->start([this](std::uint16_t index) {
    service_->drain(index, [&](virtio::DescriptorChain& chain) {
      service_->queue(index)->push(chain.head, fill(chain.writable));
      return true;
    });
  });
}

std::vector<virtio::ActiveQueue> EntropyDevice::suspend() {
  return QueueService::end(service_);
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
    .options = {},
    .create = DeviceKind::VirtioFactory{create},
};

}  // namespace hum
