// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_compression.h"

#include <zlib.h>
#include <zstd.h>

#include <memory>

namespace hum {
namespace {

constexpr int window_bits = 12;  // as readers expect of raw deflate in qcow2

bool inflate_raw(std::span<const std::byte> from, std::span<std::byte> to) {
  z_stream stream = {};
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(from.data()));
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = reinterpret_cast<Bytef*>(to.data());
  stream.avail_out = static_cast<uInt>(to.size());
  if (::inflateInit2(&stream, -MAX_WBITS) != Z_OK) return false;
  const int result = ::inflate(&stream, Z_FINISH);
  ::inflateEnd(&stream);
  // What follows in the last sector does not belong to it.
  return (result == Z_STREAM_END || result == Z_BUF_ERROR) && stream.avail_out == 0;
}

bool decompress_zstd(std::span<const std::byte> from, std::span<std::byte> to) {
  const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(::ZSTD_createDCtx(), ::ZSTD_freeDCtx);
  if (context == nullptr) return false;
  ZSTD_inBuffer input = {from.data(), from.size(), 0};
  ZSTD_outBuffer output = {to.data(), to.size(), 0};
  while (output.pos < output.size) {
    const std::size_t before = input.pos + output.pos;
    if (::ZSTD_isError(::ZSTD_decompressStream(context.get(), &output, &input)) != 0) return false;
    if (input.pos + output.pos == before) return false;
  }
  return true;
}

std::size_t deflate_raw(std::span<const std::byte> from, std::span<std::byte> to) {
  z_stream stream = {};
  if (::deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -window_bits, 9, Z_DEFAULT_STRATEGY) != Z_OK)
    return 0;
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(from.data()));
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = reinterpret_cast<Bytef*>(to.data());
  stream.avail_out = static_cast<uInt>(to.size());
  const int result = ::deflate(&stream, Z_FINISH);
  const std::size_t size = to.size() - stream.avail_out;
  ::deflateEnd(&stream);
  return result == Z_STREAM_END ? size : 0;
}

}  // namespace

bool decompress_cluster(Qcow2Compression type, std::span<const std::byte> from, std::span<std::byte> to) {
  return type == Qcow2Compression::zstd ? decompress_zstd(from, to) : inflate_raw(from, to);
}

std::vector<std::byte> compress_cluster(Qcow2Compression type, std::span<const std::byte> from) {
  std::vector<std::byte> to(from.size() - 1);
  std::size_t size = 0;
  if (type == Qcow2Compression::zstd) {
    size = ::ZSTD_compress(to.data(), to.size(), from.data(), from.size(), ZSTD_CLEVEL_DEFAULT);
    if (::ZSTD_isError(size) != 0) size = 0;
  } else {
    size = deflate_raw(from, to);
  }
  to.resize(size);
  return to;
}

}  // namespace hum
