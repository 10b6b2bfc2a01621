// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/interrupts.h"

namespace guest {

// What a program at CPL 3 may do with ports: nothing, or anything, by the map in the task state segment or by
// I/O privilege level 3. (Not every KVM keeps that level where it emulates CPL 0.)
enum class Ports : std::uint8_t { closed, by_map, by_privilege };

// Runs function(context) at CPL 3 on a stack of its own, with interrupts off. Tells the exception that ended
// it, Exception::none if it returned. The page of the image is open to CPL 3 from then on, others as
// map_page_of makes them.
Exception catch_user_exception(Ports ports, void (*function)(const void*), const void* context);
template <class Function>
Exception exception_in_user_mode(Ports ports, const Function& function) {
  return catch_user_exception(
      ports, [](const void* context) { (*static_cast<const Function*>(context))(); }, &function);
}

}  // namespace guest
