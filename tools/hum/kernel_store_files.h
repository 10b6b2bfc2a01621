// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace hum {

// A whole file. Throws HostError.
std::vector<std::byte> read_whole_file(const std::filesystem::path& path);

// Makes or replaces a file and waits until it is on the disk. Throws HostError.
void write_whole_file(const std::filesystem::path& path, std::span<const std::byte> content);
void write_whole_file(const std::filesystem::path& path, std::string_view content);

// A new folder below `parent`, removed with all that is in it by the destructor. Throws HostError.
class TemporaryFolder {
 public:
  // Folders left behind by a process that was killed have names with this beginning.
  static constexpr std::string_view prefix = ".new-";

  explicit TemporaryFolder(const std::filesystem::path& parent);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace hum
