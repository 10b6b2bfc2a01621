// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/layout.h"
#include "guest-tests/runtime/paging.h"

using namespace guest;

// What a word read from a register in memory costs: the I/O APIC's, or address=N.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint32_t reads = 1000;
  const std::uint64_t address = parse_number(boot.option("address"), io_apic_base);
  map_page_of(address, page::write | page::user);
  measure("mmio_exit", reads, [address] {
    for (std::uint32_t i = 0; i < reads; ++i) read<std::uint32_t>(address);
  });
  return 0;
}
