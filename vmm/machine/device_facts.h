// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "vmm/base/options.h"

namespace hum {

// A device whose driver has to reset it.
struct DeviceError {
  std::string device;  // as Vm::change names it
  std::string reason;
};

// A device that can be changed, with its options as they are.
struct DeviceOptions {
  std::string name;  // as Vm::change takes it
  std::string kind;
  OptionValues options;
};

}  // namespace hum
