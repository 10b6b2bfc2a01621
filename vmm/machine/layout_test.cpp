// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/layout.h"

#include "vmm/base/testing.h"

namespace hum::layout {

TEST_CASE("memory of devices begins at 4 GiB, or behind the RAM that is there") {
  CHECK(device_memory_begin(2 * mib).value == 4 * gib);
  CHECK(device_memory_begin(3 * gib).value == 4 * gib);
  CHECK(device_memory_begin(3 * gib + 4096).value == 4 * gib + 4096);
  CHECK(device_memory_begin(8 * gib).value == 9 * gib);
}

TEST_CASE("memory of devices lies in no range that the guest is told of as RAM") {
  for (const std::uint64_t size : {2 * mib, 3 * gib, 3 * gib + 4096, 8 * gib})
    for (const MemoryMapEntry& entry : memory_map(size, true))
      CHECK(entry.range.begin.value + entry.range.size <= device_memory_begin(size).value);
}

}  // namespace hum::layout
