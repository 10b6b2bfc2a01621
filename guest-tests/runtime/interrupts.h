// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace guest {

// A handler runs with interrupts off; the end of interrupt is signalled after it.
using InterruptHandler = void (*)();

inline constexpr std::uint8_t first_interrupt_vector = 32;
inline constexpr std::uint8_t last_interrupt_vector = 62;
inline constexpr std::uint8_t spurious_vector = 63;

// Loads the table with all vectors into this processor: exceptions print vector and rip and end the machine
// with exit code 127. boot_main does it; a processor started later does it for itself.
void load_interrupt_table();

// For vectors 32 to 62 and the NMI, on every processor.
void set_interrupt_handler(std::uint8_t vector, InterruptHandler handler);

namespace vector {
inline constexpr std::uint64_t divide_error = 0;
inline constexpr std::uint64_t nmi = 2;
inline constexpr std::uint64_t breakpoint = 3;
inline constexpr std::uint64_t invalid_opcode = 6;
inline constexpr std::uint64_t general_protection = 13;
inline constexpr std::uint64_t page_fault = 14;
}  // namespace vector

// An exception (Intel SDM volume 3, 7.13) that exception_in met, or none.
struct Exception {
  static constexpr std::uint64_t none = 256;

  std::uint64_t vector = none;
  std::uint64_t error = 0;    // 0 where the vector has none
  std::uint64_t rip = 0;      // of the instruction, or after it
  std::uint64_t address = 0;  // of a page fault
  std::uint64_t cs = 0;

  bool is(std::uint64_t wanted, std::uint64_t with_error = 0) const {
    return vector == wanted && error == with_error;
  }
};

// Runs function(context) and tells the exception that ended it. For one processor at a time, not nested.
Exception catch_exception(void (*function)(const void*), const void* context);
template <class Function>
Exception exception_in(const Function& function) {
  return catch_exception([](const void* context) { (*static_cast<const Function*>(context))(); }, &function);
}

}  // namespace guest
