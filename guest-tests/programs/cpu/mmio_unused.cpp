// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

using namespace guest;

// Addresses behind which nothing is read as all ones at each width and alignment, and take writes without
// effect.
std::uint32_t guest_main(const BootInfo&) {
  for (std::uint64_t address = unbacked_address; address < unbacked_address + 8; ++address) {
    write<std::uint64_t>(address, 0);
    check(1, read<std::uint8_t>(address) == 0xff, "width 1");
    check(2, read<std::uint16_t>(address) == 0xffff, "width 2");
    check(3, read<std::uint32_t>(address) == 0xffffffff, "width 4");
    check(4, read<std::uint64_t>(address) == ~std::uint64_t{0}, "width 8");
  }
  return 0;
}
