// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "tools/humd/file_task.h"
#include "tools/humd/sha256.h"

namespace hum {

// The content of a file, or of a block device of the host, that the caller has open for reading.
struct FileContent {
  int fd;
  std::string key;  // that the path came from, for errors
  std::string path;
  std::uint64_t size;  // bytes
};

// A new file with this content, synced. It shares the content's blocks where the file system can do that;
// what is a hole, or a block of zeroes, is a hole in the copy otherwise. Adds the content to sum, unless that
// is null. Throws HostError (ENOSPC before anything is copied, if that can be told), ConfigError where the
// content becomes shorter meanwhile, Cancelled; part of the file may be there then.
void copy_content(const FileTask& task, const FileContent& content, const std::filesystem::path& to,
                  Sha256* sum);

// Adds all of it. Throws the same.
void add_content(const FileTask& task, const FileContent& content, Sha256& sum);

}  // namespace hum
