// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
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
    steps_.push_back({Fd::duplicate(folder), std::move(name), flags, {}});
  }
  // A folder that was there before changes its owner and mode from these.
  void owned(int folder, const struct stat& before) {
    steps_.push_back({Fd::duplicate(folder), {}, 0, before});
  }
  // This process has left the cgroup that this file, a cgroup.procs, belongs to.
  void moved(Fd file) { steps_.push_back({std::move(file), {}, 0, {}}); }
  void keep() { steps_.clear(); }

 private:
  struct Step {
    Fd fd;
    std::string name;  // empty: moved or owned
    int flags;
    std::optional<struct stat> owned;
  };

  static void take_back(const Step& step) {
    if (!step.name.empty()) {
      ::unlinkat(step.fd.get(), step.name.c_str(), step.flags);
    } else if (step.owned) {
      if (::fchown(step.fd.get(), step.owned->st_uid, step.owned->st_gid) == 0)
        ::fchmod(step.fd.get(), step.owned->st_mode & 07777);
    } else if (::write(step.fd.get(), "0", 1) < 0) {
    }  // the group may be gone
  }

  std::vector<Step> steps_;
};

}  // namespace hum
