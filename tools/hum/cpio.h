// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// Builds a cpio archive in the "new ASCII" format (magic 070701), the one the kernel unpacks as an initrd.
// Paths are relative, without a leading '/'; a folder must be added before what is in it. Everything belongs
// to root and has the time 0, so equal content gives equal bytes. Archives may follow each other: each is a
// multiple of 512 bytes. Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux. Value
// type; not thread-safe.
class CpioWriter {
 public:
  // permissions: the low 12 bits of the mode. Throws ConfigError if content is 4 GiB or more.
  void file(std::string_view path, std::span<const std::byte> content, std::uint32_t permissions = 0644);
  void file(std::string_view path, std::string_view content, std::uint32_t permissions = 0644);
  void folder(std::string_view path, std::uint32_t permissions = 0755);
  void symlink(std::string_view path, std::string_view target);
  void character_device(std::string_view path, std::uint32_t major, std::uint32_t minor,
                        std::uint32_t permissions = 0600);

  // The archive with its trailer; the writer is empty afterwards.
  std::vector<std::byte> finish();

 private:
  struct Entry {
    std::string_view path;
    std::uint32_t mode;
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
  };
  void add(const Entry& entry, std::span<const std::byte> content);
  void pad(std::size_t alignment);

  std::vector<std::byte> bytes_;
  std::uint32_t next_inode_ = 1;
};

}  // namespace hum
