// SPDX-License-Identifier: Apache-2.0
#include "devices/block/open_image.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "devices/block/block_engines.h"
#include "devices/block/qcow2_header.h"
#include "devices/block/testing.h"
#include "devices/virtio_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using Kind = BlockOperation::Kind;
using testing::config_error_of;
using testing::contains;
using testing::perform;
using testing::TestOperation;

// A folder for images, removed at the end.
struct Folder : testing::TemporaryFolder {
  bool run(const std::string& command) const {
    return std::system(("cd '" + path() + "' && { " + command + "; } >log 2>&1").c_str()) == 0;
  }
};

bool has_qemu_img() {
  if (std::system("qemu-img --version >/dev/null 2>&1") == 0) return true;
  WARN("skipped: qemu-img is not installed");
  return false;
}

const Log& log() {
  static const Log quiet;
  return quiet;
}

std::vector<std::byte> content_of(BlockBackend& image, std::uint64_t step = 1 << 20) {
  const auto engine = make_block_engine(BlockEngineKind::automatic, 8);
  std::vector<std::byte> bytes(image.size());
  for (std::uint64_t at = 0; at < bytes.size(); at += step) {
    const std::uint64_t here = std::min<std::uint64_t>(step, bytes.size() - at);
    REQUIRE(perform(image, *engine, TestOperation(Kind::read, at, here, {{bytes.data() + at, here}})) ==
            BlockResult::ok);
  }
  return bytes;
}

std::vector<std::byte> content_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> chars((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto* const begin = reinterpret_cast<const std::byte*>(chars.data());
  return {begin, begin + chars.size()};
}

// Some megabytes with runs of zeroes and of what does not compress, so that an image of it has clusters of
// each kind.
void make_raw(const std::string& path, std::uint64_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<char> bytes(size);
  for (std::uint64_t at = 0; at < size; at += 32768) {
    const auto kind = random() % 3;
    for (std::uint64_t i = at; i < std::min(at + 32768, size); ++i)
      bytes[i] = kind == 0 ? '\0' : static_cast<char>(kind == 1 ? random() : i / 64);
  }
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(size));
}

// Writes, discards and zeroes at random places, the same in the image and in bytes.
void write_somewhere(BlockBackend& image, std::vector<std::byte>& bytes, unsigned seed) {
  const auto engine = make_block_engine(BlockEngineKind::automatic, 8);
  std::mt19937 random(seed);
  for (int i = 0; i < 80; ++i) {
    const std::uint64_t sectors = bytes.size() / 512;
    const std::uint64_t first = random() % sectors;
    const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(sectors - first, 300);
    std::vector<std::byte> data(count * 512, static_cast<std::byte>(random()));
    const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(first * 512);
    if (i % 8 == 7) {
      TestOperation zeroes(Kind::write_zeroes, first * 512, data.size());
      zeroes.may_unmap = true;
      const BlockResult result = perform(image, *engine, std::move(zeroes));
      if (result == BlockResult::unsupported) continue;
      REQUIRE(result == BlockResult::ok);
      std::fill_n(at, data.size(), std::byte{0});
      continue;
    }
    REQUIRE(perform(image, *engine,
                    TestOperation(Kind::write, first * 512, data.size(), {{data.data(), data.size()}})) ==
            BlockResult::ok);
    std::copy(data.begin(), data.end(), at);
    if (i % 20 == 0) REQUIRE(perform(image, *engine, TestOperation(Kind::flush, 0, 0)) == BlockResult::ok);
  }
}

