// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/cpio.h"

#include <array>
#include <cstdio>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint32_t type_file = 0100000;
constexpr std::uint32_t type_folder = 0040000;
constexpr std::uint32_t type_symlink = 0120000;
constexpr std::uint32_t type_character_device = 0020000;
constexpr std::uint32_t permission_bits = 07777;

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

void CpioWriter::file(std::string_view path, std::span<const std::byte> content, std::uint32_t permissions) {
  if (content.size() > UINT32_MAX) {
    throw ConfigError("initrd file", std::string(path),
                      "has 4 GiB or more, which a cpio archive cannot hold");
  }
  add({path, type_file | (permissions & permission_bits)}, content);
}

void CpioWriter::file(std::string_view path, std::string_view content, std::uint32_t permissions) {
  file(path, as_bytes(content), permissions);
}

void CpioWriter::folder(std::string_view path, std::uint32_t permissions) {
  add({path, type_folder | (permissions & permission_bits)}, {});
}

void CpioWriter::symlink(std::string_view path, std::string_view target) {
  add({path, type_symlink | 0777}, as_bytes(target));
}

void CpioWriter::character_device(std::string_view path, std::uint32_t major, std::uint32_t minor,
                                  std::uint32_t permissions) {
  add({path, type_character_device | (permissions & permission_bits), major, minor}, {});
}

std::vector<std::byte> CpioWriter::finish() {
  next_inode_ = 0;
  add({"TRAILER!!!", 0}, {});
  pad(512);
  next_inode_ = 1;
  return std::exchange(bytes_, {});
}

void CpioWriter::add(const Entry& entry, std::span<const std::byte> content) {
  const std::uint32_t links = (entry.mode & type_folder) != 0 ? 2 : 1;
  const std::array<std::uint32_t, 13> fields = {next_inode_++,
                                                entry.mode,
                                                0,  // owner
                                                0,  // group
                                                links,
                                                0,  // time
                                                static_cast<std::uint32_t>(content.size()),
                                                0,  // major and minor number of the device that holds it
                                                0,
                                                entry.major,
                                                entry.minor,
                                                static_cast<std::uint32_t>(entry.path.size() + 1),
                                                0};  // checksum, unused in this format
  std::string header = "070701";
  for (const std::uint32_t field : fields) {
    std::array<char, 9> digits{};
    std::snprintf(digits.data(), digits.size(), "%08X", field);
    header += digits.data();
  }
  header += entry.path;
  header += '\0';
  const std::span<const std::byte> head = as_bytes(header);
  bytes_.insert(bytes_.end(), head.begin(), head.end());
  pad(4);
  bytes_.insert(bytes_.end(), content.begin(), content.end());
  pad(4);
}

void CpioWriter::pad(std::size_t alignment) {
  bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
}

}  // namespace hum
