// SPDX-License-Identifier: Apache-2.0
#include "devices/block/block_engines.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <deque>
#include <functional>

#include "devices/block/file_operation.h"
#include "devices/block/testing.h"
#include "devices/temporary_file.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using Kind = BlockOperation::Kind;
using testing::Pattern;
using testing::perform;
using testing::TemporaryFile;
using testing::TestOperation;

// Both kinds, but io_uring only where the host has it.
void for_each_engine(const std::function<void(BlockEngine&)>& check) {
  for (const BlockEngineKind kind : {BlockEngineKind::automatic, BlockEngineKind::threads})
    check(*make_block_engine(kind, 8));
}

Fd memory_file(std::uint64_t size) {
  Fd file(::memfd_create("test", MFD_CLOEXEC));
  REQUIRE(::ftruncate(file.get(), static_cast<off_t>(size)) == 0);
  return file;
}

TEST_CASE("what an engine writes to a file at an offset it reads back from there, in any number of parts") {
  for_each_engine([](BlockEngine& engine) {
    for (const std::size_t count :
         {std::size_t{1}, std::size_t{IOV_MAX}, std::size_t{IOV_MAX} + 1, std::size_t{2500}}) {
      const Fd file = memory_file(2 << 20);
      Pattern out(count, 512, true);
      Pattern in(count, 512, false);
      Pattern before(1, 4096, true);
      CHECK(perform(file.get(), engine, out.operation(Kind::write, 4096)) == BlockResult::ok);
      CHECK(perform(file.get(), engine, in.operation(Kind::read, 4096)) == BlockResult::ok);
      CHECK(in.bytes == out.bytes);
      CHECK(perform(file.get(), engine, before.operation(Kind::read, 0)) == BlockResult::ok);
      CHECK(before.bytes == std::vector<std::byte>(4096));
    }
  });
}

