// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "tools/jailer/arguments.h"
#include "tools/jailer/undo.h"
#include "vmm/base/fd.h"

namespace hum {

// The program that is to be jailed: a static one, since a jail has no libraries. Throws ConfigError,
// HostError.
Fd open_executable(const std::string& path);

// A network namespace. Throws ConfigError, HostError.
Fd open_network_namespace(const std::string& path);

// A jail's folder, BASE/NAME/ID/root, with a copy of the executable in it. There may be files in it before,
// for the program to find, but no executable: that is a jail in use. Throws ConfigError, HostError.
class JailFolder {
 public:
  JailFolder(const JailerArguments& arguments, const Fd& executable, Undo& undo);

  // Moves this process, which has one thread only, to a mount namespace in which the folder is all there is,
  // and makes the devices and folders that the program needs, owned by its user. Throws HostError.
  void enter(Undo& undo);
  // The file that clients read the program's process number from. In the jail. Throws HostError.
  void write_pid(pid_t pid, Undo& undo);

 private:
  const JailerArguments& arguments_;
  std::string path_;
  Fd root_;
  dev_t userfaultfd_ = 0;  // 0: the host has none
};

}  // namespace hum
