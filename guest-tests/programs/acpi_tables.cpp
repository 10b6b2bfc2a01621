// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"

#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

namespace {

std::uint64_t check_table(std::uint32_t number, Text signature, Text oem) {
  const std::uint64_t table = find_table(signature);
  check(number, table != 0, signature);
  const std::uint32_t size = table_size(table);
  print(signature, " at ", hex(table), ", ", std::uint64_t{size}, " bytes\n");
  check(number + 1, byte_sum(table, size) == 0, "checksum");
  check(number + 2, Text(reinterpret_cast<const char*>(table + 10), 6).starts_with(oem), "OEM id");
  return table;
}

}  // namespace

// The ACPI tables: found, whole, and ours (oem=TEXT, HUMBRD by default). With mcfg=off none is expected;
// cpus=N is the number of processors.
std::uint32_t guest_main(const BootInfo& boot) {
  const Text given = boot.option("oem");
  const Text oem = given.empty() ? "HUMBRD" : given;
  const std::uint64_t rsdp = find_rsdp();
  check(1, rsdp != 0, "RSDP");
  check(2, byte_sum(rsdp, 20) == 0, "checksum of the RSDP");
  check(3, read<std::uint8_t>(rsdp + 15) >= 2, "revision of the RSDP");
  check(4, byte_sum(rsdp, 36) == 0, "extended checksum of the RSDP");
  const auto xsdt = read<std::uint64_t>(rsdp + 24);
  check(5, byte_sum(xsdt, table_size(xsdt)) == 0, "checksum of the XSDT");

  const std::uint64_t description = check_table(10, "FACP", oem);
  const bool reduced = (read<std::uint32_t>(description + fadt::flags) & fadt::hardware_reduced) != 0;
  check(13, reduced == (boot.option("reduced") != "off"), "hardware-reduced as expected");
  if (reduced)
    check(14, static_cast<bool>(read_register(description + fadt::sleep_control)), "sleep control");
  check_table(20, "DSDT", oem);

  check_table(30, "APIC", oem);
  const Processors processors = find_processors();
  print("processors: ", std::uint64_t{processors.count}, ", I/O APIC at ", hex(find_io_apic()), "\n");
  check(33, processors.count == parse_number(boot.option("cpus"), 1), "number of processors");

  if (boot.option("mcfg") == "off") {
    check(40, find_table("MCFG") == 0, "no MCFG");
  } else {
    const std::uint64_t window = read<std::uint64_t>(check_table(40, "MCFG", oem) + 44);
    print("configuration window at ", hex(window), "\n");
    check(43, read<std::uint32_t>(window) != 0xffffffff, "a function 00:00.0 in the configuration window");
  }
  return 0;
}
