// SPDX-License-Identifier: Apache-2.0
#include "devices/power.h"

#include <utility>

#include "vmm/acpi/fixed_hardware.h"

namespace hum {
namespace {

constexpr std::uint64_t sleep_control = acpi::sleep_control_port - acpi::power_block_port;
constexpr std::uint64_t reset = acpi::reset_port - acpi::power_block_port;
constexpr std::uint64_t event = acpi::event_port - acpi::power_block_port;

constexpr std::uint8_t power_button_event = 0x01;

}  // namespace

Power::Power(DeviceContext& context)
    : ByteRegisters(acpi::power_block_size),
      control_(context.control),
      gsi_(context.irqs.allocate()),
      event_pin_(context.irqs.pin(gsi_)),
      mapping_(context.ports.map("power", acpi::power_block_port, acpi::power_block_size, *this)) {}

acpi::Aml Power::acpi_node() const {
  using namespace acpi;
  constexpr std::uint8_t button_pressed = 0x80;
  const Aml button = device("PWRB", {name("_HID", eisa_id("PNP0C0C"))});
  const Aml events = device("GED", {
                                       name("_HID", string("ACPI0013")),
                                       name("_CRS", resources({interrupt_edge(gsi_)})),
                                       operation_region_io("EVRG", event_port, 1),
                                       byte_field("EVRG", {{"PBTN", 1}, {"", 7}}),
                                       method("_EVT", 1, true,
                                              {if_equal(name_reference("PBTN"), integer(power_button_event),
                                                        {notify("\\_SB_.PWRB", button_pressed)})}),
                                   });
  return join({button, events});
}

bool Power::press_power_button() {
  {
    const std::lock_guard lock(mutex());
    events_ |= power_button_event;
  }
  event_pin_.trigger();
  return true;
}

void Power::fields(StateVisitor& visitor) {
  const std::lock_guard lock(mutex());
  visitor.number("events", events_, power_button_event);
}

std::uint8_t Power::read_register(std::uint64_t offset) {
  // Reading the events takes them, so that none falls between a read and a clearing write. Sleep status
  // reads 0: the machine never wakes.
  return offset == event ? std::exchange(events_, std::uint8_t{0}) : std::uint8_t{0};
}

void Power::write_register(std::uint64_t offset, std::uint8_t value) {
  constexpr std::uint8_t enter_s5 = acpi::sleep_type_s5 << acpi::sleep_type_shift | acpi::sleep_enable;
  if (offset == sleep_control && (value & (acpi::sleep_type_mask | acpi::sleep_enable)) == enter_s5) {
    control_.power_off();
  } else if (offset == reset && value == acpi::reset_value) {
    control_.reset();
  }
}

namespace {

std::unique_ptr<PlatformDevice> make(const OptionValues& /*options*/, DeviceContext& context) {
  return std::make_unique<Power>(context);
}

}  // namespace

constinit const DeviceKind power_kind{
    .name = "power",
    .help = "ACPI soft-off, reset and power button",
    .options = {},
    .create = make,
};

}  // namespace hum
