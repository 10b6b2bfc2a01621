// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <termios.h>

#include <optional>
#include <utility>

#include "vmm/base/fd.h"

namespace hum {

// Puts the terminal on a descriptor into raw mode until destroyed. A small child process watches over it and
// restores the terminal if this process dies in any other way, SIGKILL included. Make it before threads.
class RawTerminal {
 public:
  // fd is one of the standard streams. Throws HostError.
  explicit RawTerminal(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  void restore() const;

  int fd_;
  termios saved_{};
  Fd alive_;          // the watcher reads end of file from the other end when this process is gone
  int watcher_ = -1;  // its pid
};

// Rows and columns of the terminal on fd, if there is one.
std::optional<std::pair<unsigned, unsigned>> terminal_size(int fd);

}  // namespace hum
