// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/initrd_files.h"

#include <array>
#include <cstdio>
#include <map>

#include "vmm/boot/testing.h"

namespace hum::boot {
namespace {

using namespace test;

void pad(Bytes& bytes, std::size_t to) {
  bytes.resize((bytes.size() + to - 1) / to * to);
}

struct Header {
  std::uint32_t size = 0;
  std::uint32_t name_size = 0;
  const char* magic = "070701";
};

void put_header(Bytes& archive, const Header& header) {
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(), "%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
                header.magic, 1u, 0100644u, 0u, 0u, 1u, 0u, header.size, 0u, 0u, 0u, 0u, header.name_size,
                0u);
  put_bytes(archive, archive.size(), text_bytes(text.data()));
}

void put_entry(Bytes& archive, const std::string& name, const Bytes& content) {
  put_header(archive,
             {static_cast<std::uint32_t>(content.size()), static_cast<std::uint32_t>(name.size() + 1)});
  put_bytes(archive, archive.size(), text_bytes(name));
  archive.push_back(std::byte{0});
  pad(archive, 4);
  put_bytes(archive, archive.size(), content);
  pad(archive, 4);
}

Bytes archive_of(const std::map<std::string, std::string>& files) {
  Bytes archive;
  for (const auto& [name, content] : files) put_entry(archive, name, text_bytes(content));
  put_entry(archive, "TRAILER!!!", {});
  pad(archive, 512);
  return archive;
}

Bytes together(const std::vector<Bytes>& parts) {
  Bytes all;
  for (const Bytes& each : parts) all.insert(all.end(), each.begin(), each.end());
  return all;
}

struct Bench {
  TemporaryFolder folder;
  std::vector<std::string> seen;
  std::map<std::string, std::string> contents;

  InitrdFiles examine(const Bytes& bytes) {
    seen.clear();
    contents.clear();
    return examine_initrd(
        folder.write("initrd", bytes),
        [&](std::string_view path) {
          seen.emplace_back(path);
          return path.ends_with("wanted");
        },
        [&](std::string_view path, std::span<const std::byte> content) {
          contents[std::string(path)].assign(reinterpret_cast<const char*>(content.data()), content.size());
        });
  }
};

}  // namespace

TEST_CASE("a bare archive's files are seen, without leading dots and slashes") {
  Bench bench;
  const InitrdFiles files =
      bench.examine(archive_of({{"./init", "x"}, {"/lib/a.ko", "yy"}, {"wanted", "text"}}));
  CHECK(files.problem.empty());
  CHECK(files.count == 3);
  CHECK(files.parts.size() == 1);
  CHECK(files.parts[0].compression.empty());
  CHECK(bench.seen == std::vector<std::string>{"init", "lib/a.ko", "wanted"});
  CHECK(bench.contents == std::map<std::string, std::string>{{"wanted", "text"}});
}

TEST_CASE("archives behind each other, bare and packed in every way, are all read") {
  Bench bench;
  for (const Compression each : {Compression::gzip, Compression::xz, Compression::lzma, Compression::zstd,
                                 Compression::lz4, Compression::bzip2}) {
    INFO(to_string(each));
    const Bytes microcode = archive_of({{"kernel/x86/microcode", "m"}});
    const Bytes main = archive_of({{"init", std::string(300000, 'i')}, {"wanted", "text"}});
    const InitrdFiles files = bench.examine(together({microcode, pack(each, main)}));
    CHECK(files.problem.empty());
    CHECK(files.count == 3);
    REQUIRE(files.parts.size() == 2);
    CHECK(files.parts[0].compression.empty());
    CHECK(files.parts[1].compression == to_string(each));
    CHECK(files.parts[1].offset == microcode.size());
    CHECK(bench.contents["wanted"] == "text");
    if (each == Compression::lz4) continue;  // its frame has no end
    CHECK(bench.examine(together({pack(each, main), Bytes(8), pack(each, microcode)})).count == 3);
  }
}

