// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <filesystem>
#include <string>

#include "tools/hum/kernel_store_files.h"
#include "vmm/base/endian.h"

// Files to make images of; for tests only.
namespace hum::testing {

// Bytes that do not repeat soon.
inline std::string some_bytes(std::size_t size, std::uint32_t seed = 1) {
  std::string bytes(size, '\0');
  for (char& each : bytes) {
    seed = seed * 1664525 + 1013904223;
    each = static_cast<char>(seed >> 24);
  }
  return bytes;
}

// The smallest thing that is a kernel: a multiboot header that says where it is loaded.
inline std::string some_kernel(const std::string& more = "kernel") {
  constexpr std::uint32_t magic = 0x1badb002;
  constexpr std::uint32_t flags = 1 << 16;
  constexpr std::uint32_t place = 0x100000;
  const std::array<le32, 12> header{magic, flags, 0U - magic - flags, place, place, 0, 0, place + 48};
  return std::string(reinterpret_cast<const char*>(header.data()), sizeof header) + more;
}

inline std::string content_of(const std::filesystem::path& path) {
  const auto bytes = read_whole_file(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace hum::testing
