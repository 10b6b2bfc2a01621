// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>

namespace hum {

// An address in the guest's physical memory. Never a host address.
struct GuestAddress {
  std::uint64_t value = 0;

  auto operator<=>(const GuestAddress&) const = default;
  constexpr GuestAddress operator+(std::uint64_t bytes) const { return {value + bytes}; }
};

// size bytes from begin on. May be any two numbers a guest chose: only GuestMemory judges it.
struct GuestRange {
  GuestAddress begin;
  std::uint64_t size = 0;

  bool operator==(const GuestRange&) const = default;
};

}  // namespace hum
