// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/base/fd.h"

namespace hum {

// Opens a file, to add to it, or a fifo that needs no reader; writing does not wait. Throws HostError.
Fd open_output(const std::string& path);

// Lines for a file or a fifo that somebody may read, or not: writing never waits. A line that finds no room
// is lost as a whole, and counted. Not thread-safe.
class LineFile {
 public:
  // A fifo needs no reader yet. Throws HostError.
  explicit LineFile(const std::string& path);

  // Adds the line's end.
  void write(std::string_view line);
  std::uint64_t lost() const { return lost_; }
  int fd() const { return file_.get(); }

 private:
  bool put_rest();

  Fd file_;
  std::string rest_;  // of a line that was begun
  std::uint64_t lost_ = 0;
};

}  // namespace hum
