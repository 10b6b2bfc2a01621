// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/serial.h"

using namespace guest;

namespace {

constinit volatile std::uint32_t first = 0;
constinit volatile std::uint32_t second = 0;

}  // namespace

// A pin whose vector changes interrupts with the new one from then on, as often as it changes.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t first_vector = 40;
  constexpr std::uint8_t second_vector = 57;
  enable_local_apic();
  set_interrupt_handler(first_vector, [] { first = first + 1; });
  set_interrupt_handler(second_vector, [] { second = second + 1; });
  enable_interrupts();
  for (std::uint32_t round = 1; round <= 3; ++round) {
    route_pin(serial_pin, first_vector);
    serial::raise_interrupt();
    check(1, wait_until([&] { return first == round; }) && second == round - 1, "the first vector");
    route_pin(serial_pin, second_vector);
    serial::raise_interrupt();
    check(2, wait_until([&] { return second == round; }) && first == round, "the second vector");
  }
  return 0;
}
