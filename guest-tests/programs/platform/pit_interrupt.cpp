// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"

using namespace guest;

namespace {

constinit volatile std::uint32_t count = 0;

}  // namespace

// With irqchip=kernel: channel 0 of the PIT interrupts again and again through pin 0 of the I/O APIC, in
// time.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t pit_vector = 37;
  constexpr std::uint8_t channel_0_rate = 0x34;     // low and high byte, mode 2
  constexpr std::uint16_t divisor = 1193182 / 500;  // 2 ms
  enable_local_apic();
  set_interrupt_handler(pit_vector, [] { count = count + 1; });
  route_pin(0, pit_vector);
  out8(0x43, channel_0_rate);
  out8(0x40, divisor & 0xff);
  out8(0x40, divisor >> 8);
  const std::uint64_t start = read_tsc();
  enable_interrupts();
  check(1, wait_until([] { return count >= 5; }), "five interrupts");
  check(2, read_tsc() - start > 5'000'000, "they take their time");
  mask_pin(0);
  let_pass(5'000'000);
  const std::uint32_t before = count;
  let_pass(20'000'000);
  check(3, count == before, "none while the pin is masked");
  return 0;
}
