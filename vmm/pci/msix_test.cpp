// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/msix.h"

#include <random>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"
#include "vmm/pci/fake_msi.h"

namespace hum::pci {
namespace {

constexpr std::uint16_t enable = 0x8000;
constexpr std::uint16_t mask_all = 0x4000;

// Registers as a driver writes them.
struct Table {
  explicit Table(std::uint16_t vectors) : msix(vectors, msi) {}

  void write32(std::uint64_t offset, std::uint32_t value) { msix.write_table(offset, bytes_of(value)); }
  std::uint32_t read32(std::uint64_t offset) const {
    std::uint32_t value = ~0u;
    msix.read_table(offset, writable_bytes_of(value));
    return value;
  }
  std::uint64_t pending() const {
    std::uint64_t value = ~0ull;
    msix.read_pending(0, writable_bytes_of(value));
    return value;
  }
  void program(std::uint32_t vector, std::uint64_t address, std::uint32_t data) {
    write32(16 * vector, static_cast<std::uint32_t>(address));
    write32(16 * vector + 4, static_cast<std::uint32_t>(address >> 32));
    write32(16 * vector + 8, data);
  }
  void mask(std::uint32_t vector, bool on) { write32(16 * vector + 12, on ? 1 : 0); }

  testing::FakeMsi msi;
  Msix msix;
};

TEST_CASE("the capability names the size of the table and where it is") {
  testing::FakeMsi msi;
  const Msix msix(5, msi);
  const auto capability = msix.capability(0, 0x4000, 0x5000);
  CHECK(load_le(std::span(capability.body).first(2)) == 4);
  CHECK(load_le(std::span(capability.body).subspan(2, 4)) == 0x4000);
  CHECK(load_le(std::span(capability.body).subspan(6, 4)) == 0x5000);
  CHECK(load_le(std::span(capability.writable).first(2)) == 0xc000);
  CHECK(load_le(std::span(capability.writable).subspan(2)) == 0);
  CHECK(msix.table_bytes() == 80);
  CHECK(msix.pending_bytes() == 8);
}

TEST_CASE("vectors start masked and their words keep only the bits that exist") {
  Table table(2);
  CHECK(table.read32(12) == 1);
  CHECK(table.read32(28) == 1);
  table.write32(0, 0xffffffff);
  table.write32(12, 0xfffffffe);
  CHECK(table.read32(0) == 0xfffffffc);
  CHECK(table.read32(12) == 0);
  SECTION("bytes and quadwords work as well") {
    const std::uint64_t wide = 0x1122334455667788;
    table.msix.write_table(16, bytes_of(wide));
    CHECK(table.read32(16) == 0x55667788);
    CHECK(table.read32(20) == 0x11223344);
    const std::uint8_t narrow = 0xaa;
    table.msix.write_table(21, bytes_of(narrow));
    CHECK(table.read32(20) == 0x1122aa44);
  }
  SECTION("nothing is beyond the table") {
    CHECK(table.read32(32) == ~0u);
    CHECK(table.read32(30) == ~0u);
    table.write32(30, 0);
    table.write32(32, 0);
    CHECK(table.read32(28) == 1);
  }
}

TEST_CASE("a vector delivers its message while MSI-X is enabled and it is unmasked") {
  Table table(2);
  table.program(1, 0xfee01000, 0x41);
  table.mask(1, false);
  const testing::FakeMsiInterrupt& interrupt = *table.msi.interrupts[1];
  CHECK(interrupt.masked);

  table.msix.trigger(1);
  table.msix.set_control(enable);
  CHECK(interrupt.message == MsiMessage{0xfee01000, 0x41});
  CHECK(interrupt.delivered() == 0);  // lost: MSI-X was disabled
  table.msix.trigger(1);
  CHECK(interrupt.delivered() == 1);
  CHECK(table.msi.interrupts[0]->masked);

  table.msix.trigger(2);  // there is no such vector
  table.msix.trigger(0xffff);
  CHECK(interrupt.delivered() == 0);

  table.msix.set_control(0);
  CHECK(interrupt.masked);
  table.msix.trigger(1);
  CHECK_FALSE(interrupt.pending());
}

TEST_CASE("what comes while a vector is masked is pending and is delivered when it is unmasked") {
  Table table(3);
  table.program(2, 0xfee00000, 7);
  table.mask(2, false);
  table.msix.set_control(enable);
  const testing::FakeMsiInterrupt& interrupt = *table.msi.interrupts[2];
  SECTION("by the vector's own mask") {
    table.mask(2, true);
    table.msix.trigger(2);
    table.msix.trigger(2);
    CHECK(table.pending() == 4);
    CHECK(interrupt.delivered() == 0);
    table.program(2, 0xfee02000, 8);
    table.mask(2, false);
    CHECK(interrupt.message == MsiMessage{0xfee02000, 8});
  }
  SECTION("by the function's mask") {
    table.msix.set_control(enable | mask_all);
    table.msix.trigger(2);
    CHECK(table.pending() == 4);
    CHECK(interrupt.delivered() == 0);
    table.msix.set_control(enable);
  }
  CHECK(table.pending() == 0);
  CHECK(interrupt.delivered() == 1);
  CHECK(interrupt.delivered() == 0);
}

TEST_CASE("writing the control word again configures nothing") {
  Table table(4);
  table.msix.set_control(enable);
  const unsigned before = table.msi.interrupts[3]->configured;
  table.msix.set_control(enable);
  CHECK(table.msi.interrupts[3]->configured == before);
  table.mask(0, false);
  CHECK(table.msi.interrupts[3]->configured == before);
}

TEST_CASE("a message is not configured while it is masked") {
  Table table(1);
  table.msix.set_control(enable);
  table.program(0, 0xfee01000, 1);
  CHECK(table.msi.interrupts[0]->message == MsiMessage{});
  table.mask(0, false);
  CHECK(table.msi.interrupts[0]->message == MsiMessage{0xfee01000, 1});
}

TEST_CASE("pending bits reach over several words") {
  Table table(130);
  table.msix.set_control(enable);
  for (const std::uint16_t vector :
       {std::uint16_t{0}, std::uint16_t{63}, std::uint16_t{64}, std::uint16_t{129}})
    table.msix.trigger(vector);
  CHECK(table.pending() == (1ull << 63 | 1));
  std::uint64_t word = 0;
  table.msix.read_pending(8, writable_bytes_of(word));
  CHECK(word == 1);
  table.msix.read_pending(16, writable_bytes_of(word));
  CHECK(word == 2);
  word = 0x55;
  table.msix.read_pending(24, writable_bytes_of(word));
  CHECK(word == 0x55);
  std::uint8_t byte = 0;
  table.msix.read_pending(16, writable_bytes_of(byte));
  CHECK(byte == 2);
}

TEST_CASE("random accesses to the table stay inside") {
  Table table(7);
  std::mt19937_64 random(3);
  std::vector<std::byte> data(8);
  for (unsigned round = 0; round < 20000; ++round) {
    const std::uint64_t offset = (random() & 7) == 0 ? random() : random() % 128;
    const std::size_t size = std::size_t{1} << random() % 4;
    const std::uint64_t value = random();
    std::memcpy(data.data(), &value, 8);
    const auto bytes = std::span(data).first(size);
    switch (random() % 4) {
      case 0:
        table.msix.write_table(offset, bytes);
        break;
      case 1:
        table.msix.read_table(offset, bytes);
        break;
      case 2:
        table.msix.read_pending(offset, bytes);
        break;
      default:
        table.msix.set_control(static_cast<std::uint16_t>(value));
        break;
    }
  }
  table.msix.set_control(0);
  for (const auto* interrupt : table.msi.interrupts) CHECK(interrupt->masked);
}

TEST_CASE("vectors that are held do not deliver until they are released") {
  Table table(2);
  table.program(0, 0xfee01000, 0x41);
  table.mask(0, false);
  table.msix.set_control(enable);
  table.msix.hold(true);
  table.msix.trigger(0);
  CHECK(table.msi.interrupts[0]->delivered() == 0);
  table.msix.set_control(enable);
  table.mask(0, false);
  CHECK(table.msi.interrupts[0]->delivered() == 0);
  CHECK(table.pending() == 0);  // the guest sees nothing of it
  table.msix.hold(false);
  CHECK(table.msi.interrupts[0]->delivered() == 1);
}

TEST_CASE("the state of MSI-X goes on in another function, and a damaged one changes nothing") {
  Table source(3);
  Table fresh(3);
  source.program(1, 0xfee02000, 0x55);
  source.mask(1, false);
  source.msix.set_control(enable);
  source.msix.trigger(0);
  source.msix.hold(true);
  source.msix.trigger(1);
  fresh.msix.hold(true);
  CHECK(hum::testing::mistakes_in_fields(source.msix, fresh.msix) == "");
  fresh.msix.set_control(enable);
  CHECK(fresh.pending() == 1);
  fresh.msix.hold(false);
  CHECK(fresh.msi.interrupts[1]->delivered() == 1);
  CHECK(fresh.msi.interrupts[1]->message == MsiMessage{0xfee02000, 0x55});
  CHECK(fresh.msi.interrupts[2]->delivered() == 0);
}

}  // namespace
}  // namespace hum::pci
