// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// Reads and writes of the disk's own configuration far past its end: zeros, and nothing changes.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  const std::uint64_t capacity = disk.capacity();
  const std::uint32_t end = boot.option("transport") == "mmio" ? 0x100 : 0x1000;
  for (std::uint32_t offset = 0; offset < end; offset += 4) {
    write<std::uint32_t>(disk.device->config_address() + offset, 0xffffffff);
    if (offset >= 64) check(1, disk.device->config<std::uint32_t>(offset) == 0, "zeros behind the end");
  }
  // Across the end of the window.
  write<std::uint64_t>(disk.device->config_address() + end - 4, ~0ull);
  check(2, disk.capacity() == capacity, "capacity");
  expect_recovery();
  return 0;
}
