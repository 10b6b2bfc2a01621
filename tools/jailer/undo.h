// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "vmm/base/fd.h"

namespace hum {

// What has been made so far, and is taken back in the reverse order unless it is kept. It goes by descriptors
// of folders, which are good from inside the jail as well. Belongs to one process: a child must not destroy
// it.
class Undo {
 public:
  Undo() = default;
  ~Undo() {
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) take_back(*step);
  }
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;

  // A file or, with AT_REMOVEDIR, a folder was made in this folder.
  void made(int folder, std::string name, int flags = 0) {
    steps_.push_back({Fd::duplicate(folder), std::move(name), flags});
  }
  // This process has left the cgroup that this file, a cgroup.procs, belongs to.
  void moved(Fd file) { steps_.push_back({std::move(file), {}, 0}); }
  void keep() { steps_.clear(); }

 private:
  struct Step {
    Fd fd;
    std::string name;  // empty: moved
    int flags;
  };

  static void take_back(const Step& step) {
    if (!step.name.empty())
      ::unlinkat(step.fd.get(), step.name.c_str(), step.flags);
    else if (::write(step.fd.get(), "0", 1) < 0) {
    }  // the group may be gone
  }

  std::vector<Step> steps_;
};

}  // namespace hum