TEST_CASE("an engine has more operations under way than it has entries, and says when some are done") {
  for_each_engine([](BlockEngine& engine) {
    constexpr std::size_t count = 200;
    const TemporaryFile image(count * 4096);
    const Fd file = open_file(image.path(), O_RDWR);
    std::deque<Pattern> data;
    std::deque<TestOperation> operations;
    for (std::size_t i = 0; i < count; ++i) {
      data.emplace_back(1, 4096, true);
      data.back().bytes[0] = static_cast<std::byte>(i);
      operations.push_back(data.back().operation(Kind::write, i * 4096));
      engine.start(file.get(), operations.back());
    }
    engine.submit();
    const auto finished = [&] {
      return std::all_of(operations.begin(), operations.end(),
                         [](const TestOperation& each) { return each.outcome == BlockResult::ok; });
    };
    while (true) {
      engine.reap();
      if (finished()) break;
      pollfd ready{engine.ready_fd(), POLLIN, 0};
      REQUIRE(::poll(&ready, 1, 10'000) == 1);
    }
    for (std::size_t i = 0; i < count; ++i) {
      std::byte first{};
      REQUIRE(::pread(file.get(), &first, 1, static_cast<off_t>(i * 4096)) == 1);
      CHECK(first == static_cast<std::byte>(i));
    }
  });
}

TEST_CASE("an operation may start the next one when it is finished") {
  class Chain final : public BlockOperation {
   public:
    Chain(BlockEngine& engine, int target) : engine_(engine), target_(target) { kind = Kind::flush; }
    void finished(BlockResult how) override {
      CHECK(how == BlockResult::ok);
      if (++count < 20) engine_.start(target_, *this);
    }
    int count = 0;

   private:
    BlockEngine& engine_;
    int target_;
  };
  for_each_engine([](BlockEngine& engine) {
    const TemporaryFile image(4096);
    const Fd file = open_file(image.path(), O_RDWR);
    Chain chain(engine, file.get());
    engine.start(file.get(), chain);
    engine.drain();
    CHECK(chain.count == 20);
  });
}

TEST_CASE("discarded and zeroed ranges read as zeroes, and their neighbours stay") {
  for_each_engine([](BlockEngine& engine) {
    const Fd file = memory_file(64 << 10);
    Pattern all(16, 4096, true);
    REQUIRE(perform(file.get(), engine, all.operation(Kind::write, 0)) == BlockResult::ok);
    CHECK(perform(file.get(), engine, {Kind::discard, 8192, 4096}) == BlockResult::ok);
    TestOperation zeroes(Kind::write_zeroes, 32768, 4096);
    zeroes.may_unmap = true;
    CHECK(perform(file.get(), engine, std::move(zeroes)) == BlockResult::ok);
    std::fill_n(all.bytes.begin() + 8192, 4096, std::byte{0});
    std::fill_n(all.bytes.begin() + 32768, 4096, std::byte{0});
    Pattern now(16, 4096, false);
    CHECK(perform(file.get(), engine, now.operation(Kind::read, 0)) == BlockResult::ok);
    CHECK(now.bytes == all.bytes);
    // Memory has no other way to zeroes.
    CHECK(perform(file.get(), engine, {Kind::write_zeroes, 0, 4096}) == BlockResult::unsupported);
  });
}

TEST_CASE("an error of the host is the result of the operation") {
  for_each_engine([](BlockEngine& engine) {
    Pattern data(2, 512, true);
    const Fd full = open_file("/dev/full", O_RDWR);
    CHECK(perform(full.get(), engine, data.operation(Kind::write, 0)) == BlockResult::no_space);
    const Fd folder = open_file("/", O_RDONLY);
    CHECK(perform(folder.get(), engine, data.operation(Kind::read, 0)) == BlockResult::io_error);
    CHECK(perform(-1, engine, data.operation(Kind::write, 0)) == BlockResult::io_error);
    // A pipe cannot be synced, which shows that the call is made.
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const Fd reader(ends[0]);
    const Fd writer(ends[1]);
    CHECK(perform(writer.get(), engine, {Kind::flush, 0, 0}) == BlockResult::io_error);
  });
}

TEST_CASE("a read behind the end of a file that has become shorter is an error and no zeroes") {
  for_each_engine([](BlockEngine& engine) {
    const Fd file = memory_file(1024);
    Pattern data(1, 1024, true);
    CHECK(perform(file.get(), engine, data.operation(Kind::read, 0)) == BlockResult::ok);
    CHECK(perform(file.get(), engine, data.operation(Kind::read, 512)) == BlockResult::io_error);
    CHECK(perform(file.get(), engine, data.operation(Kind::read, 1024)) == BlockResult::io_error);
  });
}

TEST_CASE("what the host transfers in part is continued where it stopped, wherever that is") {
  constexpr std::size_t count = 5;
  constexpr std::size_t part = 7;
  for (std::size_t done = 1; done < count * part; ++done) {
    Pattern data(count, part, true);
    TestOperation operation = data.operation(Kind::write, 1000);
    CHECK_FALSE(take_result(operation, static_cast<ssize_t>(done)));
    CHECK(operation.offset == 1000 + done);
    CHECK(operation.size == count * part - done);
    std::vector<std::byte> rest;
    for (const iovec& each : operation.buffers) {
      const auto* const bytes = static_cast<const std::byte*>(each.iov_base);
      rest.insert(rest.end(), bytes, bytes + each.iov_len);
    }
    CHECK(rest ==
          std::vector<std::byte>(data.bytes.begin() + static_cast<std::ptrdiff_t>(done), data.bytes.end()));
    CHECK(take_result(operation, static_cast<ssize_t>(count * part - done)) == BlockResult::ok);
  }
}

TEST_CASE("an interrupted call is repeated, a failed one is not") {
  Pattern data(1, 512, true);
  TestOperation operation = data.operation(Kind::read, 0);
  for (const int error : {EINTR, EAGAIN}) CHECK_FALSE(take_result(operation, -error));
  for (const int error : {EIO, EBADF, EINVAL}) CHECK(take_result(operation, -error) == BlockResult::io_error);
  for (const int error : {ENOSPC, EDQUOT}) CHECK(take_result(operation, -error) == BlockResult::no_space);
  CHECK(take_result(operation, -EOPNOTSUPP) == BlockResult::unsupported);
  CHECK(operation.size == 512);
  CHECK(take_result(operation, 0) == BlockResult::io_error);
}

}  // namespace
}  // namespace hum
