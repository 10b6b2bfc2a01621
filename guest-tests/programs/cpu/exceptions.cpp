// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/user_mode.h"

using namespace guest;

// Exceptions are delivered with their vectors and error codes: those of CPL 0, and a breakpoint at CPL 3.
std::uint32_t guest_main(const BootInfo&) {
  const Exception divide = exception_in([] {
    asm volatile("xorl %%ecx, %%ecx; divl %%ecx" : : "a"(1), "d"(0) : "ecx", "cc");
  });
  check(1, divide.is(vector::divide_error), "#DE of a division by 0");
  check(2, exception_in([] { asm volatile("ud2"); }).is(vector::invalid_opcode), "#UD");
  const Exception breakpoint = exception_in_user_mode(Ports::closed, [] { asm volatile("int3"); });
  check(3, breakpoint.is(vector::breakpoint), "#BP");
  check(4, read<std::uint8_t>(breakpoint.rip - 1) == 0xcc, "#BP tells the address behind the instruction");
  constexpr std::uint64_t not_canonical = 1ull << 63;
  check(5, exception_in([] { read<std::uint8_t>(not_canonical); }).is(vector::general_protection),
        "#GP of an address that is not canonical");
  constexpr std::uint32_t bad_selector = 0x77f8;
  const Exception selector = exception_in([] { asm volatile("movl %0, %%ds" : : "r"(bad_selector)); });
  check(6, selector.is(vector::general_protection, bad_selector), "#GP of a selector behind the table");
  constexpr std::uint32_t efer = 0xc0000080;
  constexpr std::uint64_t reserved = 1 << 1;
  const Exception bit = exception_in([] { write_msr(efer, read_msr(efer) | reserved); });
  check(7, bit.is(vector::general_protection), "#GP of a reserved bit in a model-specific register");
  constexpr std::uint64_t absent = 1ull << 40;
  constexpr std::uint64_t write_access = 2;
  const Exception load = exception_in([] { read<std::uint8_t>(absent + 7); });
  check(8, load.is(vector::page_fault) && load.address == absent + 7, "#PF of a load");
  const Exception store = exception_in([] { write<std::uint8_t>(absent, 1); });
  check(9, store.is(vector::page_fault, write_access) && store.address == absent, "#PF of a store");
  check(10, exception_in([] {}).vector == Exception::none, "none where there is none");
  return 0;
}
