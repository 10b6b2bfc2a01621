// SPDX-License-Identifier: Apache-2.0
#include "devices/block/raw_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "devices/block/block_engines.h"
#include "devices/block/testing.h"
#include "devices/temporary_file.h"
#include "devices/virtio_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::config_error_of;
using testing::contains;
using Kind = BlockOperation::Kind;
using testing::Pattern;
using testing::perform;
using testing::TemporaryFile;
using testing::TestOperation;

TEST_CASE("what is written to an image at an offset is read back from there, through each kind of cache") {
  for (const BlockCache cache : {BlockCache::writeback, BlockCache::direct, BlockCache::unsafe}) {
    const TemporaryFile file(1 << 20);
    const auto engine = make_block_engine(BlockEngineKind::automatic, 8);
    std::unique_ptr<RawFile> image;
    try {
      image = RawFile::open("disk.path", file.path(), false, cache);
    } catch (const ConfigError& error) {  // a file system without O_DIRECT says so
      CHECK(cache == BlockCache::direct);
      CHECK(contains(error.what(), "cache=writeback"));
      continue;
    }
    CHECK(image->size() == 1 << 20);
    // Aligned, aligned nowhere, and aligned but in small parts.
    Pattern aligned(1, 8192 + 4096, true);
    Pattern unaligned(3, 512, true);
    Pattern parts(16, 512, true);
    auto* const begin = reinterpret_cast<std::byte*>(
        (reinterpret_cast<std::uintptr_t>(aligned.bytes.data()) + 4095) / 4096 * 4096);
    const auto page = [&](Kind kind, std::uint64_t offset) {
      return TestOperation(kind, offset, 8192, {{begin, 8192}});
    };
    CHECK(perform(*image, *engine, page(Kind::write, 65536)) == BlockResult::ok);
    CHECK(perform(*image, *engine, unaligned.operation(Kind::write, 512)) == BlockResult::ok);
    CHECK(perform(*image, *engine, parts.operation(Kind::write, 131072)) == BlockResult::ok);
    CHECK(perform(*image, *engine, {Kind::flush, 0, 0}) == BlockResult::ok);
    const std::vector<std::byte> written(begin, begin + 8192);
    std::fill_n(begin, 8192, std::byte{0});
    Pattern some(3, 512, false);
    Pattern many(16, 512, false);
    CHECK(perform(*image, *engine, page(Kind::read, 65536)) == BlockResult::ok);
    CHECK(perform(*image, *engine, some.operation(Kind::read, 512)) == BlockResult::ok);
    CHECK(perform(*image, *engine, many.operation(Kind::read, 131072)) == BlockResult::ok);
    CHECK(std::equal(written.begin(), written.end(), begin));
    CHECK(some.bytes == unaligned.bytes);
    CHECK(many.bytes == parts.bytes);
  }
}

TEST_CASE("an image says how it is divided into blocks, and what it can") {
  const TemporaryFile file(4096);
  const auto image = RawFile::open("disk.path", file.path(), false);
  CHECK(image->logical_block_size() == 512);
  CHECK(image->physical_block_size() == 4096);
  const auto reader = [&] {
    const TemporaryFile other(4096);
    return RawFile::open("disk.path", other.path(), true);
  }();
  CHECK_FALSE(reader->has_discard());
}

TEST_CASE("asking what an image can leaves it as it was") {
  const TemporaryFile file(4096);
  struct stat before = {};
  struct stat after = {};
  REQUIRE(::stat(file.path().c_str(), &before) == 0);
  RawFile::open("disk.path", file.path(), false);
  REQUIRE(::stat(file.path().c_str(), &after) == 0);
  CHECK(after.st_size == before.st_size);
  CHECK(after.st_blocks == before.st_blocks);
}

TEST_CASE("flushes of an unsafe image do nothing, those of another one reach the host") {
  class NoEngine final : public BlockEngine {
   public:
    void start(int, BlockOperation& operation) override {
      ++started;
      operation.finished(BlockResult::io_error);
    }
    void submit() override {}
    int ready_fd() const override { return -1; }
    bool reap() override { return false; }
    void drain() override {}
    int started = 0;
  };
  const TemporaryFile file(4096);
  NoEngine engine;
  CHECK(perform(*RawFile::open("disk.path", file.path(), false, BlockCache::unsafe), engine,
                {Kind::flush, 0, 0}) == BlockResult::ok);
  CHECK(engine.started == 0);
  CHECK(perform(*RawFile::open("disk.path", file.path(), false), engine, {Kind::flush, 0, 0}) ==
        BlockResult::io_error);
  CHECK(engine.started == 1);
}

