// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

#include "vmm/base/log.h"

// For tests only.
namespace hum::testing {

// A script that stands for passt, in a folder of its own. It has $socket, the number of the socket, and notes
// its words in the file `words`.
class FakePasst {
 public:
  // Says that it serves, and lives until the socket is closed.
  static constexpr const char* well = "echo $$; exec cat <&$socket >/dev/null";

  explicit FakePasst(const std::string& body) {
    folder_ = (std::filesystem::temp_directory_path() / "hum-passt-XXXXXX").string();
    if (::mkdtemp(folder_.data()) == nullptr) std::abort();
    become(body);
  }
  ~FakePasst() { std::filesystem::remove_all(folder_); }
  FakePasst(const FakePasst&) = delete;
  FakePasst& operator=(const FakePasst&) = delete;

  // What starts from now on.
  void become(const std::string& body) const {
    // The shell reads while it runs: what runs keeps the file it has.
    const std::string made = path() + ".new";
    std::ofstream(made) << "#!/bin/sh\nfolder='" << folder_
                        << "'\necho \"$@\" >> \"$folder/words\"\nsocket=3\n"
                        << body << '\n';
    ::chmod(made.c_str(), 0755);
    std::filesystem::rename(made, path());
  }

  std::string path() const { return folder_ + "/passt"; }
  std::string file(const std::string& name) const {
    std::ifstream in(folder_ + "/" + name);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

 private:
  std::string folder_;
};

// Keeps what is logged.
class KeptLog {
 public:
  KeptLog()
      : log([this](LogLevel, std::string_view line) {
          const std::lock_guard lock(mutex_);
          text_ += std::string(line) + "\n";
        }) {}

  std::string text() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;

 public:
  const Log log;
};

// Waits for what another thread or process does; false after many seconds.
template <class Condition>
bool comes_true(Condition&& condition) {
  for (int i = 0; i < 10000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

}  // namespace hum::testing
