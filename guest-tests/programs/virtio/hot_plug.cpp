// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/pci.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

// What the machine's ACPI code does for an operating system (vmm/pci/pci_hotplug.h): the first two are masks
// of slots, taken by reading.
constexpr std::uint16_t inserted = 0x620;
constexpr std::uint16_t leaving = 0x624;
constexpr std::uint16_t eject = 0x628;

constinit VirtioDisk disk{};
constinit volatile char data[VirtioDisk::sector_size]{};

unsigned wait_for_insertion() {
  for (;;)
    if (const std::uint32_t slots = in32(inserted); slots != 0)
      return static_cast<unsigned>(__builtin_ctz(slots));
}

}  // namespace

// Disks that come and go while the guest runs. Whoever runs this plugs one in when it says that it is ready,
// takes it away when it was used, and plugs in another when that is gone.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, !disk.open(boot), "no disk at the start");
  print("ready\n");
  const unsigned slot = wait_for_insertion();
  const PciFunction function(slot, 0);
  check(2, function.present() && disk.open(boot), "the first disk");
  data[0] = 'h';
  check(3, disk.request(VirtioDisk::out, 0, data, sizeof data) == VirtioDisk::ok, "a write to it");
  print("used\n");
  while ((in32(leaving) >> slot & 1) == 0) {
  }
  out32(eject, ~(1u << slot));
  check(4, function.present(), "a disk that stays, for another slot was ejected");
  out32(eject, 1u << slot);
  check(5, !function.present(), "an empty slot");
  print("gone\n");
  check(6, wait_for_insertion() == slot, "the slot that is filled again");
  check(7, disk.open(boot), "the second disk");
  check(8, disk.request(VirtioDisk::out, 1, data, sizeof data) == VirtioDisk::ok, "a write to it");
  return 0;
}
