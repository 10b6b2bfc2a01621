// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/measure.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/paging.h"

using namespace guest;

// What the first touch of a page of 4 KiB costs, and a later one, over size=N MiB (64) from 16 MiB on.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t begin = 16 << 20;
  const std::uint64_t end = begin + (parse_number(boot.option("size"), 64) << 20);
  for (std::uint64_t address = begin; address < end; address += 2 << 20)
    map_page_of(address, page::write | page::user);
  const auto touch = [end] {
    for (std::uint64_t address = begin; address < end; address += 4096) write<std::uint8_t>(address, 1);
  };
  const std::uint64_t pages = (end - begin) / 4096;
  const Duration first = duration_of(least_cycles(1, touch) / pages);
  const Duration later = duration_of(least_cycles(10, touch) / pages);
  print("memory_first_touch ", first.value, " ", first.unit, "\n");
  print("memory_touch ", later.value, " ", later.unit, "\n");
  return 0;
}