TEST_CASE("images that qemu-img made are read and written, and qemu-img finds in them what was written") {
  if (!has_qemu_img()) return;
  const Folder folder;
  make_raw(folder / "raw", (2 << 20) + 1536, 3);
  const std::vector<std::string> kinds = {"-o compat=0.10",
                                          "-o compat=1.1",
                                          "-o cluster_size=512",
                                          "-o cluster_size=2M",
                                          "-c",
                                          "-c -o compression_type=zstd",
                                          "-o refcount_bits=1",
                                          "-o refcount_bits=64",
                                          "-c -o cluster_size=4096",
                                          "-o preallocation=metadata",
                                          "-o lazy_refcounts=on",
                                          "-o compat=0.10 -c"};
  unsigned seed = 0;
  for (const std::string& kind : kinds) {
    INFO(kind);
    fs::remove(folder / "image");
    REQUIRE(folder.run("qemu-img convert -f raw -O qcow2 " + kind + " raw image"));
    std::vector<std::byte> bytes = content_of_file(folder / "raw");
    {
      const auto image = open_image("disk", {.path = folder / "image", .format = ImageFormat::qcow2}, log());
      REQUIRE(content_of(*image, 999 * 512) == bytes);
      write_somewhere(*image, bytes, ++seed);
      REQUIRE(content_of(*image) == bytes);
    }
    CHECK(folder.run("qemu-img check image"));
    CHECK(folder.run("qemu-img convert -f qcow2 -O raw image back"));
    CHECK(content_of_file(folder / "back") == bytes);
  }
}

TEST_CASE("a chain of images is one disk, and only its top is written to") {
  if (!has_qemu_img()) return;
  const Folder folder;
  make_raw(folder / "base.raw", 3 << 20, 5);
  std::vector<std::byte> bytes = content_of_file(folder / "base.raw");
  const std::vector<std::byte> base = bytes;
  std::string below = "base.raw";
  for (int depth = 1; depth <= 4; ++depth) {
    const std::string name = "top" + std::to_string(depth);
    const std::string version = depth % 2 == 0 ? "-o compat=0.10 " : "";
    REQUIRE(folder.run("qemu-img create -f qcow2 " + version + "-b " + below + " -F " +
                       (depth == 1 ? "raw " : "qcow2 ") + name + " " + std::to_string(3 + depth / 3) + "M"));
    if (depth >= 3) bytes.resize(4 << 20);
    {
      const auto image = open_image("disk", {.path = folder / name, .format = ImageFormat::qcow2}, log());
      REQUIRE(content_of(*image) == bytes);
      write_somewhere(*image, bytes, static_cast<unsigned>(depth));
    }
    CHECK(folder.run("qemu-img check " + name));
    CHECK(folder.run("qemu-img convert -f qcow2 -O raw " + name + " back"));
    REQUIRE(content_of_file(folder / "back") == bytes);
    below = name;
  }
  CHECK(content_of_file(folder / "base.raw") == base);
}

TEST_CASE("what a snapshot has stays as it was") {
  if (!has_qemu_img()) return;
  const Folder folder;
  make_raw(folder / "raw", 2 << 20, 9);
  REQUIRE(folder.run("qemu-img convert -O qcow2 raw image && qemu-img snapshot -c before image"));
  std::vector<std::byte> bytes = content_of_file(folder / "raw");
  {
    const auto image = open_image("disk", {.path = folder / "image", .format = ImageFormat::qcow2}, log());
    write_somewhere(*image, bytes, 4);
    REQUIRE(content_of(*image) == bytes);
  }
  CHECK(folder.run("qemu-img check image"));
  CHECK(folder.run("qemu-img convert -O raw image back"));
  CHECK(content_of_file(folder / "back") == bytes);
  REQUIRE(folder.run("qemu-img snapshot -a before image && qemu-img convert -O raw image back"));
  CHECK(content_of_file(folder / "back") == content_of_file(folder / "raw"));
}

TEST_CASE("the table of reference counts grows when it has no room left") {
  if (!has_qemu_img()) return;
  const Folder folder;
  // A table of one cluster counts 8 MiB here.
  REQUIRE(folder.run("qemu-img create -f qcow2 -o cluster_size=512 image 12M"));
  std::vector<std::byte> bytes(12 << 20, std::byte{3});
  {
    const auto image = open_image("disk", {.path = folder / "image", .format = ImageFormat::qcow2}, log());
    const auto engine = make_block_engine(BlockEngineKind::automatic, 8);
    for (std::uint64_t at = 0; at < bytes.size(); at += 1 << 20)
      REQUIRE(
          perform(*image, *engine, TestOperation(Kind::write, at, 1 << 20, {{bytes.data() + at, 1 << 20}})) ==
          BlockResult::ok);
    REQUIRE(perform(*image, *engine, TestOperation(Kind::flush, 0, 0)) == BlockResult::ok);
  }
  CHECK(folder.run("qemu-img check image"));
  CHECK(folder.run("qemu-img convert -O raw image back"));
  CHECK(content_of_file(folder / "back") == bytes);
}

