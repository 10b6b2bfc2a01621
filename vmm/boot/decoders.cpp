// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/decoders.h"

#include <bzlib.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <new>

namespace hum::boot {
namespace {

// The memory an xz or lzma image may ask for: dictionaries of kernels have 32 to 128 MiB.
constexpr std::uint64_t dictionary_limit = std::uint64_t{256} << 20;

// zlib, bzip2 and liblzma share one shape of state: next_in, avail_in, next_out, avail_out. Runs one call
// with the spans in it. The library may not write to its input, whatever the type says.
template <class Stream, class Byte, class Count, class Call>
auto step(Stream& stream, std::span<const std::byte>& in, std::span<std::byte>& out, Call call) {
  stream.next_in = reinterpret_cast<Byte*>(const_cast<std::byte*>(in.data()));
  stream.avail_in = static_cast<Count>(in.size());
  stream.next_out = reinterpret_cast<std::remove_const_t<Byte>*>(out.data());
  stream.avail_out = static_cast<Count>(out.size());
  const auto result = call();
  in = in.last(stream.avail_in);
  out = out.last(stream.avail_out);
  return result;
}

class GzipDecoder final : public Decoder {
 public:
  GzipDecoder() {
    constexpr int largest_window_and_gzip_header = 15 + 16;
    if (::inflateInit2(&stream_, largest_window_and_gzip_header) != Z_OK) throw std::bad_alloc();
  }
  ~GzipDecoder() override { ::inflateEnd(&stream_); }

  Result decode(std::span<const std::byte>& in, std::span<std::byte>& out) override {
    const int result =
        step<z_stream, Bytef, uInt>(stream_, in, out, [this] { return ::inflate(&stream_, Z_NO_FLUSH); });
    if (result == Z_STREAM_END) return Result::finished;
    return result == Z_OK || result == Z_BUF_ERROR ? Result::more : Result::damaged;
  }

 private:
  z_stream stream_{};
};

// .xz with all its filters (kernels use x86 BCJ), and the older .lzma.
class LzmaDecoder final : public Decoder {
 public:
  explicit LzmaDecoder(Compression compression) {
    const lzma_ret result = compression == Compression::xz
                                ? ::lzma_stream_decoder(&stream_, dictionary_limit, 0)
                                : ::lzma_alone_decoder(&stream_, dictionary_limit);
    if (result != LZMA_OK) throw std::bad_alloc();
  }
  ~LzmaDecoder() override { ::lzma_end(&stream_); }

  Result decode(std::span<const std::byte>& in, std::span<std::byte>& out) override {
    const lzma_ret result = step<lzma_stream, const std::uint8_t, std::size_t>(
        stream_, in, out, [this] { return ::lzma_code(&stream_, LZMA_RUN); });
    if (result == LZMA_STREAM_END) return Result::finished;
    return result == LZMA_OK || result == LZMA_BUF_ERROR ? Result::more : Result::damaged;
  }

 private:
  lzma_stream stream_{};
};

class Bzip2Decoder final : public Decoder {
 public:
  Bzip2Decoder() {
    if (::BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK) throw std::bad_alloc();
  }
  ~Bzip2Decoder() override { ::BZ2_bzDecompressEnd(&stream_); }

  Result decode(std::span<const std::byte>& in, std::span<std::byte>& out) override {
    const int result =
        step<bz_stream, char, unsigned>(stream_, in, out, [this] { return ::BZ2_bzDecompress(&stream_); });
    if (result == BZ_STREAM_END) return Result::finished;
    return result == BZ_OK ? Result::more : Result::damaged;
  }

 private:
  bz_stream stream_{};
};

class ZstdDecoder final : public Decoder {
 public:
  ZstdDecoder() : stream_(::ZSTD_createDStream(), &::ZSTD_freeDStream) {
    if (!stream_) throw std::bad_alloc();
  }

  Result decode(std::span<const std::byte>& in, std::span<std::byte>& out) override {
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    const std::size_t result = ::ZSTD_decompressStream(stream_.get(), &output, &input);
    in = in.subspan(input.pos);
    out = out.subspan(output.pos);
    if (::ZSTD_isError(result) != 0) return Result::damaged;
    return result == 0 ? Result::finished : Result::more;
  }

 private:
  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream_;
};

}  // namespace

std::unique_ptr<Decoder> make_decoder(Compression compression) {
  switch (compression) {
    case Compression::gzip:
      return std::make_unique<GzipDecoder>();
    case Compression::bzip2:
      return std::make_unique<Bzip2Decoder>();
    case Compression::zstd:
      return std::make_unique<ZstdDecoder>();
    default:
      return std::make_unique<LzmaDecoder>(compression);
  }
}

}  // namespace hum::boot
