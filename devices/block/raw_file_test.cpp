// SPDX-License-Identifier: Apache-2.0
#include "devices/block/raw_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include "devices/temporary_file.h"
#include "devices/virtio_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::config_error_of;
using testing::contains;
using testing::TemporaryFile;

// A file with one call that goes wrong: it transfers 7 bytes only, or fails.
class FaultyFile final : public RawFile {
 public:
  FaultyFile(const TemporaryFile& file, std::uint64_t size) : RawFile(open_file(file.path(), O_RDWR), size) {}

  static constexpr int is_short = 0;
  void fail_at(int call, int error) {
    fault_ = call;
    error_ = error;
    calls = 0;
  }

  int calls = 0;

 private:
  ssize_t read_some(std::span<const iovec> to, std::uint64_t offset) override {
    if (calls++ != fault_) return RawFile::read_some(to, offset);
    if (error_ == is_short) return RawFile::read_some(short_part(to), offset);
    errno = error_;
    return -1;
  }
  ssize_t write_some(std::span<const iovec> from, std::uint64_t offset) override {
    if (calls++ != fault_) return RawFile::write_some(from, offset);
    if (error_ == is_short) return RawFile::write_some(short_part(from), offset);
    errno = error_;
    return -1;
  }
  int sync() override {
    if (calls++ != fault_) return RawFile::sync();
    errno = error_;
    return -1;
  }
  std::span<const iovec> short_part(std::span<const iovec> parts) {
    part_ = {parts.front().iov_base, std::min<std::size_t>(parts.front().iov_len, 7)};
    return {&part_, 1};
  }

  int fault_ = -1;
  int error_ = 0;
  iovec part_ = {};
};

// Bytes that tell their place, in parts of the given size.
struct Pattern {
  Pattern(std::size_t count, std::size_t part, bool filled) : bytes(count * part) {
    if (filled)
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 256);
    for (std::size_t i = 0; i < count; ++i) parts.push_back({bytes.data() + i * part, part});
  }
  std::vector<std::byte> bytes;
  std::vector<iovec> parts;
};

TEST_CASE("what is written to an image at an offset is read back from there, in any number of parts") {
  for (const std::size_t count :
       {std::size_t{1}, std::size_t{IOV_MAX}, std::size_t{IOV_MAX} + 1, std::size_t{2500}}) {
    const TemporaryFile file(2 << 20);
    const auto image = RawFile::open("disk.path", file.path(), false);
    const Pattern out(count, 512, true);
    Pattern in(count, 512, false);
    CHECK(image->size() == 2 << 20);
    CHECK(image->write(out.parts, 4096) == BlockResult::ok);
    CHECK(image->read(in.parts, 4096) == BlockResult::ok);
    CHECK(in.bytes == out.bytes);
    Pattern before(1, 4096, true);
    CHECK(image->read(before.parts, 0) == BlockResult::ok);
    CHECK(before.bytes == std::vector<std::byte>(4096));
  }
}

TEST_CASE("a transfer that the host cuts short or interrupts, at any call, is completed") {
  const TemporaryFile file(1 << 20);
  for (const int error : {FaultyFile::is_short, EINTR}) {
    FaultyFile image(file, 1 << 20);
    const Pattern out(1500, 16, true);
    int faults = 0;
    for (int call = 0; call < image.calls || call == 0; ++call, ++faults) {
      image.fail_at(call, error);
      REQUIRE(image.write(out.parts, 512) == BlockResult::ok);
      Pattern in(1500, 16, false);
      image.fail_at(call, error);
      REQUIRE(image.read(in.parts, 512) == BlockResult::ok);
      CHECK(in.bytes == out.bytes);
    }
    CHECK(faults >= 3);
  }
}

TEST_CASE("an error of the host, at any call, is the result of the transfer and ends it") {
  struct Row {
    int error;
    BlockResult result;
  };
  for (const Row row : {Row{EIO, BlockResult::io_error}, Row{ENOSPC, BlockResult::no_space},
                        Row{EDQUOT, BlockResult::no_space}, Row{EBADF, BlockResult::io_error}}) {
    const TemporaryFile file(1 << 20);
    FaultyFile image(file, 1 << 20);
    Pattern data(2500, 16, true);
    for (int call = 0; call < 3; ++call) {
      image.fail_at(call, row.error);
      CHECK(image.write(data.parts, 0) == row.result);
      CHECK(image.calls == call + 1);
      image.fail_at(call, row.error);
      CHECK(image.read(data.parts, 0) == row.result);
      CHECK(image.calls == call + 1);
    }
    image.fail_at(3, row.error);
    CHECK(image.write(data.parts, 0) == BlockResult::ok);
    image.fail_at(0, row.error);
    CHECK(image.flush() == row.result);
  }
}

TEST_CASE("an image that was cut behind our back gives an error and no zeroes") {
  const TemporaryFile file(4096);
  const auto image = RawFile::open("disk.path", file.path(), true);
  REQUIRE(::truncate(file.path().c_str(), 1024) == 0);
  Pattern in(1, 1024, true);
  CHECK(image->read(in.parts, 0) == BlockResult::ok);
  CHECK(image->read(in.parts, 512) == BlockResult::io_error);
  CHECK(image->read(in.parts, 1024) == BlockResult::io_error);
}

TEST_CASE("a flush is one fdatasync, repeated only when interrupted") {
  const TemporaryFile file(4096);
  FaultyFile image(file, 4096);
  CHECK(image.flush() == BlockResult::ok);
  CHECK(image.calls == 1);
  image.fail_at(0, EINTR);
  CHECK(image.flush() == BlockResult::ok);
  CHECK(image.calls == 2);
  // A pipe cannot be synced, which shows that the call is made.
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const Fd other(ends[0]);
  CHECK(RawFile(Fd(ends[1]), 0).flush() == BlockResult::io_error);
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
