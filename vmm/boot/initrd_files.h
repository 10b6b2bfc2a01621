// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// One archive, or several that were packed together, of an initrd.
struct InitrdPart {
  std::uint64_t offset = 0;  // in the file
  std::string compression;   // empty: none
};

// What an initrd consists of: cpio archives one after the other, each bare or packed (Linux,
// Documentation/driver-api/early-userspace/buffer-format.rst). The file is trusted in nothing.
struct InitrdFiles {
  std::vector<InitrdPart> parts;
  std::uint64_t count = 0;  // of the files in it
  // Why the reading ended before the end of the file, as an error's words; empty: it did not.
  std::string problem;
};

// Called for each file with its path, without a leading "./" or "/". True: its content is wanted.
using SeeFile = std::function<bool(std::string_view path)>;
// The wanted content of the file seen last, at most `content_limit` of it.
using SeeContent = std::function<void(std::string_view path, std::span<const std::byte> content)>;

inline constexpr std::size_t initrd_content_limit = 1 << 20;

// Reads an initrd; at most 1 GiB is unpacked and a million files are seen. Throws ConfigError with the key
// "initrd" where there is no such file, HostError where reading fails.
InitrdFiles examine_initrd(const std::string& path, const SeeFile& see, const SeeContent& content);

}  // namespace hum
