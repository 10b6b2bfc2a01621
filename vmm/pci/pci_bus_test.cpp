// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_bus.h"

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"
#include "vmm/bus/fake_write_collector.h"

namespace hum::pci {
namespace {

constexpr std::uint64_t ecam = 0xe0000000;
constexpr PciLayout layout{.ecam = {ecam},
                           .mmio32_first = 0xc0001000,
                           .mmio32_last = 0xc003ffff,
                           .mmio64_first = 0x100000000,
                           .mmio64_last = 0x1000fffff};

// A function with one BAR that answers with its offset.
class Plain final : public PciFunction, public RegisterWindow {
 public:
  explicit Plain(std::uint64_t size = 0x8000)
      : PciFunction({.vendor = 0x1af4,
                     .device = 0x1041,
                     .revision = 1,
                     .class_code = 0x020000,
                     .subsystem_vendor = 0x1111,
                     .subsystem = 0x2222}) {
    add_bar(0, size, *this, "plain");
    const std::array body{std::byte{3}, std::byte{4}};
    first = add_capability(0x09, body);
    second = add_capability(0x11, body, std::array{std::byte{0xf0}});
  }
  void read(std::uint64_t offset, std::span<std::byte> data) override { store_le(data, offset); }
  void write(std::uint64_t, std::span<const std::byte>) override { ++writes; }
  void bar_moved(unsigned, std::optional<std::uint64_t> address) override { moves.push_back(address); }

  std::uint32_t first = 0;
  std::uint32_t second = 0;
  unsigned writes = 0;
  std::vector<std::optional<std::uint64_t>> moves;
};

struct Machine {
  template <class T>
  T read(std::uint64_t address) {
    T value = static_cast<T>(~T{0});
    mmio.read(address, writable_bytes_of(value));
    return value;
  }
  template <class T>
  void write(std::uint64_t address, T value) {
    mmio.write(address, bytes_of(value));
  }
  template <class T>
  T in(std::uint64_t port) {
    T value = static_cast<T>(~T{0});
    ports.read(port, writable_bytes_of(value));
    return value;
  }
  template <class T>
  void out(std::uint64_t port, T value) {
    ports.write(port, bytes_of(value));
  }
  static std::uint64_t config(unsigned device, std::uint32_t offset, unsigned function = 0) {
    return ecam + (device << 15) + (function << 12) + offset;
  }

  AddressDecoder ports;
  AddressDecoder mmio;
  hum::testing::FakeWriteCollector collector;
  PciBus bus{layout, ports, mmio, collector};
};

TEST_CASE("the host bridge is device 0 and absent functions read as all ones") {
  Machine machine;
  CHECK(machine.read<std::uint32_t>(Machine::config(0, 0)) == 0x00081b36);
  CHECK(machine.read<std::uint16_t>(Machine::config(0, 0x0a)) == 0x0600);
  CHECK(machine.read<std::uint8_t>(Machine::config(0, 0x0e)) == 0);
  CHECK(machine.read<std::uint32_t>(Machine::config(0, 0, 1)) == 0xffffffff);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0)) == 0xffffffff);
  CHECK(machine.read<std::uint32_t>(Machine::config(31, 0xffc, 7)) == 0xffffffff);
  machine.write<std::uint32_t>(Machine::config(1, 4), 7);
}

TEST_CASE("a function's identity is read-only and it has no interrupt pin") {
  Machine machine;
  Plain plain;
  CHECK(machine.bus.add(plain) == 1);
  for (std::uint32_t offset = 0; offset < 0x100; offset += 4)
    if (offset != 4) machine.write<std::uint32_t>(Machine::config(1, offset), 0xffffffff);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0)) == 0x10411af4);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 8)) == 0x02000001);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0x2c)) == 0x22221111);
  CHECK(machine.read<std::uint8_t>(Machine::config(1, 0x0e)) == 0);
  CHECK(machine.read<std::uint8_t>(Machine::config(1, 0x3d)) == 0);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0x30)) == 0);
  machine.write<std::uint16_t>(Machine::config(1, 4), 0xffff);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 4)) == 0x00100406);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0x100)) == 0);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0xffc)) == 0);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0xffe)) == 0xffffffff);
}

