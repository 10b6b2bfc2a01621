// SPDX-License-Identifier: Apache-2.0
#include "devices/cmos.h"

#include "devices/testing.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

using namespace std::chrono;

// A clock that stands still where a test puts it.
Cmos::Time now;

Cmos::Time at(year_month_day date, microseconds time) {
  return Cmos::Time(sys_days(date)) + time;
}

std::uint64_t get(FakeMachine& machine, std::uint8_t index) {
  machine.out(0x70, index);
  return machine.in(0x71).value();
}

void set(FakeMachine& machine, std::uint8_t index, std::uint8_t value) {
  machine.out(0x70, index);
  machine.out(0x71, value);
}

struct Fixture {
  FakeMachine machine;
  Cmos cmos{machine.context, [] { return now; }};
};

}  // namespace

TEST_CASE("the clock shows date and time in BCD and 24 hours") {
  Fixture fixture;
  now = at(2024y / February / 29, 23h + 58min + 59s + 999ms);
  CHECK(get(fixture.machine, 0x00) == 0x59);
  CHECK(get(fixture.machine, 0x02) == 0x58);
  CHECK(get(fixture.machine, 0x04) == 0x23);
  CHECK(get(fixture.machine, 0x06) == 0x05);  // a Thursday
  CHECK(get(fixture.machine, 0x07) == 0x29);
  CHECK(get(fixture.machine, 0x08) == 0x02);
  CHECK(get(fixture.machine, 0x09) == 0x24);
  CHECK(get(fixture.machine, 0x32) == 0x20);
}

TEST_CASE("the clock passes the ends of a day, a week, a year and a century") {
  Fixture fixture;
  now = at(2099y / December / 31, 24h - 1us);
  CHECK(get(fixture.machine, 0x04) == 0x23);
  CHECK(get(fixture.machine, 0x08) == 0x12);
  CHECK(get(fixture.machine, 0x09) == 0x99);
  now += 1us;
  CHECK(get(fixture.machine, 0x00) == 0x00);
  CHECK(get(fixture.machine, 0x04) == 0x00);
  CHECK(get(fixture.machine, 0x07) == 0x01);
  CHECK(get(fixture.machine, 0x08) == 0x01);
  CHECK(get(fixture.machine, 0x09) == 0x00);
  CHECK(get(fixture.machine, 0x32) == 0x21);
  now = at(2024y / June / 1, 0s);
  CHECK(get(fixture.machine, 0x06) == 0x07);  // a Saturday
  now += 24h;
  CHECK(get(fixture.machine, 0x06) == 0x01);
}

TEST_CASE("the update bit is set only shortly before the time changes") {
  Fixture fixture;
  now = at(2024y / June / 1, 1s - 245us);
  CHECK(get(fixture.machine, 0x0a) == 0x26);
  now += 1us;
  CHECK(get(fixture.machine, 0x0a) == 0xa6);
  now += 243us;
  CHECK(get(fixture.machine, 0x0a) == 0xa6);
  now += 1us;
  CHECK(get(fixture.machine, 0x0a) == 0x26);
}

TEST_CASE("the host's clock is the default, and its date is valid") {
  FakeMachine machine;
  const auto device = make_platform_device(cmos_kind, machine);
  CHECK(get(machine, 0x32) >= 0x20);
  CHECK(get(machine, 0x0d) == 0x80);
}

TEST_CASE("register B stays BCD with 24 hours and stores the rest, C never shows an interrupt") {
  Fixture fixture;
  CHECK(get(fixture.machine, 0x0b) == 0x02);
  set(fixture.machine, 0x0b, 0x74);
  CHECK(get(fixture.machine, 0x0b) == 0x72);
  set(fixture.machine, 0x0b, 0xff);
  CHECK(get(fixture.machine, 0x0b) == 0xfb);
  set(fixture.machine, 0x0c, 0xff);
  CHECK(get(fixture.machine, 0x0c) == 0x00);
  set(fixture.machine, 0x0d, 0x00);
  CHECK(get(fixture.machine, 0x0d) == 0x80);
}

TEST_CASE("register A stores the rate but not the update bit") {
  Fixture fixture;
  now = at(2024y / June / 1, 0s);
  set(fixture.machine, 0x0a, 0xff);
  CHECK(get(fixture.machine, 0x0a) == 0x7f);
}

TEST_CASE("the guest cannot set the time") {
  Fixture fixture;
  now = at(2024y / June / 1, 0s);
  for (const std::uint8_t index :
       std::initializer_list<std::uint8_t>{0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32})
    set(fixture.machine, index, 0x55);
  CHECK(get(fixture.machine, 0x00) == 0x00);
  CHECK(get(fixture.machine, 0x08) == 0x06);
  CHECK(get(fixture.machine, 0x09) == 0x24);
  CHECK(get(fixture.machine, 0x32) == 0x20);
}

TEST_CASE("alarm registers and memory keep what was written, each its own") {
  Fixture fixture;
  const auto is_clock = [](unsigned index) {
    return index <= 0x0d && index != 0x01 && index != 0x03 && index != 0x05;
  };
  for (unsigned index = 0; index < 0x80; ++index) {
    if (is_clock(index) || index == 0x32) continue;
    CHECK(get(fixture.machine, static_cast<std::uint8_t>(index)) == 0);
    set(fixture.machine, static_cast<std::uint8_t>(index), static_cast<std::uint8_t>(~index));
  }
  for (unsigned index = 0; index < 0x80; ++index) {
    if (is_clock(index) || index == 0x32) continue;
    CHECK(get(fixture.machine, static_cast<std::uint8_t>(index)) == (~index & 0xff));
  }
}

TEST_CASE("the NMI bit of the index is not part of it, and the index cannot be read") {
  Fixture fixture;
  set(fixture.machine, 0x8f, 0x42);
  CHECK(get(fixture.machine, 0x0f) == 0x42);
  CHECK(get(fixture.machine, 0x8f) == 0x42);
  CHECK(fixture.machine.in(0x70) == 0xffu);
}

TEST_CASE("one 16-bit write sets index and data") {
  Fixture fixture;
  fixture.machine.out(0x70, 0x420f, 2);
  CHECK(get(fixture.machine, 0x0f) == 0x42);
}

TEST_CASE("the clock survives any access to any register") {
  Fixture fixture;
  for (unsigned index = 0; index < 0x100; ++index) {
    fixture.machine.out(0x70, index);
    for (const std::size_t width : {1u, 2u, 4u, 8u}) {
      fixture.machine.out(0x71, UINT64_MAX, width);
      fixture.machine.in(0x71, width);
    }
  }
  access_everything(fixture.machine, 0x70, 2);
  CHECK_FALSE(fixture.machine.in(0x72));
}

TEST_CASE("the guest finds the clock by its identifier and ports, without an interrupt") {
  Fixture fixture;
  const acpi::Aml node = fixture.cmos.acpi_node();
  CHECK(contains(node, acpi::name("_HID", acpi::eisa_id("PNP0B00"))));
  CHECK(contains(node, acpi::name("_CRS", acpi::resources({acpi::io_port(0x70, 2)}))));
}

}  // namespace hum::testing
