// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/user_mode.h"

// Measuring at CPL 3, which runs at hardware speed even where KVM emulates all of CPL 0. Ports are open
// there; memory that is used must be mapped for it first.
namespace guest {

struct Duration {
  std::uint64_t value;
  Text unit;  // "ns" where KVM's clock tells the counter's rate, else "cycles"
};
Duration duration_of(std::uint64_t cycles);

// The counter's cycles that function() takes at CPL 3, the least of so many rounds.
template <class Function>
std::uint64_t least_cycles(unsigned rounds, const Function& function) {
  std::uint64_t least = ~std::uint64_t{0};
  const Exception met = exception_in_user_mode(Ports::by_map, [&] {
    for (unsigned round = 0; round < rounds; ++round) {
      const std::uint64_t start = read_tsc();
      function();
      const std::uint64_t taken = read_tsc() - start;
      if (taken < least) least = taken;
    }
  });
  check(126, met.vector == Exception::none, "no exception at CPL 3");
  return least;
}

// Prints `name value unit`: what one of so many operations takes that function() does.
template <class Function>
void measure(Text name, std::uint32_t operations, const Function& function) {
  const Duration each = duration_of(least_cycles(10, function) / operations);
  print(name, " ", each.value, " ", each.unit, "\n");
}

}  // namespace guest
