// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/kernel_facts.h"

#include <array>

#include "vmm/boot/testing.h"

namespace hum::boot {
namespace {

using namespace test;

constexpr std::string_view driver_text = "virtio_blk.queue_depth";
constexpr std::array<std::string_view, 2> texts = {driver_text, "no such text"};

Bytes configuration_block(const std::string& text) {
  Bytes block = text_bytes("IKCFG_ST");
  put_bytes(block, block.size(), pack(Compression::gzip, text_bytes(text)));
  put_bytes(block, block.size(), text_bytes("IKCFG_ED"));
  return block;
}

TestElf linux_elf(const Bytes& more = {}) {
  TestElf elf;
  elf.linux_note = true;
  elf.pvh_entry = 0x100000;
  Bytes content =
      text_bytes("Linux version %s\nLinux version 6.1.0-7-test (who@where)\nvirtio_blk.queue_depth");
  put_bytes(content, content.size(), more);
  elf.segments = {{0x100000, content, 0, 0}};
  return elf;
}

struct Bench {
  TemporaryFolder folder;
  KernelFacts examine(const Bytes& bytes) { return examine_kernel(folder.write("kernel", bytes), texts); }
};

}  // namespace

TEST_CASE("a bare ELF Linux tells its version, its ways in and the texts in it") {
  Bench bench;
  const KernelFacts facts = bench.examine(linux_elf().build());
  CHECK(facts.is_linux);
  CHECK(facts.unpacked);
  CHECK(facts.kind == "ELF image of 64 bits");
  CHECK(facts.version == "6.1.0-7-test");
  CHECK(facts.compression.empty());
  CHECK(facts.pvh);
  CHECK(facts.linux_64);
  CHECK_FALSE(facts.multiboot);
  CHECK(facts.texts == std::vector<bool>{true, false});
  CHECK(facts.configuration.empty());
  CHECK(facts.problem.empty());
}

TEST_CASE("a bzImage of every compression tells what is packed in it") {
  Bench bench;
  for (const Compression each : {Compression::gzip, Compression::xz, Compression::lzma, Compression::zstd,
                                 Compression::lz4, Compression::bzip2}) {
    INFO(to_string(each));
    const Bytes elf = linux_elf(configuration_block("CONFIG_VIRTIO_BLK=y\n")).build();
    const KernelFacts facts = bench.examine(TestBzImage::packing(elf, each).build());
    CHECK(facts.kind == "bzImage 2.15");
    CHECK(facts.compression == to_string(each));
    CHECK(facts.version == "6.1.0-7-test");
    CHECK(facts.configuration == "CONFIG_VIRTIO_BLK=y\n");
    CHECK(facts.pvh);
    CHECK(facts.texts == std::vector<bool>{true, false});
    CHECK(facts.command_line_limit == 2047);
    CHECK(facts.problem.empty());
  }
}

TEST_CASE("a bzImage's setup header names the version, even where the payload is not known") {
  Bench bench;
  Bytes image = TestBzImage{}.build();
  put(image, 0x20e, 2, 0x300 - 0x200);
  put_bytes(image, 0x300, text_bytes("5.10.0-1-amd64 (somebody) #1"));
  const KernelFacts facts = bench.examine(image);
  CHECK(facts.version == "5.10.0-1-amd64");
  CHECK(facts.linux_64);
  CHECK_FALSE(facts.unpacked);
  CHECK(facts.compression.empty());
}

TEST_CASE("a 32-bit kernel is told apart") {
  Bench bench;
  TestBzImage image;
  image.extra_load_flags = 0;
  CHECK_FALSE(bench.examine(image.build()).linux_64);
  CHECK(bench.examine(image.build()).problem.find("32-bit") != std::string::npos);
  TestElf elf;
  elf.is_64 = false;
  CHECK(bench.examine(elf.build()).problem.find("32-bit") != std::string::npos);
  elf.pvh_entry = 0x100000;
  CHECK(bench.examine(elf.build()).problem.empty());
}

TEST_CASE("a kernel for another architecture and a file that is no kernel are refused in words") {
  Bench bench;
  Bytes arm(64);
  put_bytes(arm, 0x38, text_bytes("ARM\x64"));
  CHECK(says(config_error([&] { bench.examine(arm); }), "64-bit ARM"));
  Bytes elf = linux_elf().build();
  put(elf, 18, 2, EM_AARCH64);
  CHECK(says(config_error([&] { bench.examine(elf); }), "64-bit ARM"));
  CHECK(says(config_error([&] { bench.examine(text_bytes("hello")); }), "not a Linux bzImage"));
  CHECK_THROWS_AS(examine_kernel(bench.folder.path("none")), ConfigError);
}

TEST_CASE("a damaged payload is a problem in words, and the header's facts stay") {
  Bench bench;
  TestBzImage image = TestBzImage::packing(linux_elf().build(), Compression::zstd);
  image.payload.resize(image.payload.size() / 2);
  const KernelFacts facts = bench.examine(image.build());
  CHECK(facts.problem.find("damaged") != std::string::npos);
  CHECK(facts.kind == "bzImage 2.15");
  CHECK_FALSE(facts.unpacked);
}

TEST_CASE("a damaged or endless configuration is none") {
  Bench bench;
  Bytes block = configuration_block("CONFIG_A=y\n");
  block[20] ^= std::byte{0xff};
  CHECK(bench.examine(linux_elf(block).build()).configuration.empty());
  const Bytes endless = configuration_block(std::string(5 << 20, 'A'));
  CHECK(bench.examine(linux_elf(endless).build()).configuration.empty());
  CHECK(bench.examine(linux_elf(text_bytes("IKCFG_ST and no end")).build()).configuration.empty());
}

TEST_CASE("no cut and no changed byte of a kernel leads to more than an error in words") {
  Bench bench;
  const Bytes elf = linux_elf(configuration_block("CONFIG_A=y\n")).build();
  TestBzImage packed = TestBzImage::packing(elf, Compression::gzip);
  for (const Bytes& whole : {elf, packed.build()}) {
    std::size_t answered = 0;
    const auto try_it = [&](const Bytes& bytes) {
      try {
        bench.examine(bytes);
        ++answered;
      } catch (const ConfigError&) {
      }
    };
    for (std::size_t size = 1; size < whole.size(); size += 7)
      try_it(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
    for (std::size_t at = 0; at < whole.size(); at += at < 0x300 ? 1 : 5) {
      for (const std::byte flip : {std::byte{0xff}, std::byte{0x80}}) {
        Bytes changed = whole;
        changed[at] ^= flip;
        try_it(changed);
      }
    }
    CHECK(answered > 0);
  }
}

}  // namespace hum::boot