TEST_CASE("an overlay takes the writes, for once or to be kept, and its base stays as it is") {
  const Folder folder;
  make_raw(folder / "base", 1 << 20, 1);
  const std::vector<std::byte> base = content_of_file(folder / "base");
  std::vector<std::byte> bytes = base;
  {
    const auto one = open_image("disk", {.path = folder / "base", .overlay = "tmp"}, log());
    const auto two = open_image("disk", {.path = folder / "base", .overlay = "tmp"}, log());
    write_somewhere(*one, bytes, 1);
    CHECK(content_of(*one) == bytes);
    CHECK(content_of(*two) == base);
  }
  bytes = base;
  for (unsigned round = 0; round < 3; ++round) {
    const auto kept = open_image("disk", {.path = folder / "base", .overlay = folder / "kept"}, log());
    CHECK(content_of(*kept) == bytes);
    write_somewhere(*kept, bytes, round);
    // The overlay is in use, and its base may be read by others only.
    CHECK(contains(config_error_of([&] {
                     open_image("disk", {.path = folder / "base", .overlay = folder / "kept"}, log());
                   }),
                   "is in use"));
    CHECK(contains(config_error_of([&] { open_image("disk", {.path = folder / "base"}, log()); }),
                   "is in use"));
  }
  CHECK(content_of_file(folder / "base") == base);
  make_raw(folder / "other", 1 << 20, 2);
  CHECK(contains(config_error_of([&] {
                   open_image("disk", {.path = folder / "other", .overlay = folder / "kept"}, log());
                 }),
                 "is an overlay of"));
  CHECK(contains(config_error_of([&] {
                   open_image("disk", {.path = folder / "base", .read_only = true, .overlay = "tmp"}, log());
                 }),
                 "needs none"));
}

TEST_CASE("a backing file is used where it may be, in a format that is said") {
  if (!has_qemu_img()) return;
  const Folder folder;
  REQUIRE(
      folder.run("mkdir in && truncate -s 1M base && qemu-img create -f qcow2 -b ../base -F raw in/image"));
  const auto open = [&](const std::string& name, bool any) {
    return config_error_of([&] {
      open_image("disk", {.path = folder / name, .format = ImageFormat::qcow2, .any_backing = any}, log());
    });
  };
  CHECK(contains(open("in/image", false), "outside of its folder"));
  CHECK(contains(open("in/image", false), "backing=any"));
  CHECK(open_image("disk", {.path = folder / "in/image", .format = ImageFormat::qcow2, .any_backing = true},
                   log())
            ->size() == 1 << 20);
  // A link that leads out does, too.
  REQUIRE(folder.run("ln -s ../base in/link && qemu-img create -f qcow2 -b link -F raw in/linked"));
  CHECK(contains(open("in/linked", false), "outside of its folder"));
  {
    REQUIRE(folder.run("touch vague"));
    const auto file = RawFile::open("disk.path", folder / "vague", false);
    Qcow2Header header;
    header.virtual_size = 1 << 20;
    header.backing_file = "base";
    write_new_qcow2("disk.path", "vague", *file, header);
  }
  CHECK(contains(open("vague", false), "does not say in which format"));
  REQUIRE(folder.run("qemu-img create -f qcow2 -u -b base -F vmdk odd 1M"));
  CHECK(contains(open("odd", false), "'vmdk'"));
  REQUIRE(folder.run("qemu-img create -f qcow2 -u -b nbd://host/x -F raw far 1M"));
  CHECK(contains(open("far", false), "not a plain file name"));
  REQUIRE(folder.run("qemu-img create -f qcow2 -u -b gone -F raw orphan 1M"));
  CHECK(contains(open("orphan", false), "no such file"));
  // Two that lead to each other.
  REQUIRE(folder.run(
      "qemu-img create -f qcow2 -u -b b -F qcow2 a 1M && qemu-img create -f qcow2 -u -b a -F qcow2 b 1M"));
  CHECK(contains(open("a", false), "is in use"));
  CHECK(contains(config_error_of([&] {
                   open_image("disk", {.path = folder / "a", .format = ImageFormat::qcow2, .read_only = true},
                              log());
                 }),
                 "its own backing file"));
}

}  // namespace
}  // namespace hum
