// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/doorbell.h"
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/paging.h"

using namespace guest;

namespace {

constinit VirtioQueue queue{};

// Queue 0 of an entropy device, which has nothing to do.
Doorbell idle_device(const BootInfo& boot) {
  const Doorbell bell = find_doorbell(boot, virtio_rng);
  check(1, bell.device != nullptr, "an entropy device");
  check(2, bell.device->begin(), "feature negotiation");
  bell.device->set_queue(0, queue);
  bell.device->finish();
  return bell;
}

}  // namespace

// What a notification costs that KVM takes itself: a virtio device's, or a word written to address=N, where
// the VMM has put an ioeventfd. transport=pci|mmio.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint32_t writes = 1000;
  Doorbell bell{nullptr, parse_number(boot.option("address")), true};
  if (bell.address == 0) bell = idle_device(boot);
  map_page_of(bell.address, page::write | page::user);
  measure("ioeventfd_exit", writes, [bell] {
    for (std::uint32_t i = 0; i < writes; ++i) bell.ring();
  });
  return 0;
}
