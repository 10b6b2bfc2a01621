// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constexpr std::uint64_t feature_flush = 1 << 9;
constexpr std::uint32_t sector_size = VirtioDisk::sector_size;

constinit VirtioDisk disk{};
constinit char data[sector_size]{};
constinit char copy[sector_size]{};

}  // namespace

// A block device: reads sector 0, writes and reads back sector 1, flushes, asks for its id, and interrupts.
// transport=pci|mmio, sectors=N the capacity expected, serial=TEXT the id expected, interrupts=off if none
// can arrive.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot, feature_flush), "block device");
  VirtioDevice* const device = disk.device;
  enable_interrupts();

  const auto capacity = disk.capacity();
  print("capacity ", capacity, " sectors\n");
  const Text sectors = boot.option("sectors");
  if (!sectors.empty()) check(4, capacity == parse_number(sectors), "capacity");

  check(5, disk.request(VirtioDisk::in, 0, data, sector_size) == VirtioDisk::ok, "read of sector 0");
  check(6, disk.written == sector_size + 1, "length of the read");
  check(7, is_disk_pattern(data, sector_size), "content of sector 0");

  for (std::uint32_t i = 0; i < sector_size; ++i) data[i] = static_cast<char>(i * 7);
  check(8, disk.request(VirtioDisk::out, 1, data, sector_size) == VirtioDisk::ok, "write of sector 1");
  check(9, disk.written == 1, "length of the write");
  check(10, disk.request(VirtioDisk::in, 1, copy, sector_size) == VirtioDisk::ok, "read of sector 1");
  check(11, __builtin_memcmp(data, copy, sector_size) == 0, "content of sector 1");

  if ((device->features() & feature_flush) != 0)
    check(12, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "flush");

  char id[21] = {};
  check(13, disk.request(VirtioDisk::get_id, 0, id, 20) == VirtioDisk::ok, "id");
  print("id ", Text(id), "\n");
  const Text serial = boot.option("serial");
  if (!serial.empty()) check(14, Text(id) == serial, "the id is what serial= says");

  check(15, disk.request(VirtioDisk::in, capacity, data, sector_size) == VirtioDisk::io_error,
        "read past the end fails");
  check(16, disk.request(99, 0, data, sector_size) == VirtioDisk::unsupported,
        "unknown request is unsupported");

  if (boot.option("interrupts") != "off") {
    check(17, device->has_interrupts(), "route of the interrupt");
    check(18, wait_until([&] { return device->interrupts() > 0; }), "interrupt");
  }
  print("interrupts ", std::uint64_t{device->interrupts()}, "\n");
  check(19, device->reset(), "reset");
  return 0;
}
