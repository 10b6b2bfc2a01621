// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/base/fd.h"

namespace hum {

// Lines for a file or a fifo that somebody may read, or not: writing never waits. A line that finds no room
// is lost as a whole, and counted. Not thread-safe.
class LineFile {
 public:
  // A fifo needs no reader yet. Throws HostError.
  explicit LineFile(const std::string& path);

  // Adds the line's end.
  void write(std::string_view line);
  std::uint64_t lost() const { return lost_; }

 private:
  bool put_rest();

  Fd file_;
  std::string rest_;  // of a line that was begun
  std::uint64_t lost_ = 0;
};

}  // namespace hum
