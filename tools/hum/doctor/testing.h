// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "tools/hum/doctor/check.h"
#include "vmm/base/endian.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

// Hosts and disks made of nothing, for the doctor's tests.
namespace hum::doctor::test {

using Bytes = std::vector<std::byte>;

// A folder that stands for a host's "/", removed with all that is in it.
class FakeRoot : public hum::testing::TemporaryFolder {
 public:
  std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = path() + "/" + name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
    return file.string();
  }
  std::string write(const std::string& name, const Bytes& bytes) const {
    return write(name, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  void remove(const std::string& name) const { std::filesystem::remove_all(path() + "/" + name); }
};

inline const Check& find_check(const std::vector<Check>& checks, const std::string& name) {
  const auto found =
      std::find_if(checks.begin(), checks.end(), [&](const Check& each) { return each.name == name; });
  INFO(name);
  REQUIRE(found != checks.end());
  return *found;
}

inline bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

inline void put(Bytes& bytes, std::size_t offset, std::size_t size, std::uint64_t value) {
  store_le(std::span(bytes).subspan(offset, size), value);
}

inline void put_text(Bytes& bytes, std::size_t offset, const std::string& text) {
  std::copy_n(std::as_bytes(std::span(text)).begin(), text.size(),
              bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

// The superblock of an ext4 of 1 KiB blocks, at byte 1024 of what begins at `begin`.
struct TestExt4 {
  std::uint64_t blocks = 64;
  std::uint64_t state = 1;
  std::uint64_t more_incompatible = 0;
  std::string label = "ROOT";

  void put_into(Bytes& disk, std::size_t begin) const {
    const std::size_t super = begin + 1024;
    put(disk, super + 0x00, 4, 16);  // inodes
    put(disk, super + 0x04, 4, blocks);
    put(disk, super + 0x14, 4, 1);     // first data block
    put(disk, super + 0x20, 4, 8192);  // blocks per group
    put(disk, super + 0x28, 4, 16);    // inodes per group
    put(disk, super + 0x38, 2, 0xef53);
    put(disk, super + 0x3a, 2, state);
    put(disk, super + 0x4c, 4, 1);                         // dynamic revision
    put(disk, super + 0x58, 2, 256);                       // inode size
    put(disk, super + 0x5c, 4, 0x4);                       // has a journal
    put(disk, super + 0x60, 4, 0x42 | more_incompatible);  // file types, extents
    for (std::size_t i = 0; i < 16; ++i) put(disk, super + 0x68 + i, 1, 0x10 + i);
    put_text(disk, super + 0x78, label);
  }
};
inline constexpr const char* test_ext4_uuid = "10111213-1415-1617-1819-1a1b1c1d1e1f";

}  // namespace hum::doctor::test
