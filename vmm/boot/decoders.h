// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "vmm/boot/unpack.h"

namespace hum::boot {

// A streaming decompressor of one format.
class Decoder {
 public:
  enum class Result : std::uint8_t { more, finished, damaged };

  virtual ~Decoder() = default;

  // Takes from the front of `in` and fills the front of `out`; both are left as what remains. `more` without
  // any progress means that it needs input.
  virtual Result decode(std::span<const std::byte>& in, std::span<std::byte>& out) = 0;
};

// For gzip, xz, lzma, zstd and bzip2. Throws std::bad_alloc.
std::unique_ptr<Decoder> make_decoder(Compression compression);

}  // namespace hum::boot
