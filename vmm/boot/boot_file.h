// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/memory/guest_memory.h"

namespace hum::boot {

// A kernel, initrd or module on the host, open for reading. Errors are ConfigErrors that name the key it came
// from and its path; HostError where reading itself fails.
class BootFile {
 public:
  // Opens a regular, non-empty file.
  BootFile(std::string key, std::string path);
  // The same for a file that is open already.
  BootFile(std::string key, std::string path, Fd fd);

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return static_cast<std::uint64_t>(status_.st_size); }

  // Fills `to` from offset on; a file that ends before is an error.
  void read_at(std::uint64_t offset, std::span<std::byte> to) const;
  // Reads range.size bytes straight into guest memory.
  void read_into(const GuestMemory& memory, std::uint64_t offset, GuestRange range) const;

  // SHA-256 of the whole file, in hexadecimal.
  std::string digest() const;
  // False if the file has been written to since it was opened.
  bool is_unchanged() const;

  [[noreturn]] void fail(const std::string& problem, const std::string& fix = {}) const;
  [[noreturn]] void fail_truncated(const std::string& what) const;

 private:
  std::string key_;
  std::string path_;
  Fd fd_;
  struct stat status_{};
};

}  // namespace hum::boot
