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
  // fd is one of the standard streams. With keep_signals Ctrl-C and its like still make signals. Throws
  // HostError.
  explicit RawTerminal(int fd, bool keep_signals = false);
  ~RawTerminal();

  // Ctrl-C and its like become bytes from here on.
  void pass_signals() const;

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
