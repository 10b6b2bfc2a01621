// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// The vectors of a device (virtio 1.2, 4.1.5.1.2): those that exist read back, others as none, and a reset
// takes them away. The second vector works like the first.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot), "disk");
  VirtioPci* const device = find_virtio_pci(virtio_block);
  enable_interrupts();

  const auto vectors = static_cast<std::uint16_t>((device->msix_control() & 0x7ff) + 1);
  check(2, vectors == 2, "a vector for the queue, one for the configuration");
  check(3, device->begin(), "reset");
  const auto stands = [&](std::uint32_t field, std::uint16_t vector) {
    device->set_common(field, vector);
    return device->common<std::uint16_t>(field) == vector;
  };
  for (const std::uint32_t field : std::initializer_list<std::uint32_t>{virtio_common::config_msix_vector,
                                                                        virtio_common::queue_msix_vector}) {
    check(4, stands(field, 0) && stands(field, 1), "vectors that exist");
    check(5, !stands(field, 2) && device->common<std::uint16_t>(field) == VirtioPci::no_vector,
          "one that does not");
    check(6, stands(field, 1) && stands(field, VirtioPci::no_vector) && stands(field, 1), "none");
  }
  check(7, device->reset(), "reset");
  check(8, device->common<std::uint16_t>(virtio_common::queue_msix_vector) == VirtioPci::no_vector, "queue");
  check(9, device->common<std::uint16_t>(virtio_common::config_msix_vector) == VirtioPci::no_vector,
        "configuration");
  check(10, device->begin(), "feature negotiation");
  device->set_msix_entry(1, device->vector());
  device->mask_msix_entry(0, true);
  device->set_queue(0, disk.queue);
  device->set_common<std::uint16_t>(virtio_common::queue_msix_vector, 1);
  device->finish();
  const std::uint32_t before = device->interrupts();
  check(11, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
  check(12, wait_until([&] { return device->interrupts() == before + 1; }, 3), "an interrupt by vector 1");
  return 0;
}
