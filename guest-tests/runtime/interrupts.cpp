// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/interrupts.h"

#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/paging.h"

extern "C" {
extern const char interrupt_stubs[];
extern const char guarded_call_end[];
// The stack pointer to return to from a guarded call; 0 while there is none.
constinit std::uint64_t guarded_stack = 0;
void guarded_call(void (*function)(const void*), const void* context);
}

namespace guest {
namespace {

constexpr unsigned vectors = 64;
constexpr unsigned stub_size = 16;
// In the error code of a page fault: the page is there; it was touched by CPL 3.
constexpr std::uint64_t fault_present = 1;
constexpr std::uint64_t fault_user = 4;
constexpr std::uint64_t code_selector = 0x08;
constexpr std::uint64_t data_selector = 0x10;

// A gate of 16 bytes (Intel SDM volume 3, 7.14.1).
struct Gate {
  std::uint64_t low;
  std::uint64_t high;
};

struct TablePointer {
  std::uint16_t padding[3];
  std::uint16_t limit;
  std::uint64_t base;
};

// What interrupt_stubs.S leaves on the stack.
struct Frame {
  std::uint64_t registers[9];
  std::uint64_t vector;
  std::uint64_t error;
  std::uint64_t rip;
  std::uint64_t cs;
  std::uint64_t rflags;
  std::uint64_t rsp;
  std::uint64_t ss;
};

constinit Gate table[vectors]{};
constinit InterruptHandler handlers[vectors]{};
constinit Exception caught{};

// Makes the guarded call return, at CPL 0.
void end_guarded_call(Frame& frame) {
  frame.rip = address_of(guarded_call_end);
  frame.cs = code_selector;
  frame.rflags = 1 << 1;
  frame.rsp = guarded_stack;
  frame.ss = data_selector;
}

}  // namespace

void load_interrupt_table() {
  if (table[0].low == 0) {
    constexpr std::uint64_t present_interrupt_gate = 0x8e00'0008'0000;
    std::uint64_t stub = address_of(interrupt_stubs);
    for (Gate& gate : table) {
      gate.low = (stub & 0xffff) | present_interrupt_gate | (stub >> 16) << 48;
      stub += stub_size;
    }
    constexpr std::uint64_t open_to_user = 3ull << 45;
    table[vector::breakpoint].low |= open_to_user;
  }
  const TablePointer pointer{{}, sizeof(table) - 1, address_of(table)};
  asm volatile("lidt %0" : : "m"(pointer.limit), "m"(pointer.base));
}

void set_interrupt_handler(std::uint8_t vector, InterruptHandler handler) {
  handlers[vector] = handler;
}

Exception catch_exception(void (*function)(const void*), const void* context) {
  caught = {};
  guarded_call(function, context);
  return caught;
}

extern "C" void handle_interrupt(Frame& frame) {
  if (frame.vector == spurious_vector) return;
  if (handlers[frame.vector] != nullptr) {
    handlers[frame.vector]();
    if (frame.vector >= first_interrupt_vector) end_of_interrupt();
    return;
  }
  std::uint64_t fault_address = 0;
  if (frame.vector == vector::page_fault) {
    asm volatile("movq %%cr2, %0" : "=r"(fault_address));
    if ((frame.error & (fault_present | fault_user)) == 0 && map_page_of(fault_address)) return;
  }
  if (frame.vector < first_interrupt_vector && guarded_stack != 0) {
    caught = {frame.vector, frame.error, frame.rip, fault_address, frame.cs};
    return end_guarded_call(frame);
  }
  print("\nexception ", frame.vector, " error ", hex(frame.error), " rip ", hex(frame.rip), " cr2 ",
        hex(fault_address), "\n");
  finish(127, "exception");
}

}  // namespace guest
