// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "vmm/base/fd.h"

namespace hum {

// A running passt, a child of this process in a session of its own: no key of a terminal reaches it. It
// inherits one socket and nothing else, ends by itself when the socket's other end is closed, however that
// came, and is ended and reaped by the destructor. Not thread-safe.
class PasstProcess {
 public:
  // program: a path. `arguments` stand behind those that this class gives itself: the socket, and where to
  // say that it serves. Returns before the program runs. Throws HostError.
  PasstProcess(const std::string& program, const std::vector<std::string>& arguments, int socket);
  ~PasstProcess();
  PasstProcess(const PasstProcess&) = delete;
  PasstProcess& operator=(const PasstProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Readable once it has told that it serves (has_started then says so), or will not any more.
  int start_fd() const { return start_.get(); }
  bool has_started() const;
  // Readable when it has written messages, for hear(), which keeps the last ones; false: no more will come.
  int messages_fd() const { return messages_.get(); }
  bool hear();
  // Readable once it has ended.
  int end_fd() const { return end_.get(); }
  // Of one that has ended: its last message, or how it ended.
  std::string reason();

  void kill() const;

 private:
  pid_t pid_ = -1;
  Fd start_;
  Fd messages_;
  Fd end_;
  std::string heard_;  // the last bytes of what it wrote
};

}  // namespace hum
