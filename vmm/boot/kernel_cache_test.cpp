// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/kernel_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "vmm/boot/testing.h"

namespace hum::boot {
namespace {

using namespace test;
namespace fs = std::filesystem;

constexpr std::uint64_t mib = 1 << 20;

struct Bench {
  Bench() {
    TestElf elf;
    elf.pvh_entry = mib;
    elf.segments = {{mib, pattern(0x3000), 0x4000, 0}};
    use(elf, Compression::zstd);
    request.cache_folder = folder.path("above/cache");
  }
  void use(const TestElf& elf, Compression compression) {
    unpacked = elf.build();
    request.kernel_path = folder.write("kernel", TestBzImage::packing(unpacked, compression).build());
    entry = folder.path("above/cache/" + BootFile("kernel", request.kernel_path).digest() + ".elf");
  }
  LoadedKernel load() {
    guest.memory.fill_zero({{mib}, 2 * mib});
    LoadedKernel kernel = guest.load(request);
    CHECK(kernel.entry.rip == mib);
    CHECK(guest.bytes(mib, 0x3000) == pattern(0x3000));
    return kernel;
  }
  Bytes entry_content() const {
    std::ifstream in(entry, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    return text_bytes(text);
  }
  std::size_t files() const {
    const auto folder_files = fs::directory_iterator(request.cache_folder);
    return static_cast<std::size_t>(std::distance(begin(folder_files), end(folder_files)));
  }

  TemporaryFolder folder;
  Guest guest{16};
  BootRequest request;
  Bytes unpacked;
  std::string entry;
};

TEST_CASE("an unpacked kernel is kept in a private folder and used the next time") {
  Bench bench;
  const LoadedKernel first = bench.load();
  CHECK_FALSE(first.from_cache);
  CHECK(bench.entry == bench.request.cache_folder + "/" + first.digest + ".elf");
  CHECK(bench.entry_content() == bench.unpacked);
  CHECK(bench.files() == 1);
  CHECK(fs::status(bench.entry).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(fs::status(bench.request.cache_folder).permissions() == fs::perms::owner_all);

  const LoadedKernel second = bench.load();
  CHECK(second.from_cache);
  CHECK(second.digest == first.digest);
  CHECK(second.protocol == BootProtocol::pvh);
}

TEST_CASE("an entry with the wrong size, content or rights is replaced, never used") {
  Bench bench;
  bench.load();
  const auto check_replaced = [&] {
    CHECK_FALSE(bench.load().from_cache);
    CHECK(bench.entry_content() == bench.unpacked);
    CHECK(bench.load().from_cache);
  };
  fs::resize_file(bench.entry, bench.unpacked.size() - 1);
  check_replaced();
  fs::resize_file(bench.entry, bench.unpacked.size() + 1);
  check_replaced();
  {
    std::fstream file(bench.entry, std::ios::binary | std::ios::in | std::ios::out);
    file.put('\0');
  }
  check_replaced();
  REQUIRE(::chmod(bench.entry.c_str(), 0620) == 0);
  check_replaced();
  fs::rename(bench.entry, bench.folder.path("elsewhere"));
  fs::create_symlink(bench.folder.path("elsewhere"), bench.entry);
  check_replaced();
}

TEST_CASE("a cache that cannot be written is no error") {
  Bench bench;
  bench.request.cache_folder = bench.request.kernel_path + "/cache";
  CHECK_FALSE(bench.load().from_cache);
  bench.request.cache_folder = "/proc/self/cache";
  CHECK_FALSE(bench.load().from_cache);
}

TEST_CASE("what a writer that died left behind is taken over") {
  Bench bench;
  fs::create_directories(bench.request.cache_folder);
  bench.folder.write("above/cache/" + fs::path(bench.entry).filename().string() + ".partial",
                     pattern(bench.unpacked.size() + 100));
  CHECK_FALSE(bench.load().from_cache);
  CHECK(bench.files() == 1);
  CHECK(bench.entry_content() == bench.unpacked);
}

TEST_CASE("what another writer is busy with is left to it") {
  Bench bench;
  fs::create_directories(bench.request.cache_folder);
  const Fd other(::open((bench.entry + ".partial").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  REQUIRE(::flock(other.get(), LOCK_EX) == 0);
  CHECK_FALSE(bench.load().from_cache);
  CHECK(fs::file_size(bench.entry + ".partial") == 0);
  CHECK_FALSE(fs::exists(bench.entry));
}

TEST_CASE("a damaged payload leaves nothing in the cache") {
  Bench bench;
  TestBzImage image = TestBzImage::packing(bench.unpacked, Compression::zstd);
  image.unpacked_size = *image.unpacked_size + 1;
  bench.request.kernel_path = bench.folder.write("kernel", image.build());
  CHECK_THROWS_AS(bench.guest.load(bench.request), ConfigError);
  CHECK(bench.files() == 0);
}

TEST_CASE("lz4 payloads are not cached, and nothing is hashed for them") {
  Bench bench;
  TestElf elf;
  elf.pvh_entry = mib;
  elf.segments = {{mib, pattern(0x3000), 0x4000, 0}};
  bench.use(elf, Compression::lz4);
  CHECK(bench.load().digest.empty());
  CHECK_FALSE(fs::exists(bench.request.cache_folder));
}

}  // namespace
}  // namespace hum::boot