TEST_CASE("capabilities form a list") {
  Machine machine;
  Plain plain;
  machine.bus.add(plain);
  CHECK((machine.read<std::uint16_t>(Machine::config(1, 6)) & 0x10) != 0);
  const auto first = machine.read<std::uint8_t>(Machine::config(1, 0x34));
  CHECK(first == plain.first);
  CHECK(machine.read<std::uint8_t>(Machine::config(1, first)) == 0x09);
  const auto second = machine.read<std::uint8_t>(Machine::config(1, first + 1u));
  CHECK(second == plain.second);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, second)) == 0x04030011);
  machine.write<std::uint32_t>(Machine::config(1, second), 0xffffffff);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, second)) == 0x04f30011);
  // The bridge has none.
  CHECK(machine.read<std::uint16_t>(Machine::config(0, 6)) == 0);
  CHECK(machine.read<std::uint8_t>(Machine::config(0, 0x34)) == 0);
}

TEST_CASE("a BAR tells its size, keeps its address and answers only while memory decoding is on") {
  Machine machine;
  Plain plain;
  machine.bus.add(plain);
  const std::uint64_t low = Machine::config(1, 0x10);
  const std::uint64_t high = Machine::config(1, 0x14);
  const std::uint64_t command = Machine::config(1, 4);
  CHECK(machine.read<std::uint32_t>(low) == 0xc0008004);
  CHECK(machine.read<std::uint32_t>(high) == 0);
  CHECK(machine.read<std::uint32_t>(0xc0008010) == 0xffffffff);

  machine.write<std::uint32_t>(low, 0xffffffff);
  CHECK(machine.read<std::uint32_t>(low) == 0xffff8004);
  machine.write<std::uint32_t>(high, 0xffffffff);
  CHECK(machine.read<std::uint32_t>(high) == 0xffffffff);
  machine.write<std::uint32_t>(low, 0xc0008004);
  machine.write<std::uint32_t>(high, 0);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0x18)) == 0);
  CHECK(plain.moves.empty());

  machine.write<std::uint16_t>(command, 6);
  CHECK(machine.read<std::uint32_t>(0xc0008010) == 0x10);
  CHECK(machine.read<std::uint32_t>(0xc000fffc) == 0x7ffc);
  CHECK(machine.read<std::uint32_t>(0xc0010000) == 0xffffffff);
  CHECK(plain.moves == std::vector<std::optional<std::uint64_t>>{0xc0008000});
  SECTION("the same address again is no move") {
    machine.write<std::uint32_t>(low, 0xc0008000);
    machine.write<std::uint16_t>(command, 0x402);
    CHECK(plain.moves.size() == 1);
  }
  SECTION("it moves while decoding is on") {
    machine.write<std::uint32_t>(low, 0xc0020000);
    CHECK(machine.read<std::uint32_t>(0xc0008010) == 0xffffffff);
    CHECK(machine.read<std::uint32_t>(0xc0020010) == 0x10);
    machine.write<std::uint32_t>(high, 0x10);
    CHECK(machine.read<std::uint32_t>(0x10c0020010) == 0x10);
    CHECK(plain.moves.size() == 3);
    // To the very end of the address space, and all at once.
    machine.write<std::uint64_t>(low, ~0ull);
    CHECK(machine.read<std::uint32_t>(0xffffffffffff8010) == 0x10);
  }
  SECTION("it moves while decoding is off") {
    machine.write<std::uint16_t>(command, 4);
    CHECK(machine.read<std::uint32_t>(0xc0008010) == 0xffffffff);
    machine.write<std::uint32_t>(low, 0xc0020000);
    CHECK(machine.read<std::uint32_t>(0xc0020010) == 0xffffffff);
    CHECK(plain.moves.size() == 2);
    CHECK_FALSE(plain.moves.back());
    machine.write<std::uint16_t>(command, 2);
    CHECK(machine.read<std::uint32_t>(0xc0020010) == 0x10);
  }
}

