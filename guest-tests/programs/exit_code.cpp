// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"

using namespace guest;

// Exits with the code that the command line gives (exit=N).
std::uint32_t guest_main(const BootInfo& boot) {
  const auto code = static_cast<std::uint32_t>(parse_number(boot.option("exit")));
  print("exit ", std::uint64_t{code}, "\n");
  exit_machine(code);
}
