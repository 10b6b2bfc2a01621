// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>

namespace hum {

// Thrown in a step that waits, or in long work, when its operation is not wanted any more.
class Cancelled : public std::runtime_error {
 public:
  Cancelled() : std::runtime_error("it was cancelled") {}
};

}  // namespace hum
