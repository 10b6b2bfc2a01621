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

// For vectors 32 to 62, on every processor.
void set_interrupt_handler(std::uint8_t vector, InterruptHandler handler);

}  // namespace guest
