// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"

using namespace guest;

// The I/O APIC's registers: each pin's entry holds what is written but for its read-only bits, and behind the
// last pin nothing is.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint32_t delivery_status = 1 << 12, remote_irr = 1 << 14;
  const std::uint32_t pins = io_apic_pins();
  print(std::uint64_t{pins}, " pins\n");
  check(1, pins >= 8 && pins <= 24, "number of pins");
  for (std::uint32_t pin = 0; pin < pins; ++pin) {
    write_io_apic(redirection(pin), pin_masked | delivery_status | remote_irr | (32 + pin));
    write_io_apic(redirection(pin) + 1, (pin + 1) << 24);
  }
  for (std::uint32_t pin = 0; pin < pins; ++pin) {
    check(2, read_io_apic(redirection(pin)) == (pin_masked | (32 + pin)), "low half of an entry");
    check(3, read_io_apic(redirection(pin) + 1) == (pin + 1) << 24, "high half of an entry");
  }
  for (std::uint32_t index = redirection(pins); index < 0x100; index += 7) {
    const std::uint32_t before = read_io_apic(index);
    write_io_apic(index, 0x12345678);
    check(4, read_io_apic(index) == before, "no pin");
  }
  write_io_apic(0, 0x05000000);
  check(5, (read_io_apic(0) & 0x0f000000) == 0x05000000, "id");
  const std::uint32_t version = read_io_apic(io_apic_version);
  write_io_apic(io_apic_version, 0);
  check(6, read_io_apic(io_apic_version) == version, "the version is read-only");
  return 0;
}
