// SPDX-License-Identifier: Apache-2.0
#include "devices/cmos.h"

namespace hum {
namespace {

constexpr std::uint16_t index_port = 0x70;
constexpr std::uint16_t port_count = 2;
constexpr std::uint8_t index_mask = 0x7f;  // bit 7 masks the NMI on a PC

enum ClockRegister : std::uint8_t {
  reg_seconds = 0x00,
  reg_minutes = 0x02,
  reg_hours = 0x04,
  reg_day_of_week = 0x06,
  reg_day_of_month = 0x07,
  reg_month = 0x08,
  reg_year = 0x09,
  reg_a = 0x0a,
  reg_b = 0x0b,
  reg_c = 0x0c,
  reg_d = 0x0d,
  reg_century = 0x32,
};

constexpr std::uint8_t a_update_in_progress = 0x80;
constexpr std::uint8_t a_power_on = 0x26;  // 32.768 kHz, periodic rate 1.024 kHz
constexpr std::uint8_t b_binary = 0x04;
constexpr std::uint8_t b_24_hours = 0x02;
constexpr std::uint8_t d_valid = 0x80;

// The update bit is set this long before the time changes (MC146818A, "Update Cycle"), so a reader that saw
// it clear has that long to read all of the time.
constexpr std::chrono::microseconds update_warning{244};

std::uint8_t bcd(unsigned value) {
  return static_cast<std::uint8_t>(value / 10 % 10 << 4 | value % 10);
}

}  // namespace

Cmos::Cmos(DeviceContext& context, Clock now)
    : ByteRegisters(port_count),
      now_(now),
      mapping_(context.ports.map("cmos", index_port, port_count, *this)) {
  stored_[reg_a] = a_power_on;
}

acpi::Aml Cmos::acpi_node() const {
  return acpi::device("RTC", {
                                 acpi::name("_HID", acpi::eisa_id("PNP0B00")),
                                 acpi::name("_CRS", acpi::resources({acpi::io_port(index_port, port_count)})),
                             });
}

void Cmos::fields(StateVisitor& visitor) {
  const std::lock_guard lock(mutex());
  visitor.number("index", index_, index_mask);
  visitor.bytes("stored", std::as_writable_bytes(std::span(stored_)));
}

std::uint8_t Cmos::read_register(std::uint64_t offset) {
  return offset == 0 ? 0xff : read_data();  // the index cannot be read back
}

void Cmos::write_register(std::uint64_t offset, std::uint8_t value) {
  if (offset == 0) {
    index_ = value & index_mask;
  } else {
    stored_[index_] = value;
  }
}

std::uint8_t Cmos::read_data() const {
  using namespace std::chrono;
  const Time now = now_();
  const auto today = floor<days>(now);
  const year_month_day date(today);
  const hh_mm_ss time(now - today);
  const auto full_year = static_cast<unsigned>(static_cast<int>(date.year()));
  switch (index_) {
    case reg_seconds:
      return bcd(static_cast<unsigned>(time.seconds().count()));
    case reg_minutes:
      return bcd(static_cast<unsigned>(time.minutes().count()));
    case reg_hours:
      return bcd(static_cast<unsigned>(time.hours().count()));
    case reg_day_of_week:
      return bcd(weekday(today).c_encoding() + 1);  // 1 is Sunday
    case reg_day_of_month:
      return bcd(static_cast<unsigned>(date.day()));
    case reg_month:
      return bcd(static_cast<unsigned>(date.month()));
    case reg_year:
      return bcd(full_year % 100);
    case reg_century:
      return bcd(full_year / 100);
    case reg_a: {
      const bool soon = now - floor<seconds>(now) >= seconds(1) - update_warning;
      return static_cast<std::uint8_t>((stored_[reg_a] & ~a_update_in_progress) |
                                       (soon ? a_update_in_progress : 0));
    }
    case reg_b:
      return static_cast<std::uint8_t>((stored_[reg_b] & ~b_binary) | b_24_hours);
    case reg_c:
      return 0;
    case reg_d:
      return d_valid;
    default:
      return stored_[index_];
  }
}

namespace {

std::unique_ptr<PlatformDevice> make(const OptionValues& /*options*/, DeviceContext& context) {
  return std::make_unique<Cmos>(context);
}

}  // namespace

constinit const DeviceKind cmos_kind{
    .name = "cmos",
    .help = "the PC's clock (the host's time in UTC) and CMOS memory at ports 0x70 and 0x71",
    .options = {},
    .create = make,
};

}  // namespace hum