TEST_CASE("an image that cannot be opened is refused with its path and what helps") {
  const TemporaryFile file(4096);
  const auto refusal = [](const std::string& path, bool read_only) {
    return config_error_of([&] { RawFile::open("disk.path", path, read_only); });
  };
  const std::string missing = file.path() + ".missing";
  CHECK(contains(refusal(missing, false), "disk.path '" + missing + "': no such file"));
  CHECK(contains(refusal(file.path() + "/below", true), "no such file"));
  CHECK(contains(refusal("/tmp", true), "is a directory"));
  CHECK(contains(refusal("/tmp", false), "is a directory"));
  CHECK(contains(refusal("/dev/null", true), "neither a file nor a block device"));
  REQUIRE(::mkfifo(missing.c_str(), 0600) == 0);
  CHECK(contains(refusal(missing, true), "neither a file nor a block device"));
  CHECK(contains(refusal(missing, false), "neither a file nor a block device"));
  ::unlink(missing.c_str());
  // A program that runs can be read and not be written, by root too.
  CHECK(contains(refusal("/proc/self/exe", false), "is not writable; make it writable, or add readonly=on"));
}

TEST_CASE("an image that this user may not read is refused") {
  const TemporaryFile file(4096);
  REQUIRE(::chmod(file.path().c_str(), 0) == 0);
  const uid_t user = ::geteuid();
  if (user == 0) REQUIRE(::seteuid(65534) == 0);
  const std::string text = config_error_of([&] { RawFile::open("disk.path", file.path(), false); });
  if (user == 0) REQUIRE(::seteuid(0) == 0);
  CHECK(contains(text, "permission denied"));
}

TEST_CASE("an empty image can be opened") {
  const TemporaryFile file(0);
  CHECK(RawFile::open("disk.path", file.path(), false)->size() == 0);
}

TEST_CASE("an image grows with zeroes and shrinks, and keeps its size where it is only read") {
  const TemporaryFile file(8192);
  const auto engine = make_block_engine(BlockEngineKind::automatic, 8);
  {
    const auto image = RawFile::open("disk.path", file.path(), false);
    Pattern content(1, 512, true);
    CHECK(perform(*image, *engine, content.operation(Kind::write, 8192 - 512)) == BlockResult::ok);
    CHECK(image->resize(*engine, 1 << 20) == BlockResult::ok);
    CHECK(image->size() == 1 << 20);
    CHECK(std::filesystem::file_size(file.path()) == 1 << 20);
    Pattern there(1, 1024, true);
    CHECK(perform(*image, *engine, there.operation(Kind::read, 8192 - 512)) == BlockResult::ok);
    CHECK(std::equal(content.bytes.begin(), content.bytes.end(), there.bytes.begin()));
    CHECK(std::count(there.bytes.begin() + 512, there.bytes.end(), std::byte{0}) == 512);
    CHECK(image->resize(*engine, 4096) == BlockResult::ok);
    CHECK(image->size() == 4096);
    CHECK(image->resize(*engine, std::uint64_t{1} << 63) == BlockResult::unsupported);
    CHECK(image->size() == 4096);
  }
  const auto reader = RawFile::open("disk.path", file.path(), true);
  CHECK(reader->resize(*engine, 8192) == BlockResult::unsupported);
  CHECK(reader->size() == 4096);
  CHECK(std::filesystem::file_size(file.path()) == 4096);
}

TEST_CASE("a writer has an image alone, readers share it, and the lock ends with the image") {
  const TemporaryFile file(4096);
  const auto open = [&](bool read_only) { return RawFile::open("disk.path", file.path(), read_only); };
  {
    const auto writer = open(false);
    CHECK(writer->locked());
    CHECK(contains(config_error_of([&] { open(false); }), file.path() + "': is in use"));
    CHECK(contains(config_error_of([&] { open(true); }), "readonly=on"));
  }
  const auto reader = open(true);
  CHECK(open(true)->locked());
  CHECK_THROWS_AS(open(false), ConfigError);
}

}  // namespace
}  // namespace hum