TEST_CASE("BARs get addresses of their own, below 4 GiB first") {
  Machine machine;
  std::vector<std::unique_ptr<Plain>> functions;
  std::vector<std::uint64_t> addresses;
  const auto add = [&](std::uint64_t size) {
    functions.push_back(std::make_unique<Plain>(size));
    const unsigned device = machine.bus.add(*functions.back());
    return machine.read<std::uint64_t>(Machine::config(device, 0x10)) & ~std::uint64_t{15};
  };
  CHECK(add(0x1000) == 0xc0001000);
  CHECK(add(0x10000) == 0xc0010000);
  CHECK(add(0x20000) == 0xc0020000);
  CHECK(add(0x1000) == 0xc0002000);
  CHECK(add(0x20000) == 0x100000000);
  CHECK(add(0x80000) == 0x100080000);
  CHECK(add(0x40000) == 0x100040000);
  CHECK_THROWS_AS(add(0x40000), ConfigError);
}

TEST_CASE(
    "a hidden function is gone for the guest, and a removed one gives its slot and its addresses back") {
  Machine machine;
  auto first = std::make_unique<Plain>(0x10000);
  Plain second(0x10000);
  Plain third(0x10000);
  REQUIRE(machine.bus.add(*first) == 1);
  REQUIRE(machine.bus.add(second) == 2);
  machine.write<std::uint16_t>(Machine::config(1, 4), 2);
  const auto address = machine.read<std::uint64_t>(Machine::config(1, 0x10)) & ~std::uint64_t{15};
  machine.bus.hide(1);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0)) == 0xffffffff);
  machine.write<std::uint16_t>(Machine::config(1, 4), 0);
  CHECK(machine.read<std::uint32_t>(address + 8) == 8);
  CHECK(machine.bus.add(third) == 3);
  machine.bus.remove(1);
  first.reset();
  CHECK(machine.read<std::uint32_t>(address + 8) == 0xffffffff);
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0)) == 0xffffffff);
  Plain next(0x10000);
  CHECK(machine.bus.add(next) == 1);
  CHECK((machine.read<std::uint64_t>(Machine::config(1, 0x10)) & ~std::uint64_t{15}) == address);
}

TEST_CASE("a function gets the slot that was asked for") {
  Machine machine;
  Plain plain;
  Plain other;
  CHECK(machine.bus.add(plain, 31) == 31);
  CHECK_THROWS_AS(machine.bus.add(other, 31), ConfigError);
  CHECK_THROWS_AS(machine.bus.add(other, 0), ConfigError);
  CHECK_THROWS_AS(machine.bus.add(other, 32), ConfigError);
  CHECK(machine.bus.add(other) == 1);
}

TEST_CASE("a bus has room for 31 functions beside the host bridge") {
  AddressDecoder ports;
  AddressDecoder mmio;
  PciLayout wide = layout;
  wide.mmio32_last = 0xcfffffff;
  hum::testing::FakeWriteCollector collector;
  PciBus bus(wide, ports, mmio, collector);
  std::vector<std::unique_ptr<Plain>> functions;
  for (unsigned device = 1; device < 32; ++device) {
    functions.push_back(std::make_unique<Plain>());
    CHECK(bus.add(*functions.back()) == device);
  }
  Plain one_more;
  CHECK_THROWS_AS(bus.add(one_more), ConfigError);
}

