// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// A BAR moves (PCI 3.0, 6.2.5.1), with decoding off and on: the device answers at the new place and no longer
// at the old; what it was doing goes on.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  VirtioPci* const device = find_virtio_pci(virtio_block);
  const PciFunction function = device->function();
  constexpr std::uint64_t places[] = {0xc8000000, 0xc8010000, 0xc8008000};
  for (const bool decoding : std::initializer_list<bool>{false, true}) {
    for (const std::uint64_t place : places) {
      const std::uint64_t old = device->common_address();
      const std::uint64_t old_notify = device->notify_address(0);
      const std::uint16_t command = function.read16(0x04);
      if (!decoding) {
        function.write16(0x04, static_cast<std::uint16_t>(command & ~pci_command_memory));
        check(2, read<std::uint32_t>(old) == 0xffffffff, "nobody answers while decoding is off");
      }
      function.write32(0x10, static_cast<std::uint32_t>(place));
      function.write16(0x04, command);
      check(3, read<std::uint32_t>(old) == 0xffffffff, "nobody answers at the old place");
      check(4, device->open(function) && device->common_address() == place, "the new place");
      check(5, (device->status() & virtio_driver_ok) != 0, "the device is live");
      disk.queue.offer(disk.place(VirtioDisk::flush, 0, nullptr, 0));
      write<std::uint16_t>(old_notify, 0);
      check(6, never([] { return disk.queue.has_used(); }), "no notification at the old place");
      device->notify(0);
      check(7, wait_until([] { return disk.queue.has_used(); }) && disk.status == VirtioDisk::ok, "request");
      disk.queue.take();
    }
  }
  return 0;
}
