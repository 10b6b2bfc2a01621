// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"

#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/layout.h"

namespace guest {
namespace {

constexpr std::uint32_t apic_base_msr = 0x1b;
constexpr std::uint64_t apic_base_enable = 1 << 11;
constexpr std::uint64_t apic_base_x2apic = 1 << 10;
constexpr std::uint32_t x2apic_command_msr = 0x830;

constinit bool x2apic = false;

std::uint32_t msr_of(LocalApic which) {
  return 0x800 + (static_cast<std::uint32_t>(which) >> 4);
}
std::uint64_t address_of_register(LocalApic which) {
  return local_apic_base + static_cast<std::uint32_t>(which);
}

std::uint64_t io_apic() {
  static constinit std::uint64_t base = 0;
  if (base == 0) base = find_io_apic();
  return base;
}

// Masked while the halves do not match.
void write_redirection(std::uint32_t pin, std::uint64_t entry) {
  write_io_apic(redirection(pin), pin_masked);
  write_io_apic(redirection(pin) + 1, static_cast<std::uint32_t>(entry >> 32));
  write_io_apic(redirection(pin), static_cast<std::uint32_t>(entry));
}

}  // namespace

void enable_local_apic() {
  x2apic = (cpuid(1).ecx & 1 << 21) != 0;
  std::uint64_t base = read_msr(apic_base_msr) | apic_base_enable;
  write_msr(apic_base_msr, base);
  if (x2apic) write_msr(apic_base_msr, base |= apic_base_x2apic);
  write_local_apic(LocalApic::pin_0, pin_masked);
  write_local_apic(LocalApic::task_priority, 0);
  write_local_apic(LocalApic::spurious, 0x100 | spurious_vector);
}

std::uint32_t read_local_apic(LocalApic which) {
  return x2apic ? static_cast<std::uint32_t>(read_msr(msr_of(which)))
                : read<std::uint32_t>(address_of_register(which));
}

void write_local_apic(LocalApic which, std::uint32_t value) {
  if (x2apic) {
    write_msr(msr_of(which), value);
  } else {
    write<std::uint32_t>(address_of_register(which), value);
  }
}

std::uint32_t local_apic_id() {
  const std::uint32_t value = read_local_apic(LocalApic::id);
  return x2apic ? value : value >> 24;
}

void end_of_interrupt() {
  write_local_apic(LocalApic::end_of_interrupt, 0);
}

void send_command(std::uint32_t apic_id, std::uint32_t command) {
  if (x2apic) {
    write_msr(x2apic_command_msr, std::uint64_t{apic_id} << 32 | command);
  } else {
    write<std::uint32_t>(local_apic_base + 0x310, apic_id << 24);
    write_local_apic(LocalApic::command_low, command);
  }
}

std::uint32_t read_io_apic(std::uint32_t index) {
  write(io_apic(), index);
  return read<std::uint32_t>(io_apic() + 0x10);
}

void write_io_apic(std::uint32_t index, std::uint32_t value) {
  write(io_apic(), index);
  write(io_apic() + 0x10, value);
}

std::uint32_t io_apic_pins() {
  return (read_io_apic(io_apic_version) >> 16 & 0xff) + 1;
}

void route_pin(std::uint32_t pin, std::uint8_t vector, std::uint32_t apic_id) {
  write_redirection(pin, std::uint64_t{apic_id} << 56 | vector);
}

void route_pin(std::uint32_t pin, std::uint8_t vector) {
  route_pin(pin, vector, local_apic_id());
}

void mask_pin(std::uint32_t pin) {
  write_redirection(pin, pin_masked);
}

}  // namespace guest
