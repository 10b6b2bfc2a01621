// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/user_mode.h"

using namespace guest;

// At CPL 3 with paging: ports are open by the map in the task state segment, or with by=privilege by I/O
// privilege level 3, and closed without.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint16_t address_port = 0xcf8;
  std::uint32_t value = 0;
  std::uint64_t selector = 0;
  const auto use_port = [&] {
    asm volatile("movq %%cs, %0" : "=r"(selector));
    out32(address_port, 0x80001234);
    value = in32(address_port);
  };
  const Ports open = boot.option("by") == "privilege" ? Ports::by_privilege : Ports::by_map;
  const Exception allowed = exception_in_user_mode(open, use_port);
  check(1, (selector & 3) == 3, "CPL 3");
  check(2, allowed.vector == Exception::none, "no exception where ports are open");
  check(3, value == 0x80001234, "value of the port");
  const Exception denied = exception_in_user_mode(Ports::closed, use_port);
  check(4, denied.is(vector::general_protection), "#GP(0) where they are closed");
  check(5, (denied.cs & 3) == 3, "raised at CPL 3");
  return 0;
}
