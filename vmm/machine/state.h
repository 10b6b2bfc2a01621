// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace hum {

// A machine that was taken out of its VM between two instructions of its guest. Disks stay where they are.
struct MachineState {
  std::vector<std::byte> fields;  // a state (vmm/base/state.h) of everything but memory
  GuestMemory memory;
};

}  // namespace hum