TEST_CASE("ports 0xcf8 and 0xcfc show the same configuration space as ECAM") {
  Machine machine;
  Plain plain;
  machine.bus.add(plain);
  for (unsigned device = 0; device < 3; ++device) {
    for (std::uint32_t offset = 0; offset < 0x100; offset += 4) {
      machine.out<std::uint32_t>(0xcf8, 0x80000000 | device << 11 | offset);
      const auto word = machine.in<std::uint32_t>(0xcfc);
      REQUIRE(word == machine.read<std::uint32_t>(Machine::config(device, offset)));
      for (unsigned byte = 0; byte < 4; ++byte)
        REQUIRE(machine.in<std::uint8_t>(0xcfc + byte) == static_cast<std::uint8_t>(word >> 8 * byte));
      REQUIRE(machine.in<std::uint16_t>(0xcfe) == static_cast<std::uint16_t>(word >> 16));
    }
  }
  machine.out<std::uint32_t>(0xcf8, 0x80000804);
  machine.out<std::uint8_t>(0xcfc, 2);
  CHECK(machine.read<std::uint16_t>(Machine::config(1, 4)) == 2);
  machine.out<std::uint16_t>(0xcfc, 4);
  CHECK(machine.read<std::uint16_t>(Machine::config(1, 4)) == 4);
}

TEST_CASE("the address word keeps its bits, and only four bytes at once reach it") {
  Machine machine;
  machine.out<std::uint32_t>(0xcf8, 0xffffffff);
  CHECK(machine.in<std::uint32_t>(0xcf8) == 0x80fffffc);
  machine.out<std::uint8_t>(0xcf8, 0);
  machine.out<std::uint8_t>(0xcfb, 1);
  machine.out<std::uint16_t>(0xcf8, 0);
  CHECK(machine.in<std::uint32_t>(0xcf8) == 0x80fffffc);
  CHECK(machine.in<std::uint8_t>(0xcf9) == 0xff);
  // Another bus.
  CHECK(machine.in<std::uint32_t>(0xcfc) == 0xffffffff);
  machine.out<std::uint32_t>(0xcf8, 0x80010000);
  CHECK(machine.in<std::uint32_t>(0xcfc) == 0xffffffff);
  // Without the enable bit.
  machine.out<std::uint32_t>(0xcf8, 0);
  CHECK(machine.in<std::uint32_t>(0xcfc) == 0xffffffff);
  machine.out<std::uint32_t>(0xcf8, 0x80000000);
  CHECK(machine.in<std::uint32_t>(0xcfc) == 0x00081b36);
  CHECK(machine.in<std::uint32_t>(0xcfd) == 0xffffffff);
}

TEST_CASE("writes to the address word are collected from the first on, asked for once") {
  Machine machine;
  machine.read<std::uint32_t>(Machine::config(0, 0));
  machine.in<std::uint32_t>(0xcf8);
  CHECK(machine.collector.asked.empty());
  machine.out<std::uint32_t>(0xcf8, 0x80000000);
  machine.out<std::uint32_t>(0xcf8, 0x80000004);
  CHECK(machine.collector.asked == std::vector{std::pair<std::uint16_t, std::uint32_t>{0xcf8, 4}});
}

TEST_CASE("the root bridge and the reservation of ECAM are described to the guest") {
  AddressDecoder ports;
  AddressDecoder mmio;
  hum::testing::FakeWriteCollector collector;
  const PciBus both(layout, ports, mmio, collector);
  PciLayout narrow = layout;
  narrow.mmio64_first = narrow.mmio64_last + 1;
  AddressDecoder other;
  const PciBus one(narrow, ports, other, collector);
  const auto contains = [](const acpi::Aml& node, const acpi::Aml& part) {
    return std::search(node.begin(), node.end(), part.begin(), part.end()) != node.end();
  };
  const acpi::Aml node = both.acpi_node();
  for (const char* const id : {"PNP0A08", "PNP0A03", "PNP0C02"}) CHECK(contains(node, acpi::eisa_id(id)));
  CHECK(contains(node, acpi::memory32(0xe0000000, 0x100000)));
  CHECK(contains(node, acpi::memory_window32(layout.mmio32_first, layout.mmio32_last)));
  const acpi::Aml wide = acpi::memory_window64(layout.mmio64_first, layout.mmio64_last);
  CHECK(contains(node, wide));
  CHECK_FALSE(contains(one.acpi_node(), wide));
}

