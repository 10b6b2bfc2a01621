// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_hotplug.h"

#include <poll.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "vmm/acpi/tables.h"
#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/bus/fake_write_collector.h"

namespace hum::pci {
namespace {

constexpr std::uint64_t inserted = 0x620;
constexpr std::uint64_t leaving = 0x624;
constexpr std::uint64_t eject = 0x628;

class Pins final : public IrqPins {
 public:
  struct Pin final : Interrupt {
    bool take() { return event_.drain(); }
  };

  Pin& pin(std::uint32_t) override { return only; }
  std::uint32_t allocate() override { return 5; }
  void set_level(std::uint32_t, bool) override {}
  void hold(bool) override {}
  void fields(StateVisitor&) override {}

  Pin only;
};

struct Machine {
  std::uint32_t in(std::uint64_t port) {
    std::uint32_t value = ~0u;
    ports.read(port, writable_bytes_of(value));
    return value;
  }
  void out(std::uint64_t port, std::uint32_t value) { ports.write(port, bytes_of(value)); }
  bool present(unsigned number) {
    std::uint32_t identity = ~0u;
    mmio.read(0xe0000000 + (std::uint64_t{number} << 15), writable_bytes_of(identity));
    return identity != ~0u;
  }
  bool told() {
    pollfd entry{.fd = hotplug.ejected_fd(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 0) == 1;
  }

  AddressDecoder ports;
  AddressDecoder mmio;
  hum::testing::FakeWriteCollector collector;
  Pins pins;
  PciBus bus{
      {.ecam = {0xe0000000}, .mmio32_first = 0xc0000000, .mmio32_last = 0xcfffffff}, ports, mmio, collector};
  PciHotplug hotplug{bus, ports, pins};
  PciFunction function{{.vendor = 0x1af4, .device = 0x1042}};
  unsigned slot = bus.add(function);
};

TEST_CASE("the guest is interrupted for a new function and reads its slot once") {
  Machine machine;
  CHECK(machine.in(inserted) == 0);
  CHECK_FALSE(machine.pins.only.take());
  machine.hotplug.tell_inserted(1);
  machine.hotplug.tell_inserted(31);
  CHECK(machine.pins.only.take());
  CHECK(machine.in(leaving) == 0);
  CHECK(machine.in(inserted) == 0x80000002);
  CHECK(machine.in(inserted) == 0);
}

TEST_CASE("a function that the guest was asked for is gone for it once it ejects the slot") {
  Machine machine;
  machine.hotplug.ask_to_eject(machine.slot);
  CHECK(machine.pins.only.take());
  CHECK(machine.in(inserted) == 0);
  CHECK(machine.in(leaving) == 2);
  CHECK(machine.in(leaving) == 0);
  CHECK(machine.present(machine.slot));
  CHECK_FALSE(machine.told());
  machine.out(eject, 2);
  CHECK_FALSE(machine.present(machine.slot));
  CHECK(machine.told());
  CHECK(machine.hotplug.take_ejected() == 2);
  CHECK_FALSE(machine.told());
  CHECK(machine.hotplug.take_ejected() == 0);
  machine.out(eject, 2);
  CHECK_FALSE(machine.told());
}

TEST_CASE("a guest keeps what it ejects without having been asked, the host bridge above all") {
  Machine machine;
  machine.out(eject, 0xffffffff);
  machine.out(inserted, 0xffffffff);
  machine.out(leaving, 0xffffffff);
  CHECK(machine.present(0));
  CHECK(machine.present(machine.slot));
  CHECK_FALSE(machine.told());
  CHECK(machine.in(inserted) == 0);
  CHECK(machine.in(leaving) == 0);
}

TEST_CASE("the registers have four bytes, which are accessed together") {
  Machine machine;
  machine.hotplug.tell_inserted(1);
  machine.hotplug.ask_to_eject(1);
  for (std::uint64_t port = inserted - 8; port < eject + 12; ++port) {
    std::uint8_t byte = 0;
    std::uint16_t word = 2;
    machine.ports.read(port, writable_bytes_of(byte));
    machine.ports.read(port, writable_bytes_of(word));
    machine.ports.write(port, bytes_of(word));
    if (port % 4 != 0) machine.in(port);
    if (port != eject) machine.out(port, 2);
  }
  CHECK(machine.in(eject) == 0);
  CHECK(machine.present(machine.slot));
  CHECK(machine.in(inserted) == 2);
  CHECK(machine.in(leaving) == 2);
}

TEST_CASE("what was removed meanwhile is only told, and cannot be ejected any more") {
  Machine machine;
  machine.hotplug.tell_inserted(machine.slot);
  machine.hotplug.ask_to_eject(machine.slot);
  machine.bus.remove(machine.slot);
  machine.hotplug.tell_removed(machine.slot);
  CHECK(machine.in(inserted) == 0);
  CHECK(machine.in(leaving) == 2);
  machine.out(eject, 2);
  CHECK_FALSE(machine.told());
}

TEST_CASE("requests to the guest, and its answers, go on in another machine") {
  Machine source;
  Machine next;
  PciFunction second({.vendor = 0x1af4, .device = 0x1042});
  PciFunction same({.vendor = 0x1af4, .device = 0x1042});
  CHECK(source.bus.add(second) == 2);
  CHECK(next.bus.add(same) == 2);
  source.hotplug.ask_to_eject(1);
  source.hotplug.ask_to_eject(2);
  source.hotplug.tell_inserted(3);
  source.out(eject, 2);
  CHECK(hum::testing::mistakes_in_fields(source.hotplug, next.hotplug) == "");
  CHECK_FALSE(next.present(1));
  CHECK(next.present(2));
  CHECK(next.told());
  CHECK(next.hotplug.take_ejected() == 2);
  CHECK(next.in(inserted) == 8);
  next.out(eject, 4);
  CHECK_FALSE(next.present(2));
}

TEST_CASE("the reference compiler takes the slots and their events") {
  if (std::system("iasl -v > /dev/null 2>&1") != 0) {
    WARN("skipped: needs iasl (package acpica-tools)");
    return;
  }
  Machine machine;
  const std::array<std::uint32_t, 1> ids{0};
  const acpi::Aml terms = acpi::join({machine.bus.acpi_node(), machine.hotplug.acpi_node()});
  const acpi::BuiltTables tables =
      acpi::build_tables(acpi::bios_area_begin, {.apic_ids = ids, .dsdt_terms = terms});
  const std::string_view bytes(reinterpret_cast<const char*>(tables.bytes.data()), tables.bytes.size());
  const std::size_t at = bytes.find("DSDT");
  REQUIRE(at != std::string_view::npos);
  std::uint32_t size = 0;
  std::memcpy(&size, bytes.data() + at + 4, sizeof size);
  const hum::testing::TemporaryFolder folder;
  std::ofstream(folder / "dsdt.dat", std::ios::binary) << bytes.substr(at, size);
  const std::string there = "cd '" + std::string(folder / "") + "' && ";
  CHECK(std::system((there + "iasl -d dsdt.dat > log 2>&1 && iasl -p again dsdt.dsl >> log 2>&1").c_str()) ==
        0);
  std::ifstream file(folder / "log");
  const std::string log((std::istreambuf_iterator<char>(file)), {});
  CAPTURE(log);
  CHECK(log.find("0 Errors, 0 Warnings") != std::string::npos);
}

}  // namespace
}  // namespace hum::pci
