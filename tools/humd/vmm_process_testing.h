// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/humd/vmm_process.h"
#include "vmm/base/temporary_folder.h"

// For tests only: processes that do not outlive the test, however it ends.
namespace hum::testing {

inline constexpr std::chrono::seconds process_patience{30};

// Whether that becomes so in time.
bool until(const std::function<bool()>& condition);

std::string file_content(const std::string& path);
void put_file(const std::string& path, const std::string& content);

// The processes whose parent this one is, as threads that have not ended see it.
std::vector<pid_t> children();

// Takes in the processes whose parents have ended, and ends every child of this process at its end.
class Reaper {
 public:
  Reaper();
  ~Reaper();
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;
};

// A VM's run folder.
class RunFolder {
 public:
  std::string lock() const { return folder_ / "lock"; }
  std::string log() const { return folder_ / "vmm.log"; }
  std::string record() const { return folder_ / "record.json"; }
  std::string socket() const { return folder_ / "api.sock"; }
  std::string operator/(const std::string& name) const { return folder_ / name; }

  // Starts a program with this folder's lock, of which nothing is kept here.
  VmmProcess start(const std::vector<std::string>& arguments,
                   std::vector<std::pair<int, int>> descriptors = {}) const;
  // A fake VMM's command line; words: what its guest's command line has.
  std::vector<std::string> fake(const std::string& words = {}) const;
  // What the fake VMM answers; nullopt: it closed the connection, there is none, or nothing came in time.
  std::optional<std::string> ask(const std::string& request, std::chrono::milliseconds patience) const;

 private:
  TemporaryFolder folder_;
  Reaper reaper_;  // ends first: nothing writes to the folder while it is removed
};

std::string request(const std::string& method, const std::string& path, const std::string& body = {});

// Waits for a child's end. Nullopt: it did not come in time.
std::optional<int> exit_code(const VmmProcess& process);

}  // namespace hum::testing
