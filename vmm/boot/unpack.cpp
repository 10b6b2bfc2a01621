// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/unpack.h"

#include <lz4.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/boot/decoders.h"

namespace hum::boot {
namespace {

constexpr std::size_t input_chunk = 256 * 1024;
constexpr std::size_t output_chunk = 1024 * 1024;

// The lz4 "legacy" frame: a magic number, then blocks, each a 4-byte compressed size and the data; every
// block but the last unpacks to exactly 8 MiB (lz4_Frame_format.md, "Legacy frame").
constexpr std::uint32_t lz4_magic = 0x184c2102;
constexpr std::size_t lz4_block_size = 8 << 20;

[[noreturn]] void fail_damaged(const BootFile& file, const PackedImage& image, const std::string& how) {
  file.fail("its " + std::string(to_string(image.compression)) + " payload is damaged: " + how,
            "copy or download it again");
}

[[noreturn]] void fail_size(const BootFile& file, const PackedImage& image, std::uint64_t size) {
  fail_damaged(file, image,
               "it unpacks to " + std::to_string(size) + " bytes or more instead of " +
                   std::to_string(image.unpacked_size));
}

void unpack_stream(const BootFile& file, const PackedImage& image, PieceSink& sink) {
  const std::unique_ptr<Decoder> decoder = make_decoder(image.compression);
  const auto input = std::make_unique_for_overwrite<std::byte[]>(input_chunk);
  const auto output = std::make_unique_for_overwrite<std::byte[]>(output_chunk);
  std::span<const std::byte> in;
  std::uint64_t taken = 0;
  std::uint64_t delivered = 0;
  bool finished = false;
  while (!finished) {
    std::span<std::byte> out(output.get(), output_chunk);
    while (!out.empty() && !finished) {
      if (in.empty() && taken < image.size) {
        const std::span<std::byte> piece(input.get(),
                                         std::min<std::uint64_t>(input_chunk, image.size - taken));
        file.read_at(image.offset + taken, piece);
        taken += piece.size();
        in = piece;
      }
      const std::pair before(in.size(), out.size());
      const Decoder::Result result = decoder->decode(in, out);
      if (result == Decoder::Result::damaged) fail_damaged(file, image, "its data makes no sense");
      finished = result == Decoder::Result::finished;
      if (!finished && before == std::pair(in.size(), out.size()))
        fail_damaged(file, image, "its data ends too early");
    }
    const std::size_t size = output_chunk - out.size();
    if (size > image.unpacked_size - delivered) fail_size(file, image, delivered + size);
    sink.deliver(delivered, {output.get(), size});
    delivered += size;
  }
  if (delivered != image.unpacked_size) fail_damaged(file, image, "its data ends too early");
}

struct Lz4Block {
  std::uint64_t offset;
  std::uint32_t size;
};

std::vector<Lz4Block> find_lz4_blocks(const BootFile& file, const PackedImage& image) {
  std::vector<Lz4Block> blocks;
  const std::uint64_t limit = image.unpacked_size / lz4_block_size + 1;
  std::uint64_t at = sizeof lz4_magic;
  while (image.size - at >= sizeof(le32)) {
    le32 size;
    file.read_at(image.offset + at, writable_bytes_of(size));
    at += sizeof size;
    if (size == 0) break;
    if (size > image.size - at) fail_damaged(file, image, "a block lies beyond its end");
    if (size > LZ4_COMPRESSBOUND(lz4_block_size)) fail_damaged(file, image, "a block is too large");
    if (blocks.size() == limit) fail_damaged(file, image, "it has too many blocks");
    blocks.push_back({image.offset + at, size});
    at += size;
  }
  return blocks;
}

void unpack_lz4(const BootFile& file, const PackedImage& image, PieceSink& sink) {
  const std::vector<Lz4Block> blocks = find_lz4_blocks(file, image);
  std::uint32_t largest = 0;
  for (const Lz4Block& block : blocks) largest = std::max(largest, block.size);
  const auto input = std::make_unique_for_overwrite<std::byte[]>(largest);
  std::unique_ptr<std::byte[]> output;
  std::uint64_t delivered = 0;
  for (const Lz4Block& block : blocks) {
    file.read_at(block.offset, {input.get(), block.size});
    std::span<std::byte> out = sink.place_for(delivered, lz4_block_size);
    if (out.empty()) {
      if (!output) output = std::make_unique_for_overwrite<std::byte[]>(lz4_block_size);
      out = {output.get(), lz4_block_size};
    }
    const int result =
        ::LZ4_decompress_safe(reinterpret_cast<const char*>(input.get()), reinterpret_cast<char*>(out.data()),
                              static_cast<int>(block.size), static_cast<int>(lz4_block_size));
    if (result <= 0) fail_damaged(file, image, "its data makes no sense");
    const auto size = static_cast<std::size_t>(result);
    if (size > image.unpacked_size - delivered) fail_size(file, image, delivered + size);
    if (size != lz4_block_size && &block != &blocks.back())
      fail_damaged(file, image, "a block in its middle is too short");
    sink.deliver(delivered, out.first(size));
    delivered += size;
  }
  if (delivered != image.unpacked_size) fail_damaged(file, image, "its data ends too early");
}

template <std::size_t size>
bool starts_with(std::span<const std::byte> bytes, const std::array<std::uint8_t, size>& magic) {
  return bytes.size() >= size && std::equal(magic.begin(), magic.end(), bytes.begin(),
                                            [](std::uint8_t a, std::byte b) { return std::byte{a} == b; });
}

}  // namespace

std::string_view to_string(Compression compression) {
  switch (compression) {
    case Compression::gzip:
      return "gzip";
    case Compression::xz:
      return "xz";
    case Compression::lzma:
      return "lzma";
    case Compression::zstd:
      return "zstd";
    case Compression::lz4:
      return "lz4";
    case Compression::bzip2:
      return "bzip2";
    case Compression::unknown:
      break;
  }
  return "unknown";
}

Compression detect_compression(std::span<const std::byte> first) {
  if (starts_with<2>(first, {0x1f, 0x8b})) return Compression::gzip;
  if (starts_with<6>(first, {0xfd, '7', 'z', 'X', 'Z', 0})) return Compression::xz;
  if (starts_with<3>(first, {0x5d, 0, 0})) return Compression::lzma;
  if (starts_with<4>(first, {0x28, 0xb5, 0x2f, 0xfd})) return Compression::zstd;
  if (starts_with<4>(first, {0x02, 0x21, 0x4c, 0x18})) return Compression::lz4;
  if (starts_with<3>(first, {'B', 'Z', 'h'})) return Compression::bzip2;
  return Compression::unknown;
}

void unpack(const BootFile& file, const PackedImage& image, PieceSink& sink) {
  if (image.compression == Compression::lz4)
    unpack_lz4(file, image, sink);
  else
    unpack_stream(file, image, sink);
}

}  // namespace hum::boot
