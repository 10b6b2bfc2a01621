// SPDX-License-Identifier: Apache-2.0
#include "vmm/acpi/tables.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <string>
#include <string_view>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"

namespace hum::acpi {
namespace {

constexpr std::string_view oem_id = "HUMBRD";
constexpr std::string_view oem_table_id = "HUMMINGB";
constexpr std::string_view creator_id = "HUMB";
constexpr std::uint32_t header_size = 36;

// The byte that makes the sum of all bytes zero.
std::uint8_t checksum(std::span<const std::byte> bytes) {
  const auto sum = std::accumulate(bytes.begin(), bytes.end(), 0u, [](unsigned total, std::byte byte) {
    return total + static_cast<unsigned>(byte);
  });
  return static_cast<std::uint8_t>(0u - sum);
}

// A table under construction. Offsets and widths are bytes, as in the specification's tables; what is not put
// stays zero.
class Table {
 public:
  Table() = default;
  // With the header of a system description table (ACPI 6.5, 5.2.6).
  Table(std::string_view signature, std::uint8_t revision) {
    put_text(0, signature);
    put(8, 1, revision);
    put_text(10, oem_id);
    put_text(16, oem_table_id);
    put(24, 4, 1);
    put_text(28, creator_id);
    put(32, 4, 1);
  }

