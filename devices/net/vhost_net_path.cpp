// SPDX-License-Identifier: Apache-2.0
#include "devices/net/vhost_net_path.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "devices/net/net_wire.h"
#include "devices/net/vhost_wire.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint64_t ring_feature_bits = virtio::feature_indirect_desc | virtio::feature_event_idx;
// As many frames as a tap can hold by default, and some: a flood does not keep us.
constexpr unsigned most_stale_frames = 4096;

// Of a pair's two rings (virtio 1.2, 5.1.2; the kernel numbers them so, too).
constexpr unsigned transmit = 1;

// How to come by the device, for errors of open(2).
std::string fix_for(int error) {
  if (error == EACCES || error == EPERM) return "let this user read and write it";
  if (error == ENOENT || error == ENXIO || error == ENODEV) return "load the module: modprobe vhost_net";
  return {};
}

}  // namespace

VhostNetKernel::VhostNetKernel()
    : control([](int fd, unsigned long request, void* argument) {
        return ::ioctl(fd, request, argument) == 0 ? 0 : errno;
      }) {}

VhostNetPath::VhostNetPath(std::unique_ptr<TapBackend>&& backend, const GuestMemory& memory, const Log& log,
                           VhostNetKernel kernel)
    : memory_(memory), log_(log), kernel_(std::move(kernel)), thread_("vhost-net") {
  for (std::uint16_t pair = 0; pair < backend->pairs(); ++pair) {
    const Fd& device = devices_.emplace_back(::open(kernel_.device.c_str(), O_RDWR | O_CLOEXEC));
    if (const int error = errno; !device)
      throw HostError(error, "use vhost-net at '" + kernel_.device + "'", fix_for(error));
    control(pair, vhost_wire::set_owner, nullptr, "VHOST_SET_OWNER");
    std::uint64_t features = 0;
    control(pair, vhost_wire::get_features, &features, "VHOST_GET_FEATURES");
    offered_ &= features;
  }
  if ((offered_ & virtio::feature_version_1) == 0)
    throw HostError(EOPNOTSUPP, "use vhost-net for virtio 1", "take a newer kernel");
  backend_ = std::move(backend);
}

void VhostNetPath::control(std::size_t pair, unsigned long request, void* argument, const char* name) const {
  if (const int error = kernel_.control(devices_[pair].get(), request, argument))
    throw HostError(error, std::string("set up vhost-net (") + name + ")");
}

std::uint64_t VhostNetPath::features() const {
  return backend_->offloads() | (offered_ & net_wire::feature_mrg_rxbuf);
}

std::uint64_t VhostNetPath::ring_features() const {
  return offered_ & ring_feature_bits;
}

void VhostNetPath::start(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                         virtio::DeviceEvents& events) {
  thread_.call([&] {
    events_ = &events;
    given_up_ = false;
    broken_.drain();
    thread_.loop().watch(broken_.fd(), EventLoop::Interest::readable, [this] {
      if (broken_.drain()) give_up("the kernel (vhost-net) finds a ring broken");
    });
    for (virtio::ActiveQueue& each : queues) rings_.push_back({.active = std::move(each)});
    try {
      for (std::size_t pair = 0; pair < devices_.size(); ++pair) {
        std::uint64_t features = driver_features & offered_;
        control(pair, vhost_wire::set_features, &features, "VHOST_SET_FEATURES");
        share_memory(pair);
      }
      for (Ring& ring : rings_) set_up(ring);
      settle();
    } catch (const std::exception&) {
      take_back();
      rings_.clear();
      throw;
    }
  });
}

std::size_t VhostNetPath::pair_of(const Ring& ring) {
  return ring.active.index / 2u;
}

unsigned VhostNetPath::ring_of(const Ring& ring) {
  return ring.active.index % 2u;
}

// All of guest memory: the kernel checks what the rings point to against this.
void VhostNetPath::share_memory(std::size_t pair) const {
  std::vector<MemoryRegion> regions(memory_.regions().begin(), memory_.regions().end());
  regions.insert(regions.end(), memory_.device_regions().begin(), memory_.device_regions().end());
  std::vector<std::byte> table(sizeof(vhost_wire::MemoryTable) + regions.size() * sizeof(vhost_wire::Region));
  const vhost_wire::MemoryTable head{static_cast<std::uint32_t>(regions.size()), 0};
  std::memcpy(table.data(), &head, sizeof head);
  std::byte* at = table.data() + sizeof head;
  for (const MemoryRegion& each : regions) {
    const vhost_wire::Region region{each.range.begin.value, each.range.size,
                                    reinterpret_cast<std::uint64_t>(each.host), 0};
    std::memcpy(at, &region, sizeof region);
    at += sizeof region;
  }
  control(pair, vhost_wire::set_memory, table.data(), "VHOST_SET_MEM_TABLE");
}

