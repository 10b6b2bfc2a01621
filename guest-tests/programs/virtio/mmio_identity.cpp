// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_mmio.h"

using namespace guest;

// The identity of a virtio-mmio window (virtio 1.2, 4.2.2): magic, version, device, vendor; read by words,
// written in vain; registers that do not exist read as 0.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioMmio* const device = find_virtio_mmio(boot, virtio_rng);
  check(1, device != nullptr, "entropy device");
  for (unsigned round = 0; round < 2; ++round) {
    check(2, device->get(VirtioMmioRegister::magic) == VirtioMmio::magic_value, "magic");
    check(3, device->get(VirtioMmioRegister::version) == 2, "version");
    check(4, device->get(VirtioMmioRegister::device_id) == virtio_rng, "device");
    check(5, device->get(VirtioMmioRegister::vendor_id) != 0, "vendor");
    for (std::uint32_t offset = 0; offset < 16; offset += 4)
      write<std::uint32_t>(device->base() + offset, 0x12345678);
  }
  for (const std::uint32_t offset :
       std::initializer_list<std::uint32_t>{0x018, 0x028, 0x03c, 0x048, 0x068, 0x0f8})
    check(6, read<std::uint32_t>(device->base() + offset) == 0, "a register that does not exist");
  for (std::uint32_t offset = 0xb0; offset < 0xc0; offset += 4)
    check(7, read<std::uint32_t>(device->base() + offset) == 0xffffffff, "no shared memory");
  return 0;
}
