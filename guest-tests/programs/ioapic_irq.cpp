// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/layout.h"

using namespace guest;

namespace {

constinit volatile std::uint32_t count = 0;

void serial_interrupt() {
  in8(serial_port + 2);  // reading the interrupt identification ends a transmitter interrupt
  count = count + 1;
}

}  // namespace

// The serial port's transmitter interrupt arrives through pin 4 of the I/O APIC, and does not while the pin
// is masked.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint16_t interrupt_enable = serial_port + 1;
  constexpr std::uint16_t modem_control = serial_port + 4;
  constexpr std::uint8_t transmitter = 2;
  constexpr std::uint8_t vector = 33;
  enable_local_apic();
  set_interrupt_handler(vector, serial_interrupt);
  mask_pin(serial_pin);
  enable_interrupts();
  out8(modem_control, 0x0b);  // out2 lets the interrupt through
  out8(interrupt_enable, transmitter);
  in8(serial_port + 2);
  out8(interrupt_enable, 0);
  check(1, count == 0, "no interrupt while the pin is masked");
  route_pin(serial_pin, vector);
  out8(interrupt_enable, transmitter);
  const bool arrived = wait_until([] { return count > 0; });
  out8(interrupt_enable, 0);
  check(2, arrived, "transmitter interrupt");
  print("interrupts ", std::uint64_t{count}, "\n");
  return 0;
}
