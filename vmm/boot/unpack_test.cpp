// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/unpack.h"

#include "vmm/boot/testing.h"

namespace hum::boot {
namespace {

using namespace test;

constexpr Compression all_formats[] = {Compression::gzip, Compression::xz,  Compression::lzma,
                                       Compression::zstd, Compression::lz4, Compression::bzip2};

// Collects the pieces; offers a place of its own for those that lie in [place_begin, end).
class Collector final : public PieceSink {
 public:
  explicit Collector(std::size_t size, std::size_t place_begin = SIZE_MAX)
      : image_(size), place_begin_(place_begin) {}

  std::span<std::byte> place_for(std::uint64_t offset, std::uint64_t size) override {
    if (offset < place_begin_ || size > image_.size() - offset) return {};
    return std::span(image_).subspan(offset, size);
  }
  void deliver(std::uint64_t offset, std::span<const std::byte> piece) override {
    CHECK(offset == received_);
    if (image_.data() + offset == piece.data())
      ++in_place_;
    else
      put_bytes(image_, offset, piece);
    received_ += piece.size();
  }

  Bytes image_;
  std::size_t place_begin_;
  std::size_t received_ = 0;
  std::size_t in_place_ = 0;
};

TEST_CASE("every format is told by its first bytes and unpacks to what was packed") {
  const TemporaryFolder folder;
  for (const Compression format : all_formats)
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{1 << 20}, std::size_t{(1 << 20) + 1}, std::size_t{(8 << 20) + 5}}) {
      INFO(to_string(format) << " " << size);
      const Bytes plain = pattern(size);
      const Bytes packed = pack(format, plain);
      CHECK(detect_compression(packed) == format);
      Bytes content = pattern(3);
      put_bytes(content, 3, packed);
      const BootFile file("kernel", folder.write("packed", content));
      Collector sink(size);
      unpack(file, {3, packed.size(), format, size}, sink);
      CHECK(sink.received_ == size);
      CHECK(sink.image_ == plain);
    }
}

TEST_CASE("lz4 blocks are unpacked in place where the sink has room") {
  const TemporaryFolder folder;
  const Bytes plain = pattern((24 << 20) + 7);
  const Bytes packed = pack(Compression::lz4, plain);
  const BootFile file("kernel", folder.write("packed", packed));
  Collector sink(plain.size(), 8 << 20);
  unpack(file, {0, packed.size(), Compression::lz4, plain.size()}, sink);
  CHECK(sink.image_ == plain);
  CHECK(sink.in_place_ == 2);
}

TEST_CASE("an image that is longer or shorter than it says is damaged") {
  const TemporaryFolder folder;
  const Bytes plain = pattern(5000);
  for (const Compression format : all_formats) {
    INFO(to_string(format));
    const Bytes packed = pack(format, plain);
    const BootFile file("kernel", folder.write("packed", packed));
    for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{4999}, std::uint64_t{5001}}) {
      Collector sink(6000);
      const ConfigError error = config_error([&] { unpack(file, {0, packed.size(), format, size}, sink); });
      CHECK(error.key() == "kernel");
      CHECK(says(error, "damaged"));
    }
  }
}

TEST_CASE("an image cut anywhere is damaged") {
  const TemporaryFolder folder;
  const Bytes plain = pattern(600);
  for (const Compression format : all_formats) {
    INFO(to_string(format));
    const Bytes packed = pack(format, plain);
    const BootFile file("kernel", folder.write("packed", packed));
    for (std::size_t size = 4; size < packed.size(); ++size) {
      Collector sink(plain.size());
      CHECK_THROWS_AS(unpack(file, {0, size, format, plain.size()}, sink), ConfigError);
    }
  }
}

TEST_CASE("no damaged byte can do worse than a configuration error") {
  const TemporaryFolder folder;
  const Bytes plain = pattern(600);
  for (const Compression format : all_formats) {
    const Bytes packed = pack(format, plain);
    for (std::size_t at = 0; at < packed.size(); ++at) {
      Bytes changed = packed;
      changed[at] ^= std::byte{0xff};
      const BootFile file("kernel", folder.write("packed", changed));
      Collector sink(plain.size());
      try {
        unpack(file, {0, packed.size(), format, plain.size()}, sink);
        CHECK(sink.received_ == plain.size());
      } catch (const ConfigError&) {
        CHECK(sink.received_ <= plain.size());
      }
    }
  }
}

TEST_CASE("lz4 blocks have to be 8 MiB but the last, and inside of the payload") {
  const TemporaryFolder folder;
  const Bytes first = pack(Compression::lz4, pattern(100));
  Bytes two = first;
  put_bytes(two, two.size(), std::span(first).subspan(4));
  const BootFile file("kernel", folder.write("packed", two));
  Collector sink(1000);
  CHECK(says(config_error([&] { unpack(file, {0, two.size(), Compression::lz4, 200}, sink); }),
             "too many blocks"));
  CHECK(says(config_error([&] { unpack(file, {0, two.size(), Compression::lz4, 9 << 20}, sink); }),
             "too short"));
  Bytes large = first;
  put(large, 4, 4, first.size() - 7);
  const BootFile beyond("kernel", folder.write("packed", large));
  CHECK(says(config_error([&] { unpack(beyond, {0, large.size(), Compression::lz4, 100}, sink); }),
             "beyond its end"));
}

TEST_CASE("unknown bytes are no format") {
  CHECK(detect_compression(pattern(6)) == Compression::unknown);
  CHECK(detect_compression({}) == Compression::unknown);
  CHECK(detect_compression(text_bytes("\x89LZO\r\n")) == Compression::unknown);
}

}  // namespace
}  // namespace hum::boot