TEST_CASE("content beyond the limit is cut, and the next file is found") {
  Bench bench;
  const InitrdFiles files =
      bench.examine(archive_of({{"a-wanted", std::string(initrd_content_limit + 5, 'a')}, {"b", ""}}));
  CHECK(files.problem.empty());
  CHECK(bench.contents["a-wanted"].size() == initrd_content_limit);
  CHECK(bench.seen.back() == "b");
}

TEST_CASE("what is no archive is told in words") {
  Bench bench;
  CHECK(bench.examine(text_bytes("hello")).problem.find("no cpio archive") != std::string::npos);
  CHECK(bench.examine(pack(Compression::gzip, text_bytes("hello"))).problem.find("no cpio archive") !=
        std::string::npos);
  const Bytes whole = archive_of({{"init", "x"}});
  const InitrdFiles files = bench.examine(together({whole, text_bytes("rubbish")}));
  CHECK(files.count == 1);
  CHECK(files.problem.find("what follows at byte") != std::string::npos);
  CHECK_THROWS_AS(examine_initrd(
                      bench.folder.path("none"), [](std::string_view) { return false; },
                      [](std::string_view, std::span<const std::byte>) {}),
                  ConfigError);
}

TEST_CASE("an archive without an end is told to be truncated") {
  Bench bench;
  Bytes archive;
  put_entry(archive, "init", text_bytes("x"));
  CHECK(bench.examine(archive).problem.find("truncated") != std::string::npos);
  Bytes packed = pack(Compression::zstd, archive_of({{"init", "x"}}));
  packed.resize(packed.size() - 5);
  CHECK(bench.examine(packed).problem.find("truncated") != std::string::npos);
}

TEST_CASE("hostile lengths in a header end the reading") {
  Bench bench;
  for (const Header& header : {Header{0, 0}, Header{0, 4097}, Header{0, UINT32_MAX}, Header{UINT32_MAX, 5},
                               Header{0, 5, "070700"}, Header{0, 5, "07070g"}}) {
    Bytes archive;
    put_header(archive, header);
    put_bytes(archive, archive.size(), Bytes(64, std::byte{'n'}));
    CHECK_FALSE(bench.examine(archive).problem.empty());
  }
}

TEST_CASE("what unpacks to more than a gibibyte is given up") {
  Bench bench;
  // One file header, and then blocks of lz4 that unpack to 8 MiB of zeros each.
  Bytes archive;
  put_header(archive, {UINT32_MAX, 2});
  archive.resize(8 << 20);
  Bytes bomb = pack(Compression::lz4, archive);
  const Bytes block = pack(Compression::lz4, Bytes(8 << 20));
  for (int i = 0; i < 128; ++i) bomb.insert(bomb.end(), block.begin() + 4, block.end());
  CHECK(bench.examine(bomb).problem.find("1 GiB") != std::string::npos);
}

TEST_CASE("no cut and no changed byte of an initrd leads to more than a problem in words") {
  Bench bench;
  const Bytes plain = archive_of({{"init", "x"}, {"lib/modules/1/a.ko", "content"}, {"wanted", "text"}});
  for (const Bytes& whole : {plain, pack(Compression::gzip, plain), pack(Compression::zstd, plain),
                             pack(Compression::xz, plain), pack(Compression::lz4, plain)}) {
    std::size_t good = 0;
    const auto try_it = [&](const Bytes& bytes) { good += bench.examine(bytes).problem.empty() ? 1u : 0u; };
    try_it(whole);
    CHECK(good == 1);
    for (std::size_t size = 1; size < whole.size(); ++size)
      try_it(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
    for (std::size_t at = 0; at < whole.size(); ++at) {
      Bytes changed = whole;
      changed[at] ^= std::byte{0xff};
      try_it(changed);
    }
  }
}

}  // namespace hum::boot
