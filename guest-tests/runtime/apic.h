// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace guest {

// The local APIC of the running processor, by MSR (x2APIC) where the processor has that, else by memory.
// Registers by their xAPIC offset (Intel SDM volume 3, table 11-1).
enum class LocalApic : std::uint32_t {
  id = 0x20,
  task_priority = 0x80,
  end_of_interrupt = 0xb0,
  spurious = 0xf0,
  command_low = 0x300,
  timer = 0x320,
  pin_0 = 0x350,
  timer_initial = 0x380,
  timer_current = 0x390,
  timer_divide = 0x3e0,
};

// Switches it on, with no interrupt from a legacy controller (pin LINT0).
void enable_local_apic();
std::uint32_t read_local_apic(LocalApic which);
void write_local_apic(LocalApic which, std::uint32_t value);
std::uint32_t local_apic_id();
void end_of_interrupt();

// Interrupt command (Intel SDM volume 3, 11.6.1): a vector for fixed delivery, or one of these.
namespace command {
inline constexpr std::uint32_t nmi = 0x4400;
inline constexpr std::uint32_t init = 0x4500;
inline constexpr std::uint32_t startup = 0x4600;  // | page number
inline constexpr std::uint32_t to_self = 1 << 18;
inline constexpr std::uint32_t to_all = 2 << 18;
inline constexpr std::uint32_t to_others = 3 << 18;
}  // namespace command
// Writes the interrupt command register; where the command has no shorthand, for one processor.
void send_command(std::uint32_t apic_id, std::uint32_t command);

// The I/O APIC's registers (82093AA, 3.2).
inline constexpr std::uint32_t io_apic_version = 1;
inline constexpr std::uint32_t pin_masked = 1 << 16;
constexpr std::uint32_t redirection(std::uint32_t pin) {
  return 0x10 + 2 * pin;  // the low half of the pin's entry; the high half follows
}
std::uint32_t read_io_apic(std::uint32_t index);
void write_io_apic(std::uint32_t index, std::uint32_t value);
std::uint32_t io_apic_pins();

// Programs a pin of the I/O APIC: edge-triggered, fixed delivery of `vector` to a processor, the running one
// if none is named.
void route_pin(std::uint32_t pin, std::uint8_t vector, std::uint32_t apic_id);
void route_pin(std::uint32_t pin, std::uint8_t vector);
void mask_pin(std::uint32_t pin);

}  // namespace guest
