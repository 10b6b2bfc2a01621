// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>
#include <vector>

#include "vmm/bus/write_collector.h"

// For tests only.
namespace hum::testing {

// Collects nothing and remembers which ports it was asked for.
class FakeWriteCollector final : public WriteCollector {
 public:
  void collect_writes(std::uint16_t first, std::uint32_t count) override { asked.emplace_back(first, count); }

  std::vector<std::pair<std::uint16_t, std::uint32_t>> asked;
};

}  // namespace hum::testing
