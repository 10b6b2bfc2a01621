// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

constinit VirtioQueue queue{};
constinit std::uint8_t bytes[2][64]{};

}  // namespace

// An entropy device: two requests bring different bytes, and it interrupts. transport=pci|mmio,
// interrupts=off.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  VirtioDevice* device = find_virtio_device(boot, virtio_rng);
  check(1, device != nullptr, "entropy device");
  check(2, device->begin(), "feature negotiation");
  device->set_queue(0, queue);
  device->finish();
  enable_interrupts();
  for (auto& part : bytes) {
    const VirtioBuffer buffer{part, sizeof(part), true};
    std::uint32_t written = 0;
    check(3, device->request(0, queue, &buffer, 1, written), "answer");
    print("got ", std::uint64_t{written}, " bytes\n");
    check(4, written > 0 && written <= sizeof(part), "number of bytes");
  }
  check(5, __builtin_memcmp(bytes[0], bytes[1], sizeof(bytes[0])) != 0, "two answers differ");
  if (boot.option("interrupts") != "off") {
    check(6, device->has_interrupts(), "route of the interrupt");
    check(7, wait_until([&] { return device->interrupts() > 0; }), "interrupt");
  }
  check(8, device->reset(), "reset");
  return 0;
}
