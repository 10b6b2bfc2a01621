// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/modes.h"

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

extern "C" {
extern const char real_mode_begin[];
extern const char real_mode_end[];
std::uint32_t call_protected(std::uint64_t code);
std::uint32_t call_real();
}

namespace guest {

std::uint32_t run_protected(const char* code) {
  return call_protected(address_of(code));
}

std::uint32_t run_real(const char* begin, const char* end) {
  const auto frame = static_cast<std::size_t>(real_mode_end - real_mode_begin);
  const auto code = static_cast<std::size_t>(end - begin);
  for (std::size_t i = 0; i < frame; ++i) write(real_mode_page + i, real_mode_begin[i]);
  for (std::size_t i = 0; i < code; ++i) write(real_mode_page + frame + i, begin[i]);
  return call_real();
}

}  // namespace guest
