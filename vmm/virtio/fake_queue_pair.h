// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/fake_driver.h"
#include "vmm/virtio/virt_queue.h"

// For tests only.
namespace hum::virtio::testing {

inline constexpr std::uint64_t mib = 1 << 20;
inline constexpr GuestAddress ring_at{0x10000};
inline constexpr GuestAddress table_at{2 * mib};
inline constexpr GuestAddress data_at{3 * mib};
inline constexpr GuestAddress end_of_ram{4 * mib};

// A driver's queue and the device's side of it over the same memory.
struct QueuePair {
  explicit QueuePair(std::uint16_t size, bool event_idx = false, bool indirect = true)
      : driver(memory, ring_at, size),
        device(memory, driver.layout(event_idx, indirect), [this] { ++interrupts; }) {}

  // One request through the queue and back.
  void round_trip() {
    driver.add({{data_at, 16}});
    if (!device.pop(chain)) throw std::logic_error("a request is lost");
    device.push(chain.head, 0);
    device.publish();
    if (!driver.take_used()) throw std::logic_error("an answer is lost");
  }

  GuestMemory memory{std::vector<GuestRange>{{{0}, end_of_ram.value}}};
  FakeQueue driver;
  unsigned interrupts = 0;
  VirtQueue device;
  DescriptorChain chain;
};

}  // namespace hum::virtio::testing
