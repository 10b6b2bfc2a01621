// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "vmm/base/fd.h"

// For tests only.
namespace hum::testing {

// A file of zeroes in the system's folder for temporary files, removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::uint64_t size) {
    path_ = (std::filesystem::temp_directory_path() / "hum-test-XXXXXX").string();
    const Fd file(::mkstemp(path_.data()));
    std::filesystem::resize_file(path_, size);
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace hum::testing
