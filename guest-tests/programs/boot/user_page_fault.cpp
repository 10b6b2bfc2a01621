// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/paging.h"
#include "guest-tests/runtime/user_mode.h"

using namespace guest;

// Page faults of a program at CPL 3: error code and address.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint64_t absent = 1ull << 40;
  constexpr std::uint64_t place = 16 << 20;
  constexpr std::uint64_t present = 1, write_access = 2, user = 4, fetch = 16;
  const auto load = [](std::uint64_t address) {
    return exception_in_user_mode(Ports::closed, [address] { read<std::uint8_t>(address); });
  };
  const auto store = [](std::uint64_t address) {
    return exception_in_user_mode(Ports::closed, [address] { write<std::uint8_t>(address, 1); });
  };
  check(1, load(absent).is(vector::page_fault, user), "load from a page that is not there");
  check(2, store(absent + 5).is(vector::page_fault, user | write_access),
        "store to a page that is not there");
  check(3, store(absent + 5).address == absent + 5, "address of the fault");
  map_page_of(place, page::write);
  check(4, load(place).is(vector::page_fault, user | present), "load from a page of the kernel");
  map_page_of(place, page::user);
  check(5, load(place).vector == Exception::none, "load from a page of its own");
  check(6, store(place).is(vector::page_fault, user | present | write_access), "store to a read-only page");
  constexpr std::uint32_t efer = 0xc0000080;
  constexpr std::uint64_t no_execute_enable = 1 << 11;
  check(7, (cpuid(0x80000001).edx & 1 << 20) != 0, "CPUID offers no-execute pages");
  write_msr(efer, read_msr(efer) | no_execute_enable);
  map_page_of(place, page::write | page::user | page::no_execute);
  const Exception jump = exception_in_user_mode(Ports::closed, [] { reinterpret_cast<void (*)()>(place)(); });
  check(8, jump.is(vector::page_fault, user | present | fetch), "jump to a no-execute page");
  return 0;
}