TEST_CASE("random accesses to configuration space do no harm") {
  Machine machine;
  Plain plain;
  machine.bus.add(plain);
  std::mt19937_64 random(5);
  for (unsigned round = 0; round < 50000; ++round) {
    std::uint64_t value = random();
    const auto bytes = writable_bytes_of(value).first(std::size_t{1} << random() % 4);
    const bool ports = random() % 2 == 0;
    const std::uint64_t address = ports ? 0xcf8 + random() % 8 : Machine::config(1, random() % 0x100);
    AddressDecoder& decoder = ports ? machine.ports : machine.mmio;
    if (random() % 2 == 0)
      decoder.read(address, bytes);
    else
      decoder.write(address, bytes);
  }
  CHECK(machine.read<std::uint32_t>(Machine::config(1, 0)) == 0x10411af4);
}

TEST_CASE("a function's configuration goes on in another machine, and a damaged one changes nothing") {
  Machine source;
  Machine next;
  Plain plain;
  Plain fresh;
  source.bus.add(plain);
  next.bus.add(fresh);
  source.write<std::uint16_t>(Machine::config(1, 4), 2);
  source.write<std::uint32_t>(Machine::config(1, 0x10), 0xc0020000);
  source.write<std::uint8_t>(Machine::config(1, 0x3c), 9);
  CHECK(hum::testing::mistakes_in_fields(plain, fresh) == "");
  CHECK(next.read<std::uint64_t>(0xc0020008) == 8);
  CHECK(next.read<std::uint8_t>(Machine::config(1, 0x3c)) == 9);
}

TEST_CASE("a function that comes in another machine gets no address that another one has from before") {
  Machine source;
  Plain gone;
  Plain stays;
  source.bus.add(gone);
  source.bus.add(stays);
  source.bus.remove(1);
  const auto state = state_of(source.bus);
  Machine next;
  Plain again;
  Plain comes;
  next.bus.add(again, 2);
  restore(next.bus, state);
  restore(again, state_of(stays));
  CHECK(state_of(next.bus) == state);
  CHECK(next.bus.add(comes) == 1);
  CHECK(next.read<std::uint32_t>(Machine::config(2, 0x10)) == 0xc0010004);
  CHECK(next.read<std::uint32_t>(Machine::config(1, 0x10)) == 0xc0008004);
}

TEST_CASE("a bus with functions in other slots, or with others, is refused") {
  Machine source;
  Plain function;
  source.bus.add(function, 3);
  source.out<std::uint32_t>(0xcf8, 0x80000804);
  const auto state = state_of(source.bus);
  Machine empty;
  CHECK_THROWS_AS(restore(empty.bus, state), ConfigError);
  Machine elsewhere;
  Plain moved;
  elsewhere.bus.add(moved, 2);
  CHECK_THROWS_AS(restore(elsewhere.bus, state), ConfigError);
  Machine larger;
  Plain large(0x10000);
  larger.bus.add(large, 3);
  CHECK_THROWS_AS(restore(larger.bus, state), ConfigError);
  Machine next;
  Plain same;
  next.bus.add(same, 3);
  CHECK(hum::testing::mistakes_in_fields(source.bus, next.bus) == "");
}

TEST_CASE("the configuration of another function is refused") {
  Plain small;
  Plain large(0x10000);
  small.assign_bar(0, 0xc0008000);  // which the larger one cannot have
  const auto state = state_of(small);
  CHECK_THROWS_AS(restore(large, state), ConfigError);
}

TEST_CASE("the bus goes on with the address of port 0xcf8, whose writes are collected again") {
  Machine source;
  Machine next;
  source.out<std::uint32_t>(0xcf8, 0x80000804);
  source.write<std::uint16_t>(Machine::config(0, 4), 6);
  CHECK(hum::testing::mistakes_in_fields(source.bus, next.bus) == "");
  CHECK(next.in<std::uint32_t>(0xcf8) == 0x80000804);
  CHECK(next.read<std::uint16_t>(Machine::config(0, 4)) == 6);
  CHECK_FALSE(next.collector.asked.empty());
}

}  // namespace
}  // namespace hum::pci
