// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/acpi.h"

namespace guest {

// Runs on a started processor, with its interrupt table loaded and local APIC on, interrupts off; when it
// returns the processor halts.
using ProcessorMain = void (*)();

// Starts every processor of the list but the running one (INIT, start-up IPI). Returns without waiting for
// them.
void start_processors(const Processors& processors, ProcessorMain main);

}  // namespace guest
