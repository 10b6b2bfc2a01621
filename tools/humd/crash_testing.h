// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <exception>
#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "tools/humd/file_task.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

// For tests only.
namespace hum::testing {

// Work on files that is killed at each of its changes in turn, each time in a folder of its own.
struct KilledWork {
  std::function<void(const std::string& folder)> prepare = [](const std::string&) {};
  std::function<void(const std::string& folder, const FileTask& task)> work;
  // What must hold afterwards, in the process that comes next; may do the work again, or undo it.
  std::function<void(const std::string& folder)> then;
};

// How often it was killed: at every change once.
inline unsigned kill_everywhere(const KilledWork& killed) {
  for (unsigned point = 0;; ++point) {
    const TemporaryFolder folder;
    killed.prepare(folder.path());
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      unsigned left = point;
      FileTask task;
      task.before = [&](std::string_view) {
        if (left-- == 0) ::raise(SIGKILL);
      };
      try {
        killed.work(folder.path(), task);
      } catch (const std::exception&) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    INFO("killed at change " << point);
    killed.then(folder.path());
    if (!WIFSIGNALED(status)) {
      CHECK(status == 0);
      return point;
    }
    CHECK(WTERMSIG(status) == SIGKILL);
  }
}

// The same, where each change fails in turn with an error that work throws; then is called after each.
inline unsigned fail_everywhere(const KilledWork& failing, const std::function<void()>& fail) {
  for (unsigned point = 0;; ++point) {
    const TemporaryFolder folder;
    failing.prepare(folder.path());
    unsigned left = point;
    FileTask task;
    task.before = [&](std::string_view) {
      if (left-- == 0) fail();
    };
    bool failed = false;
    try {
      failing.work(folder.path(), task);
    } catch (const std::exception&) {
      failed = true;
    }
    INFO("failed at change " << point);
    if (!failed) return point;
    failing.then(folder.path());
  }
}

// The paths of all files, relative to the folder; folders only where they are empty.
inline std::set<std::string> files_below(const std::filesystem::path& folder) {
  std::set<std::string> all;
  for (const auto& each : std::filesystem::recursive_directory_iterator(folder))
    if (!each.is_directory() || std::filesystem::is_empty(each.path()))
      all.insert(std::filesystem::relative(each.path(), folder));
  return all;
}

}  // namespace hum::testing
