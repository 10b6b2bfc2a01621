// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "vmm/boot/boot_file.h"

namespace hum::boot {

enum class Compression : std::uint8_t { unknown, gzip, xz, lzma, zstd, lz4, bzip2 };

std::string_view to_string(Compression compression);

// Tells a format from its first bytes (at least 6).
Compression detect_compression(std::span<const std::byte> first);

// A compressed part of a file, and how much it must give.
struct PackedImage {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  Compression compression = Compression::unknown;
  std::uint64_t unpacked_size = 0;
};

// Takes unpacked bytes, in order and without gaps. Every piece but the last has at least 1 MiB.
class PieceSink {
 public:
  virtual ~PieceSink() = default;

  // Where the next `size` bytes may be produced to save a copy; empty: anywhere. Such a place may be left
  // half-written by an image that turns out damaged.
  virtual std::span<std::byte> place_for(std::uint64_t offset, std::uint64_t size) = 0;
  virtual void deliver(std::uint64_t offset, std::span<const std::byte> piece) = 0;
};

// Unpacks an image whose compression is known; memory use does not depend on its size, but on the format's
// window. Throws ConfigError of `file` where the data is damaged, or is not exactly unpacked_size long.
void unpack(const BootFile& file, const PackedImage& image, PieceSink& sink);

}  // namespace hum::boot