  void put(std::size_t offset, std::size_t width, std::uint64_t value) {
    store_le(room(offset, width), value);
  }
  void put_text(std::size_t offset, std::string_view text) {
    std::ranges::copy(std::as_bytes(std::span(text)), room(offset, text.size()).begin());
  }
  // A generic address (5.2.3.2) of one port of 1 or 4 bytes.
  void put_port(std::size_t offset, std::uint16_t port, std::uint8_t size = 1) {
    constexpr std::uint8_t system_io = 1;
    constexpr std::uint8_t byte_access = 1;
    constexpr std::uint8_t double_word_access = 3;
    put(offset, 1, system_io);
    put(offset + 1, 1, std::uint64_t{8} * size);
    put(offset + 3, 1, size == 1 ? byte_access : double_word_access);
    put(offset + 4, 8, port);
  }
  void append(std::size_t width, std::uint64_t value) { put(bytes_.size(), width, value); }
  void append(const Aml& terms) {
    std::ranges::copy(std::as_bytes(std::span(terms)), room(bytes_.size(), terms.size()).begin());
  }
  void put_checksum(std::size_t offset, std::size_t covered) {
    put(offset, 1, 0);
    put(offset, 1, checksum(std::span(bytes_).first(covered)));
  }
  // The whole table, length and checksum filled in.
  std::vector<std::byte> finish() {
    put(4, 4, bytes_.size());
    put_checksum(9, bytes_.size());
    return std::move(bytes_);
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::span<std::byte> room(std::size_t offset, std::size_t width) {
    bytes_.resize(std::max(bytes_.size(), offset + width));
    return std::span(bytes_).subspan(offset, width);
  }

  std::vector<std::byte> bytes_;
};

std::vector<std::byte> build_dsdt(const TableOptions& options) {
  Table table("DSDT", 2);
  if (options.fixed.power_block)
    table.append(name("\\_S5_", package({integer(sleep_type_s5), integer(0), integer(0), integer(0)})));
  table.append(scope("\\_SB_", {options.dsdt_terms}));
  return table.finish();
}

// ACPI 6.5, 5.2.9.
std::vector<std::byte> build_fadt(std::uint64_t dsdt, const TableOptions& options) {
  constexpr std::uint8_t century_register = 0x32;
  constexpr std::uint16_t boot_8042 = 1 << 1;
  constexpr std::uint16_t boot_no_vga = 1 << 2;
  constexpr std::uint16_t boot_no_cmos_clock = 1 << 5;
  constexpr std::uint32_t wbinvd_works = 1 << 0;
  constexpr std::uint32_t no_fixed_power_button = 1 << 4;
  constexpr std::uint32_t no_fixed_sleep_button = 1 << 5;
  constexpr std::uint32_t no_fixed_clock_wakeup = 1 << 6;
  constexpr std::uint32_t timer_has_32_bits = 1 << 8;
  constexpr std::uint32_t has_reset_register = 1 << 10;
  constexpr std::uint32_t hardware_reduced = 1 << 20;

  Table table("FACP", 6);
  table.put(40, 4, dsdt);
  table.put(140, 8, dsdt);
  if (options.fixed.cmos_clock) table.put(108, 1, century_register);
  table.put(109, 2,
            boot_no_vga | (options.fixed.i8042 ? boot_8042 : 0u) |
                (options.fixed.cmos_clock ? 0u : boot_no_cmos_clock));
  table.put(112, 4,
            wbinvd_works | no_fixed_power_button | no_fixed_sleep_button | no_fixed_clock_wakeup |
                (options.fixed.power_block ? has_reset_register : 0u) |
                (options.fixed.pm_timer ? timer_has_32_bits : 0u) | hardware_reduced);
  if (options.fixed.pm_timer) {
    table.put(76, 4, pm_timer_port);
    table.put(91, 1, pm_timer_size);
    table.put_port(208, pm_timer_port, pm_timer_size);
  }
  if (options.fixed.power_block) {
    table.put_port(116, reset_port);
    table.put(128, 1, reset_value);
    table.put_port(244, sleep_control_port);
    table.put_port(256, sleep_status_port);
  }
  table.put_text(268, oem_table_id);  // hypervisor vendor identity; the last field
  return table.finish();
}

// ACPI 6.5, 5.2.12.
std::vector<std::byte> build_madt(const TableOptions& options) {
  constexpr std::uint32_t enabled = 1;
  Table table("APIC", 5);
  table.put(header_size, 4, local_apic_address);
  table.append(4, options.legacy_pic ? 1 : 0);  // PCAT_COMPAT
  for (std::size_t uid = 0; uid < options.apic_ids.size(); ++uid) {
    const std::uint32_t id = options.apic_ids[uid];
    if (id < 255 && uid <= UINT8_MAX) {
      table.append(2, 0x0800);  // local APIC, 8 bytes
      table.append(1, uid);
      table.append(1, id);
      table.append(4, enabled);
    } else {
      table.append(4, 0x1009);  // local x2APIC, 16 bytes
      table.append(4, id);
      table.append(4, enabled);
      table.append(4, uid);
    }
  }
  table.append(4, 0x0c01);  // I/O APIC, 12 bytes, number 0
  table.append(4, io_apic_address);
  table.append(4, 0);  // its first interrupt
  return table.finish();
}

std::vector<std::byte> build_mcfg(const Mcfg& mcfg) {
  Table table("MCFG", 1);
  table.put(header_size, 8, 0);
  table.append(8, mcfg.base);
  table.append(2, 0);  // segment group
  table.append(1, mcfg.first_bus);
  table.append(1, mcfg.last_bus);
  table.append(4, 0);
  return table.finish();
}

std::vector<std::byte> build_xsdt(std::span<const std::uint64_t> tables) {
  Table table("XSDT", 1);
  for (const std::uint64_t address : tables) table.append(8, address);
  return table.finish();
}

// ACPI 6.5, 5.2.5.3.
constexpr std::size_t rsdp_size = 36;

std::vector<std::byte> build_rsdp(std::uint64_t xsdt) {
  Table table;
  table.put_text(0, "RSD PTR ");
  table.put_text(9, oem_id);
  table.put(15, 1, 2);
  table.put(20, 4, rsdp_size);
  table.put(24, 8, xsdt);
  table.put(32, 4, 0);
  table.put_checksum(8, 20);
  table.put_checksum(32, rsdp_size);
  return table.take();
}

}  // namespace

BuiltTables build_tables(std::uint64_t base, const TableOptions& options) {
  assert(base % 16 == 0 && base >= bios_area_begin && base < bios_area_end);
  // The RSDP comes first but is known last.
  std::vector<std::byte> bytes(rsdp_size);
  const auto place = [&](const std::vector<std::byte>& table) {
    bytes.resize((bytes.size() + 15) & ~std::size_t{15});
    const std::uint64_t address = base + bytes.size();
    bytes.insert(bytes.end(), table.begin(), table.end());
    return address;
  };
  const std::uint64_t dsdt = place(build_dsdt(options));
  std::vector<std::uint64_t> tables{place(build_fadt(dsdt, options)), place(build_madt(options))};
  if (options.mcfg) tables.push_back(place(build_mcfg(*options.mcfg)));
  const std::uint64_t xsdt = place(build_xsdt(tables));
  std::ranges::copy(build_rsdp(xsdt), bytes.begin());
  if (bytes.size() > bios_area_end - base)
    throw ConfigError("machine", "",
                      "its ACPI tables need " + std::to_string(bytes.size()) + " bytes and have " +
                          std::to_string(bios_area_end - base),
                      "give it fewer devices or CPUs");
  return {std::move(bytes), base};
}

}  // namespace hum::acpi
