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
// Writes the interrupt command register for one other processor.
void send_command(std::uint32_t apic_id, std::uint32_t command);

// Programs a pin of the I/O APIC: edge-triggered, fixed delivery of `vector` to the running processor.
void route_pin(std::uint32_t pin, std::uint8_t vector);
void mask_pin(std::uint32_t pin);

}  // namespace guest
