// SPDX-License-Identifier: Apache-2.0
#include "vmm/acpi/tables.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

#include "vmm/acpi/fixed_hardware.h"
#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum::acpi {
namespace {

constexpr std::uint64_t base = 0xe0000;
constexpr std::array<std::uint32_t, 2> two_cpus{0, 1};

bool sums_to_zero(std::span<const std::byte> bytes) {
  const auto sum = std::accumulate(bytes.begin(), bytes.end(), 0u, [](unsigned total, std::byte byte) {
    return total + static_cast<unsigned>(byte);
  });
  return sum % 256 == 0;
}

// The tables as a guest finds them: from the RSDP by their addresses.
class Reader {
 public:
  explicit Reader(const TableOptions& options, std::uint64_t where = base)
      : where_(where), built_(build_tables(where, options)) {}

  const BuiltTables& built() const { return built_; }
  std::span<const std::byte> at(std::uint64_t address) const {
    REQUIRE(address >= where_);
    REQUIRE(address < where_ + built_.bytes.size());
    return std::span(built_.bytes).subspan(address - where_);
  }
  std::uint64_t get(std::span<const std::byte> table, std::size_t offset, std::size_t width) const {
    REQUIRE(offset + width <= table.size());
    return load_le(table.subspan(offset, width));
  }
  std::string text(std::span<const std::byte> table, std::size_t offset, std::size_t size) const {
    return {reinterpret_cast<const char*>(table.data()) + offset, size};
  }
  // A whole table, its header checked.
  std::span<const std::byte> table(std::uint64_t address) const {
    const auto rest = at(address);
    const std::uint64_t length = get(rest, 4, 4);
    REQUIRE(length >= 36);
    REQUIRE(length <= rest.size());
    const auto whole = rest.first(length);
    CHECK(sums_to_zero(whole));
    CHECK(text(whole, 10, 6) == "HUMBRD");
    CHECK(text(whole, 16, 8) == "HUMMINGB");
    return whole;
  }
  std::span<const std::byte> rsdp() const { return at(built_.rsdp_address).first(36); }
  // The table the XSDT has under this signature; empty if none.
  std::span<const std::byte> find(std::string_view signature) const {
    const auto xsdt = table(get(rsdp(), 24, 8));
    CHECK(text(xsdt, 0, 4) == "XSDT");
    for (std::size_t entry = 36; entry < xsdt.size(); entry += 8) {
      const auto each = table(get(xsdt, entry, 8));
      if (text(each, 0, 4) == signature) return each;
    }
    return {};
  }
  std::span<const std::byte> dsdt() const { return table(get(find("FACP"), 140, 8)); }

