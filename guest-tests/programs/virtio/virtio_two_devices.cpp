// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit VirtioQueue queue{};
constinit char bytes[32]{};

}  // namespace

// A disk and an entropy device at the same time: each answers its own requests, and interrupts by itself.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot), "disk");
  VirtioDevice* const rng = find_virtio_device(boot, virtio_rng);
  check(2, rng != nullptr && rng->begin(), "entropy device");
  rng->set_queue(0, queue);
  rng->finish();
  enable_interrupts();
  for (std::uint32_t i = 1; i <= 10; ++i) {
    check(3, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request to the disk");
    check(4, wait_until([&] { return disk.device->interrupts() == i; }, 3), "interrupt of the disk");
    check(5, rng->interrupts() == i - 1, "no interrupt of the entropy device");
    const VirtioBuffer buffer{bytes, sizeof(bytes), true};
    std::uint32_t written = 0;
    check(6, rng->request(0, queue, &buffer, 1, written) && written == sizeof(bytes),
          "request for random numbers");
    check(7, wait_until([&] { return rng->interrupts() == i; }, 3), "interrupt of the entropy device");
    check(8, disk.device->interrupts() == i, "no interrupt of the disk");
  }
  return 0;
}
