// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

// The configuration of a disk (virtio 1.2, 2.5, 5.2.4) reads alike at all widths, and as zero past its end;
// the driver cannot change it.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_block);
  check(1, device != nullptr && device->begin(), "disk");
  const std::uint32_t generation = device->generation();
  std::uint8_t bytes[64];
  for (std::uint32_t i = 0; i < 64; ++i) bytes[i] = device->config<std::uint8_t>(i);
  std::uint64_t words[8];
  __builtin_memcpy(words, bytes, sizeof(words));
  check(2, words[0] == 2048, "capacity");
  check(3, bytes[20] == 0 && bytes[21] == 2, "size of a block");
  for (std::uint32_t i = 0; i < 64; ++i) {
    const std::uint64_t expected = words[i / 8] >> (8 * (i % 8));
    if (i % 2 == 0)
      check(4, device->config<std::uint16_t>(i) == static_cast<std::uint16_t>(expected), "16 bits");
    if (i % 4 == 0)
      check(5, device->config<std::uint32_t>(i) == static_cast<std::uint32_t>(expected), "32 bits");
    if (i % 8 == 0) check(6, device->config<std::uint64_t>(i) == expected, "64 bits");
    if (i >= 60) check(7, bytes[i] == 0, "zero past the end");
  }
  write<std::uint64_t>(device->config_address(), 0);
  check(8, device->config<std::uint64_t>(0) == words[0], "the capacity is not the driver's to change");
  check(9, device->generation() == generation, "generation");
  return 0;
}
