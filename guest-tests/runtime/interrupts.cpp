// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/interrupts.h"

#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/paging.h"

extern "C" const char interrupt_stubs[];

namespace guest {
namespace {

constexpr unsigned vectors = 64;
constexpr unsigned stub_size = 16;
constexpr std::uint64_t page_fault = 14;
constexpr std::uint64_t fault_present = 1;  // in the error code: a page that is there

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
};

constinit Gate table[vectors]{};
constinit InterruptHandler handlers[vectors]{};

}  // namespace

void load_interrupt_table() {
  if (table[0].low == 0) {
    constexpr std::uint64_t present_interrupt_gate = 0x8e00'0008'0000;
    std::uint64_t stub = address_of(interrupt_stubs);
    for (Gate& gate : table) {
      gate.low = (stub & 0xffff) | present_interrupt_gate | (stub >> 16) << 48;
      stub += stub_size;
    }
  }
  const TablePointer pointer{{}, sizeof(table) - 1, address_of(table)};
  asm volatile("lidt %0" : : "m"(pointer.limit), "m"(pointer.base));
}

void set_interrupt_handler(std::uint8_t vector, InterruptHandler handler) {
  handlers[vector] = handler;
}

extern "C" void handle_interrupt(const Frame& frame) {
  if (frame.vector == spurious_vector) return;
  std::uint64_t fault_address = 0;
  if (frame.vector == page_fault) {
    asm volatile("movq %%cr2, %0" : "=r"(fault_address));
    if ((frame.error & fault_present) == 0 && map_page_of(fault_address)) return;
  }
  if (frame.vector < first_interrupt_vector || handlers[frame.vector] == nullptr) {
    print("\nexception ", frame.vector, " error ", hex(frame.error), " rip ", hex(frame.rip), " cr2 ",
          hex(fault_address), "\n");
    finish(127, "exception");
  }
  handlers[frame.vector]();
  end_of_interrupt();
}

}  // namespace guest
