// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/interrupts.h"

namespace guest {

// What a program at CPL 3 may do with ports: nothing, or anything, by the map in the task state segment or by
// I/O privilege level 3. (Not every KVM keeps that level where it emulates CPL 0.)
enum class Ports : std::uint8_t { closed, by_map, by_privilege };

// Whether interrupts arrive at CPL 3; their handlers run at CPL 0.
enum class Interrupts : std::uint8_t { off, on };

// Runs function(context) at CPL 3 on a stack of its own. Tells the exception that ended it, Exception::none
// if it returned; interrupts are off then. The page of the image is open to CPL 3 from then on, others as
// map_page_of makes them.
Exception catch_user_exception(Ports ports, Interrupts interrupts, void (*function)(const void*),
                               const void* context);
template <class Function>
Exception exception_in_user_mode(Ports ports, const Function& function,
                                 Interrupts interrupts = Interrupts::off) {
  return catch_user_exception(
      ports, interrupts, [](const void* context) { (*static_cast<const Function*>(context))(); }, &function);
}

}  // namespace guest
