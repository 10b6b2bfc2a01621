// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/paging.h"
#include "guest-tests/runtime/virtio_mmio.h"

using namespace guest;

// What a notification costs that KVM takes itself: queue 0 of an entropy device over MMIO, which has nothing
// to do.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint32_t writes = 1000;
  static VirtioQueue queue;
  VirtioMmio* const device = find_virtio_mmio(boot, virtio_rng);
  check(1, device != nullptr, "an entropy device over MMIO");
  check(2, device->begin(), "feature negotiation");
  device->set_queue(0, queue);
  device->finish();
  const std::uint64_t notify = device->base() + static_cast<std::uint32_t>(VirtioMmioRegister::queue_notify);
  map_page_of(notify, page::write | page::user);
  measure("ioeventfd_exit", writes, [notify] {
    for (std::uint32_t i = 0; i < writes; ++i) write<std::uint32_t>(notify, 0);
  });
  return 0;
}