 private:
  std::uint64_t where_;
  BuiltTables built_;
};

bool contains(std::span<const std::byte> table, const Aml& part) {
  const auto bytes = std::as_bytes(std::span(part));
  return std::search(table.begin(), table.end(), bytes.begin(), bytes.end()) != table.end();
}

int run(const hum::testing::TemporaryFolder& folder, const std::string& command) {
  return std::system(("cd '" + folder.path() + "' && " + command + " > log 2>&1").c_str());
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("the RSDP is where a guest searches, of revision 2, with both checksums") {
  for (const std::uint64_t where : {base, std::uint64_t{0xf0010}}) {
    const Reader reader({.apic_ids = two_cpus}, where);
    CHECK(reader.built().rsdp_address % 16 == 0);
    CHECK(reader.built().rsdp_address >= 0xe0000);
    CHECK(reader.built().rsdp_address + 36 <= 0x100000);
    const auto rsdp = reader.rsdp();
    CHECK(reader.text(rsdp, 0, 8) == "RSD PTR ");
    CHECK(reader.text(rsdp, 9, 6) == "HUMBRD");
    CHECK(reader.get(rsdp, 15, 1) == 2);
    CHECK(reader.get(rsdp, 20, 4) == 36);
    CHECK(sums_to_zero(rsdp.first(20)));
    CHECK(sums_to_zero(rsdp));
  }
}

TEST_CASE("the FADT is hardware-reduced and names no hardware but the power block") {
  const Reader reader({.apic_ids = two_cpus, .fixed = {.power_block = true}});
  const auto fadt = reader.find("FACP");
  REQUIRE(fadt.size() == 276);
  CHECK(reader.get(fadt, 8, 1) == 6);
  CHECK(reader.get(fadt, 40, 4) == reader.get(fadt, 140, 8));
  CHECK(reader.get(fadt, 36, 4) == 0);
  CHECK(reader.get(fadt, 109, 2) == 0x24);        // no VGA, no CMOS clock
  CHECK(reader.get(fadt, 112, 4) == 0x00100471);  // with RESET_REG_SUP and HW_REDUCED_ACPI
  CHECK(reader.get(fadt, 76, 4) == 0);            // no timer
  CHECK(reader.get(fadt, 91, 1) == 0);
  for (std::size_t block = 148; block < 244; block += 4) CHECK(reader.get(fadt, block, 4) == 0);
  for (const auto& [offset, port] : {std::pair<std::size_t, std::uint16_t>{116, reset_port},
                                     {244, sleep_control_port},
                                     {256, sleep_status_port}}) {
    CHECK(reader.get(fadt, offset, 4) == 0x01000801);  // one 8-bit I/O port
    CHECK(reader.get(fadt, offset + 4, 8) == port);
  }
  CHECK(reader.get(fadt, 128, 1) == reset_value);
}

TEST_CASE("the FADT follows what the machine has") {
  const Reader reader({.apic_ids = two_cpus, .fixed = {.cmos_clock = true, .i8042 = true}});
  const auto fadt = reader.find("FACP");
  CHECK(reader.get(fadt, 109, 2) == 0x06);
  CHECK(reader.get(fadt, 108, 1) == 0x32);
  CHECK(reader.get(fadt, 112, 4) == 0x00100071);
  for (const std::size_t offset : {116u, 244u, 256u}) CHECK(reader.get(fadt, offset, 4) == 0);
  CHECK_FALSE(contains(reader.dsdt(), name_reference("_S5_")));
}

TEST_CASE("the FADT names the PM timer where there is one") {
  const Reader reader({.apic_ids = two_cpus, .fixed = {.power_block = true, .pm_timer = true}});
  const auto fadt = reader.find("FACP");
  CHECK(reader.get(fadt, 76, 4) == pm_timer_port);
  CHECK(reader.get(fadt, 91, 1) == 4);
  CHECK(reader.get(fadt, 112, 4) == 0x00100571);  // with TMR_VAL_EXT
  CHECK(reader.get(fadt, 208, 4) == 0x03002001);  // a 32-bit I/O port
  CHECK(reader.get(fadt, 212, 8) == pm_timer_port);
}

TEST_CASE("the MADT has each CPU and the I/O APIC") {
  const std::array<std::uint32_t, 4> ids{0, 254, 255, 0x1000};
  const Reader reader({.apic_ids = ids});
  const auto madt = reader.find("APIC");
  REQUIRE(madt.size() == 44 + 2 * 8 + 2 * 16 + 12);
  CHECK(reader.get(madt, 36, 4) == 0xfee00000);
  CHECK(reader.get(madt, 40, 4) == 0);
  CHECK(reader.get(madt, 44, 8) == 0x00000001'00'00'08'00);
  CHECK(reader.get(madt, 52, 8) == 0x00000001'fe'01'08'00);
  CHECK(reader.get(madt, 60, 4) == 0x1009);
  CHECK(reader.get(madt, 64, 4) == 255);
  CHECK(reader.get(madt, 68, 4) == 1);
  CHECK(reader.get(madt, 72, 4) == 2);
  CHECK(reader.get(madt, 80, 4) == 0x1000);
  CHECK(reader.get(madt, 88, 4) == 3);
  CHECK(reader.get(madt, 92, 4) == 0x0c01);
  CHECK(reader.get(madt, 96, 4) == 0xfec00000);
  CHECK(reader.get(madt, 100, 4) == 0);
}

TEST_CASE("the MADT tells of a legacy PIC if there is one") {
  const Reader reader({.apic_ids = two_cpus, .legacy_pic = true});
  CHECK(reader.get(reader.find("APIC"), 40, 4) == 1);
}

TEST_CASE("there is an MCFG only with memory-mapped configuration space") {
  CHECK(Reader({.apic_ids = two_cpus}).find("MCFG").empty());
  const Reader reader({.apic_ids = two_cpus, .mcfg = Mcfg{0xe0000000, 0, 15}});
  const auto mcfg = reader.find("MCFG");
  REQUIRE(mcfg.size() == 60);
  CHECK(reader.get(mcfg, 36, 8) == 0);
  CHECK(reader.get(mcfg, 44, 8) == 0xe0000000);
  CHECK(reader.get(mcfg, 52, 4) == 0x0f000000);
  CHECK(reader.get(mcfg, 56, 4) == 0);
}

TEST_CASE("the DSDT has the soft-off state and the caller's terms under _SB") {
  const Aml terms = device("ABCD", {name("_UID", integer(7))});
  const Reader reader({.apic_ids = two_cpus, .dsdt_terms = terms, .fixed = {.power_block = true}});
  const auto dsdt = reader.dsdt();
  CHECK(reader.text(dsdt, 0, 4) == "DSDT");
  CHECK(reader.get(dsdt, 8, 1) == 2);  // 64-bit integers
  CHECK(contains(dsdt, name("\\_S5_", package({integer(5), integer(0), integer(0), integer(0)}))));
  CHECK(contains(dsdt, scope("\\_SB_", {terms})));
}

TEST_CASE("tables may fill the area to its last byte and not more") {
  const std::size_t empty = build_tables(base, {.apic_ids = two_cpus}).bytes.size();
  const std::size_t room = 0x20000;
  // All that follows the DSDT moves in steps of 16; its own length fields grow by 2 bytes.
  const auto with = [&](std::size_t more) {
    return build_tables(base, {.apic_ids = two_cpus, .dsdt_terms = Aml(more, 0xa3)}).bytes.size();
  };
  std::size_t more = room - empty - 64;
  while (with(more + 1) <= room && with(more) + 16 <= room) ++more;
  CHECK(with(more) <= room);
  CHECK(with(more) + 16 > room);
  CHECK_THROWS_AS(with(more + 32), ConfigError);
  CHECK_THROWS_AS(build_tables(0xffff0, {.apic_ids = two_cpus}), ConfigError);
}

TEST_CASE("the reference compiler reads the tables and its own text of them without a complaint") {
  if (std::system("iasl -v > /dev/null 2>&1") != 0) {
    WARN("skipped: needs iasl (package acpica-tools)");
    return;
  }
  const Aml terms = join({
      device("COM1", {name("_HID", eisa_id("PNP0501")), name("_UID", integer(1)),
                      name("_CRS", resources({io_port(0x3f8, 8), interrupt_edge(4)}))}),
      device("PCI0",
             {name("_HID", eisa_id("PNP0A08")), name("_CID", eisa_id("PNP0A03")), name("_UID", integer(0)),
              name("_CRS", resources({bus_range(0, 15), io_window(0x1000, 0xffff),
                                      memory_window32(0xc0000000, 0xdfffffff),
                                      memory_window64(0x4000000000, 0x7fffffffff)}))}),
      device("V000", {name("_HID", string("LNRO0005")), name("_UID", integer(0)),
                      name("_CRS", resources({memory32(0xd0000000, 0x200), interrupt_edge(6)}))}),
      device("PWRB", {name("_HID", eisa_id("PNP0C0C"))}),
      device("GED",
             {name("_HID", string("ACPI0013")), name("_CRS", resources({interrupt_edge(5)})),
              operation_region_io("EVRG", event_port, 1), byte_field("EVRG", {{"PBTN", 1}, {"", 7}}),
              operation_region_memory("MREG", 0x4000000000, 0x1000),
              byte_field("MREG", {{"", 64}, {"WORD", 32}}),
              method("_EVT", 1, true,
                     {if_equal(argument(0), integer(5),
                               {if_equal(name_reference("PBTN"), integer(1), {notify("\\_SB.PWRB", 0x80)}),
                                store(integer(UINT64_MAX), "WORD")})}),
              method("_STA", 0, false, {return_value(integer(15))})}),
      name("DATA", package({buffer(std::array<std::uint8_t, 3>{1, 2, 3}), string("text"), integer(0)})),
  });
  const std::array<std::uint32_t, 3> ids{0, 1, 300};
  const Reader reader({.apic_ids = ids,
                       .mcfg = Mcfg{0xe0000000, 0, 15},
                       .dsdt_terms = terms,
                       .fixed = {.power_block = true, .cmos_clock = true}});
  const hum::testing::TemporaryFolder folder;
  const auto write = [&](const std::string& name, std::span<const std::byte> table) {
    std::ofstream file(folder / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(table.data()), static_cast<std::streamsize>(table.size()));
  };
  write("xsdt.dat", reader.table(reader.get(reader.rsdp(), 24, 8)));
  write("facp.dat", reader.find("FACP"));
  write("apic.dat", reader.find("APIC"));
  write("mcfg.dat", reader.find("MCFG"));
  write("dsdt.dat", reader.dsdt());
  for (const std::string table : {"xsdt", "facp", "apic", "mcfg", "dsdt"}) {
    CAPTURE(table);
    CHECK(run(folder, "iasl -d " + table + ".dat") == 0);
    std::string log = read_text(folder / "log");
    for (const char* complaint : {"Error", "Warning", "Invalid", "incorrect"}) {
      CAPTURE(log);
      CHECK(log.find(complaint) == std::string::npos);
    }
    CHECK(run(folder, "iasl -p again " + table + ".dsl") == 0);
    log = read_text(folder / "log");
    CAPTURE(log);
    CHECK(log.find("0 Errors, 0 Warnings") != std::string::npos);
  }
}

}  // namespace hum::acpi
