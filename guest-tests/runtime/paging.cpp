// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/paging.h"

#include "guest-tests/runtime/hardware.h"

extern "C" volatile std::uint64_t page_directory_pointers[512];

namespace guest {
namespace {

constexpr unsigned directory_count = 16;  // each for one GiB
constexpr std::uint64_t present = 1;
constexpr std::uint64_t large = 0x80;
constexpr std::uint64_t table_mask = ~std::uint64_t{0xfff};  // the processor sets flags too
constexpr std::uint64_t page_mask = ~std::uint64_t{0x1fffff};

alignas(4096) constinit volatile std::uint64_t directories[directory_count][512]{};
constinit unsigned directories_used = 0;
constinit bool locked = false;  // several processors may fault at once

bool map(std::uint64_t address, std::uint64_t rights) {
  volatile std::uint64_t& pointer = page_directory_pointers[address >> 30];
  if (pointer == 0) {
    if (directories_used == directory_count) return false;
    pointer = address_of(directories[directories_used++]) | present | page::write | page::user;
  }
  write<std::uint64_t>((pointer & table_mask) + (address >> 21 & 511) * 8,
                       (address & page_mask) | present | large | rights);
  asm volatile("invlpg (%0)" : : "r"(address) : "memory");
  return true;
}

}  // namespace

bool map_page_of(std::uint64_t address, std::uint64_t rights) {
  if (address >> 39 != 0) return false;
  while (__atomic_test_and_set(&locked, __ATOMIC_ACQUIRE)) pause();
  const bool done = map(address, rights);
  __atomic_clear(&locked, __ATOMIC_RELEASE);
  return done;
}

}  // namespace guest
