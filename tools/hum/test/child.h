// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tools/hum/test/outcome.h"
#include "vmm/base/fd.h"

namespace hum {

// A process of its own group that ends with this one, however this one ends: its input is a text, its output
// and its messages are non-blocking pipes. Used from the thread that made it, which must live as long.
class Child {
 public:
  // program is a path. Throws HostError.
  Child(const std::string& program, std::vector<std::string> arguments, const std::string& input);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }           // until reaped
  int end_fd() const { return pidfd_.get(); }  // readable once it has ended
  int output() const { return output_.get(); }
  int messages() const { return messages_.get(); }

  void kill() const;
  // Waits for its end; to be called once.
  ProcessEnd reap();

 private:
  pid_t pid_ = -1;  // until reaped
  Fd pidfd_;
  Fd output_;
  Fd messages_;
};

}  // namespace hum
