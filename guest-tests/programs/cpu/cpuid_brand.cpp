// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The processor's brand is a text, not nothing, and the vendor's name one of those there are.
std::uint32_t guest_main(const BootInfo&) {
  check(1, cpuid(0x80000000).eax >= 0x80000004, "the leaves of the brand");
  std::uint32_t words[13] = {};
  for (std::uint32_t i = 0; i < 3; ++i) {
    const CpuidResult part = cpuid(0x80000002 + i);
    __builtin_memcpy(words + 4 * i, &part, sizeof(part));
  }
  const Text brand(reinterpret_cast<const char*>(words));
  print("brand '", brand, "'\n");
  check(2, brand.size() >= 4, "a brand");
  for (const char c : brand) check(3, c >= ' ' && c <= '~', "of letters");
  const std::uint32_t vendor = cpuid(0).ebx;
  check(4, vendor == 0x756e6547 || vendor == 0x68747541 || vendor == 0x6f677948, "vendor");
  return 0;
}