void VhostNetPath::set_up(Ring& ring) {
  virtio::VirtQueue& queue = *ring.active.queue;
  const virtio::QueueLayout& layout = queue.layout();
  const std::size_t pair = pair_of(ring);
  const unsigned index = ring_of(ring);
  // A ring is in one piece: the queue has checked that.
  const auto host_address = [&](GuestAddress begin) {
    std::vector<iovec> parts;
    memory_.for_write({begin, 1}, parts);
    return reinterpret_cast<std::uint64_t>(parts.front().iov_base);
  };
  vhost_wire::RingState size{index, layout.size};
  control(pair, vhost_wire::set_ring_size, &size, "VHOST_SET_VRING_NUM");
  set_base(ring);
  vhost_wire::RingAddress address{
      index, 0, host_address(layout.descriptors), host_address(layout.used), host_address(layout.available),
      0};
  control(pair, vhost_wire::set_ring_address, &address, "VHOST_SET_VRING_ADDR");
  int call = ring.active.call_fd;
  if (call < 0) {
    ring.call = std::make_unique<EventFd>();
    call = ring.call->fd();
    thread_.loop().watch(call, EventLoop::Interest::readable, [&event = *ring.call, &queue] {
      if (event.drain()) queue.relay_interrupt();
    });
  } else {
    queue.count_in(uncounted_);
  }
  const auto give = [&](unsigned long request, int fd, const char* name) {
    vhost_wire::RingFile file{index, fd};
    control(pair, request, &file, name);
  };
  give(vhost_wire::set_ring_kick, ring.active.kick_fd, "VHOST_SET_VRING_KICK");
  give(vhost_wire::set_ring_call, call, "VHOST_SET_VRING_CALL");
  give(vhost_wire::set_ring_error, broken_.fd(), "VHOST_SET_VRING_ERR");
}

void VhostNetPath::set_base(const Ring& ring) const {
  vhost_wire::RingState base{ring_of(ring), ring.active.queue->next_available()};
  control(pair_of(ring), vhost_wire::set_ring_base, &base, "VHOST_SET_VRING_BASE");
}

// From here on the kernel serves the ring.
void VhostNetPath::connect(Ring& ring) {
  if (ring.connected) return;
  vhost_wire::RingFile tap{ring_of(ring), backend_->fds()[pair_of(ring)]};
  control(pair_of(ring), vhost_wire::net_set_backend, &tap, "VHOST_NET_SET_BACKEND");
  ring.connected = true;
  // For what the driver has offered while nobody looked.
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(ring.active.kick_fd, &one, sizeof one);
}

// When this returns, the kernel has given back all that it took and touches the ring no more.
void VhostNetPath::disconnect(Ring& ring) {
  if (!std::exchange(ring.connected, false)) return;
  vhost_wire::RingFile none{ring_of(ring), -1};
  if (const int error = kernel_.control(devices_[pair_of(ring)].get(), vhost_wire::net_set_backend, &none)) {
    log_.error(std::string("vhost-net does not let go of a ring and is closed: ") + std::strerror(error));
    devices_[pair_of(ring)].reset();
  }
}

// Connects the rings that are to carry frames now, and no others.
void VhostNetPath::settle() {
  for (Ring& ring : rings_) {
    if (carrier_ && !given_up_ && pair_of(ring) < pairs_in_use_)
      connect(ring);
    else
      disconnect(ring);
  }
}

void VhostNetPath::use_pairs(std::uint16_t count) {
  thread_.call([&] {
    backend_->use_pairs(count);
    pairs_in_use_ = count;
    settle();
  });
}

void VhostNetPath::set_carrier(bool up) {
  thread_.call([&] {
    if (std::exchange(carrier_, up) == up || given_up_) return;
    try {
      if (up) drop_waiting();
      settle();
    } catch (const GuestError& error) {
      give_up(error.what());
    }
  });
}

// What came while there was no carrier, from both ends.
void VhostNetPath::drop_waiting() {
  std::array<std::byte, sizeof(net_wire::Header)> start;
  const iovec room{start.data(), start.size()};
  for (std::uint16_t pair = 0; pair < pairs_in_use_; ++pair) {
    unsigned count = 0;
    while (backend_->endpoint(pair).receive({&room, 1}).state == FrameEndpoint::State::moved &&
           ++count < most_stale_frames) {
    }
  }
  virtio::DescriptorChain chain;
  for (const Ring& ring : rings_) {
    if (ring_of(ring) != transmit) continue;
    virtio::VirtQueue& queue = *ring.active.queue;
    queue.take_over();
    // So many and no more: the driver may add others as fast as these are dropped.
    const auto waiting = static_cast<std::uint16_t>(queue.offered_index() - queue.next_available());
    for (unsigned count = 0; count < waiting && queue.pop(chain); ++count) queue.push(chain.head, 0);
    queue.publish();
    set_base(ring);
  }
}

// Until the driver's reset.
void VhostNetPath::give_up(const std::string& reason) {
  if (std::exchange(given_up_, true)) return;
  settle();
  events_->needs_reset(reason);
}

// The rings are ours again, and go on behind the last request that was given back.
void VhostNetPath::take_back() {
  for (Ring& ring : rings_) {
    disconnect(ring);
    vhost_wire::RingFile none{ring_of(ring), -1};
    for (const unsigned long request :
         {vhost_wire::set_ring_kick, vhost_wire::set_ring_call, vhost_wire::set_ring_error})
      kernel_.control(devices_[pair_of(ring)].get(), request, &none);
    virtio::VirtQueue& queue = *ring.active.queue;
    if (ring.call) {
      thread_.loop().unwatch(ring.call->fd());
      if (ring.call->drain()) queue.relay_interrupt();
    }
    queue.take_over();
  }
  thread_.loop().unwatch(broken_.fd());
}

std::vector<virtio::ActiveQueue> VhostNetPath::stop() {
  std::vector<virtio::ActiveQueue> queues;
  thread_.call([&] {
    take_back();
    for (Ring& ring : rings_) queues.push_back(std::move(ring.active));
    rings_.clear();
  });
  return queues;
}

}  // namespace hum
