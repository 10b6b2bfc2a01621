// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_header.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string_view>

#include "devices/block/memory_image_file.h"
#include "devices/block/raw_file.h"
#include "devices/temporary_file.h"
#include "devices/virtio_testing.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::config_error_of;
using testing::contains;
using testing::MemoryImageFile;
using testing::TemporaryFile;

constexpr std::uint64_t K = 1024;
constexpr std::uint64_t M = K * K;
constexpr std::uint64_t G = M * K;
constexpr std::uint64_t T = G * K;

Qcow2Header wanted(std::uint64_t size, unsigned cluster_bits = 16) {
  Qcow2Header header;
  header.virtual_size = size;
  header.cluster_bits = cluster_bits;
  return header;
}

MemoryImageFile image_of(const Qcow2Header& header) {
  MemoryImageFile file;
  write_new_qcow2("disk.path", "a.qcow2", file, header);
  return file;
}

// Places in the header, as the format has them.
struct Field {
  std::size_t offset;
  std::size_t size;
};
constexpr Field magic{0, 4}, version{4, 4}, backing_offset{8, 8}, backing_size{16, 4}, cluster_bits{20, 4},
    virtual_size{24, 8}, encryption{32, 4}, l1_entries{36, 4}, l1_offset{40, 8}, refcount_offset{48, 8},
    refcount_clusters{56, 4}, snapshots{60, 4}, incompatible{72, 8}, compatible{80, 8}, autoclear{88, 8},
    refcount_order{96, 4}, header_size{100, 4}, compression{104, 1};

struct Change {
  Field field;
  std::uint64_t value;
};

void apply(MemoryImageFile& file, std::initializer_list<Change> changes) {
  for (const auto& [field, value] : changes)
    store_be(std::span(file.bytes).subspan(field.offset, field.size), value);
}

// A good image of 1 GiB with clusters of 4K: 512 L1 entries at 12K, one cluster of refcount table at 4K.
MemoryImageFile good() {
  return image_of(wanted(G, 12));
}

Qcow2Header read(MemoryImageFile& file) {
  return read_qcow2_header("disk.path", "a.qcow2", file);
}

Qcow2Header read_with(std::initializer_list<Change> changes) {
  MemoryImageFile file = good();
  apply(file, changes);
  return read(file);
}

std::string error_with(std::initializer_list<Change> changes) {
  std::string error = config_error_of([&] { read_with(changes); });
  CHECK(error.starts_with("disk.path 'a.qcow2': "));
  return error;
}

// Extensions after a header of 104 bytes; each is type, said length, data.
struct Extension {
  std::uint64_t type;
  std::uint64_t size;
  std::string data;
};

MemoryImageFile with_extensions(const std::vector<Extension>& extensions) {
  MemoryImageFile file = good();
  apply(file, {{header_size, 104}});
  std::fill(file.bytes.begin() + 104, file.bytes.begin() + 4096, std::byte{0});
  std::size_t at = 104;
  for (const auto& [type, size, data] : extensions) {
    apply(file, {{{at, 4}, type}, {{at + 4, 4}, size}});
    std::memcpy(file.bytes.data() + at + 8, data.data(), data.size());
    at += 8 + (data.size() + 7) / 8 * 8;
  }
  return file;
}

bool have_qemu_img() {
  static const bool have = std::system("qemu-img --version > /dev/null 2>&1") == 0;
  if (!have) std::cout << "skipped: qemu-img is not installed\n";
  return have;
}

int exit_code_of(const std::string& command) {
  const int status = std::system((command + " > /dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("numbers of images are big-endian, of any width up to eight bytes") {
  std::array<std::byte, 4> bytes{};
  store_be(std::span(bytes).subspan(1), 0x11223344);
  CHECK(bytes == std::array{std::byte{0}, std::byte{0x22}, std::byte{0x33}, std::byte{0x44}});
  CHECK(load_be(bytes) == 0x223344);
  std::array<std::byte, 8> wide{};
  store_be(wide, UINT64_MAX - 1);
  CHECK(load_be(wide) == UINT64_MAX - 1);
}

TEST_CASE("a new qcow2 image reads back as it was wanted") {
  for (const unsigned bits : {9u, 12u, 16u, 21u}) {
    for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{512}, M + 512, 10 * G, 128 * G}) {
      MemoryImageFile file = image_of(wanted(size, bits));
      const Qcow2Header header = read(file);
      CHECK(header.version == 3);
      CHECK(header.virtual_size == size);
      CHECK(header.cluster_bits == bits);
      CHECK(header.refcount_bits == 16);
      const std::uint64_t per_entry = header.cluster_size() * header.cluster_size() / 8;
      CHECK(header.l1_entries == (size + per_entry - 1) / per_entry);
      CHECK(header.compression == Qcow2Compression::zlib);
      CHECK(header.snapshots == 0);
      CHECK_FALSE(header.dirty);
      CHECK_FALSE(header.corrupt);
      CHECK(header.backing_file.empty());
      CHECK(file.bytes.size() % header.cluster_size() == 0);
      // Every cluster is counted once, and no other.
      const auto block = [&](std::uint64_t i) {
        return load_be(std::span(file.bytes).subspan(header.refcount_table_offset + i * 8, 8));
      };
      const std::uint64_t per_block = header.cluster_size() / 2;
      const std::uint64_t clusters = file.bytes.size() / header.cluster_size();
      bool counted = true;
      for (std::uint64_t i = 0; i < (clusters + per_block - 1) / per_block * per_block; ++i)
        counted &= load_be(std::span(file.bytes).subspan(block(i / per_block) + i % per_block * 2, 2)) ==
                   (i < clusters ? 1 : 0);
      CHECK(counted);
    }
  }
}

TEST_CASE("a new image's refcount table has room for all of the disk, or is as large as one may be") {
  const auto covered = [](const Qcow2Header& header) {
    return header.refcount_table_clusters * header.cluster_size() / 8 * (header.cluster_size() / 2) *
           header.cluster_size();
  };
  MemoryImageFile usual = image_of(wanted(100 * T));
  CHECK(covered(read(usual)) > 100 * T);
  MemoryImageFile most = image_of(wanted(8 * T, 12));
  CHECK(read(most).refcount_table_clusters == 2048);
}

TEST_CASE("a new image keeps its compression and the name and format of its backing file") {
  for (const unsigned bits : {9u, 16u}) {
    Qcow2Header header = wanted(M, bits);
    header.compression = Qcow2Compression::zstd;
    header.backing_file = "base.img";
    header.backing_format = "raw";
    MemoryImageFile file = image_of(header);
    const Qcow2Header back = read(file);
    CHECK(back.compression == Qcow2Compression::zstd);
    CHECK(back.backing_file == "base.img");
    CHECK(back.backing_format == "raw");
  }
}

TEST_CASE("what a new image cannot be is refused, and nothing is written") {
  const auto error_of = [](const Qcow2Header& header) {
    MemoryImageFile file;
    std::string error = config_error_of([&] { write_new_qcow2("disk.path", "a.qcow2", file, header); });
    CHECK(file.bytes.empty());
    return error;
  };
  CHECK(contains(error_of(wanted(M, 8)), "2^8"));
  CHECK(contains(error_of(wanted(M, 22)), "2^22"));
  CHECK(contains(error_of(wanted((std::uint64_t{1} << 56) + 1, 21)), "2^56"));
  CHECK(contains(error_of(wanted(UINT64_MAX, 21)), "2^56"));
  CHECK(contains(error_of(wanted(128 * G + 1, 9)), "larger clusters"));
  CHECK(contains(error_of(wanted(8 * T + 1, 12)), "larger clusters"));
  MemoryImageFile largest = image_of(wanted(std::uint64_t{1} << 56, 21));
  CHECK(read(largest).virtual_size == std::uint64_t{1} << 56);

  Qcow2Header header = wanted(M);
  header.version = 2;
  CHECK(contains(error_of(header), "version 3"));
  header.version = 3;
  header.backing_file = std::string(1024, 'a');
  CHECK(contains(error_of(header), "1023"));
  header.backing_file = std::string("a\0b", 3);
  CHECK(contains(error_of(header), "zero byte"));
  header.backing_file = std::string(1023, 'a');
  MemoryImageFile file = image_of(header);
  CHECK(read(file).backing_file == header.backing_file);
  // A header of 112 bytes, no format, the end of the extensions.
  header.cluster_bits = 9;
  header.backing_file = std::string(512 - 112 - 8, 'a');
  MemoryImageFile small = image_of(header);
  CHECK(read(small).backing_file == header.backing_file);
  header.backing_file += 'a';
  CHECK(contains(error_of(header), "does not fit"));
}

TEST_CASE("a new image's header is written when all else is safe, and what fails is told") {
  class Steps final : public ImageFile {
   public:
    std::uint64_t size() const override { return 0; }
    BlockResult read(std::uint64_t /*offset*/, std::span<std::byte> /*data*/) override {
      return BlockResult::io_error;
    }
    BlockResult write(std::uint64_t offset, std::span<const std::byte> /*data*/) override {
      steps += offset == 0 ? 'h' : 'w';
      return steps.size() == fail_at ? BlockResult::no_space : BlockResult::ok;
    }
    BlockResult sync() override {
      steps += 's';
      return steps.size() == fail_at ? BlockResult::io_error : BlockResult::ok;
    }
    void start(BlockEngine& /*engine*/, BlockOperation& /*operation*/) override {}
    std::string steps;
    std::size_t fail_at = 0;
  };
  Steps all;
  write_new_qcow2("disk.path", "a.qcow2", all, wanted(G));
  CHECK(all.steps == "wwwshs");
  for (std::size_t i = 1; i <= all.steps.size(); ++i) {
    Steps failing;
    failing.fail_at = i;
    CHECK_THROWS_AS(write_new_qcow2("disk.path", "a.qcow2", failing, wanted(G)), HostError);
    CHECK(failing.steps.size() == i);
  }
  CHECK_THROWS_AS(read_qcow2_header("disk.path", "a.qcow2", all), HostError);
}

TEST_CASE("what is no qcow2 image, or of another version, is refused") {
  MemoryImageFile empty;
  CHECK(contains(config_error_of([&] { read(empty); }), "is no qcow2 image"));
  CHECK(contains(error_with({{magic, 0x514649fa}}), "is no qcow2 image"));
  CHECK(contains(error_with({{version, 1}}), "version 1; accepted are 2 and 3"));
  CHECK(contains(error_with({{version, 4}}), "version 4"));
  CHECK(contains(error_with({{version, UINT32_MAX}}), "version 4294967295"));
}

TEST_CASE("a header that is cut off is refused") {
  const auto error_of = [](std::size_t size) {
    MemoryImageFile file = good();
    file.bytes.resize(size);
    return config_error_of([&] { read(file); });
  };
  for (const unsigned size : {4u, 71u, 72u, 103u, 104u, 111u}) CHECK(contains(error_of(size), "truncated"));
  CHECK(contains(error_of(3), "is no qcow2 image"));
  CHECK(contains(error_of(112), "L1 table lies behind the end"));
}

TEST_CASE("a version 2 header has none of version 3's fields") {
  MemoryImageFile file = good();
  apply(file, {{version, 2}});
  std::fill(file.bytes.begin() + 72, file.bytes.begin() + 4096, std::byte{0});
  Qcow2Header header = read(file);
  CHECK(header.version == 2);
  CHECK(header.refcount_bits == 16);
  CHECK(header.virtual_size == G);
  // There its extensions begin.
  apply(file, {{{72, 4}, 0xe2792aca}, {{76, 4}, 3}});
  std::memcpy(file.bytes.data() + 80, "raw", 3);
  header = read(file);
  CHECK(header.backing_format == "raw");
  CHECK_FALSE(header.dirty);
}

TEST_CASE("clusters are of 512 bytes to 2M") {
  CHECK(contains(error_with({{cluster_bits, 8}}), "2^8"));
  CHECK(contains(error_with({{cluster_bits, 22}}), "2^22"));
  CHECK(contains(error_with({{cluster_bits, UINT32_MAX}}), "accepted are 512 bytes to 2M"));
  for (const unsigned bits : {9u, 21u}) {
    MemoryImageFile file = image_of(wanted(M, bits));
    CHECK(read(file).cluster_size() == 1u << bits);
  }
}

TEST_CASE("a version 3 header has at least 104 bytes and at most a cluster") {
  CHECK_NOTHROW(read_with({{header_size, 104}, {{104, 8}, 0}}));
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{96}, std::uint64_t{108},
                                   std::uint64_t{4104}, std::uint64_t{UINT32_MAX - 7}})
    CHECK(contains(error_with({{header_size, size}}), "says that it has " + std::to_string(size) + " bytes"));
  CHECK_NOTHROW(read_with({{header_size, 4096}}));
}

TEST_CASE("an encrypted image is refused by the name of its method") {
  CHECK(contains(error_with({{encryption, 1}}), "AES"));
  CHECK(contains(error_with({{encryption, 2}}), "LUKS"));
  CHECK(contains(error_with({{encryption, 3}}), "method 3"));
}

TEST_CASE("what an image needs and is not supported is named, and what only tells its state is noted") {
  CHECK(read_with({{incompatible, 1}}).dirty);
  CHECK(read_with({{incompatible, 2}}).corrupt);
  CHECK_FALSE(read_with({{incompatible, 2}}).dirty);
  CHECK(contains(error_with({{incompatible, 4}}), "external data file"));
  CHECK(contains(error_with({{incompatible, 16}}), "extended L2 entries"));
  CHECK(contains(error_with({{incompatible, 32}}), "bit 5;"));
  CHECK(contains(error_with({{incompatible, std::uint64_t{1} << 63}}), "bit 63;"));
  CHECK(contains(error_with({{incompatible, 4 | 1 | 16}}), "external data file, extended L2 entries;"));
  CHECK_NOTHROW(read_with({{compatible, UINT64_MAX}}));
  CHECK(read_with({{autoclear, UINT64_MAX}}).autoclear_features == UINT64_MAX);
}

TEST_CASE("an unknown feature has the name that the image gives it") {
  const auto entry = [](char kind, char bit, std::string_view name) {
    std::string text = {kind, bit};
    text += name;
    text.resize(48);
    return text;
  };
  const std::string names = entry(1, 9, "another") + entry(0, 9, "new\x1b thing") + entry(0, 10, "x");
  MemoryImageFile file = with_extensions({{0x6803f857, names.size(), names}});
  apply(file, {{incompatible, 1 << 9}});
  CHECK(contains(config_error_of([&] { read(file); }), "new? thing (bit 9);"));
  apply(file, {{incompatible, 1 << 11}});
  CHECK(contains(config_error_of([&] { read(file); }), ": bit 11;"));
  const std::string full = entry(0, 9, std::string(46, 'n'));
  file = with_extensions({{0x6803f857, full.size(), full}});
  apply(file, {{incompatible, 1 << 9}});
  CHECK(contains(config_error_of([&] { read(file); }), ": " + std::string(46, 'n') + " (bit 9)"));
  // A table that is cut off names nothing.
  file = with_extensions({{0x6803f857, full.size() - 1, full}});
  apply(file, {{incompatible, 1 << 9}});
  CHECK(contains(config_error_of([&] { read(file); }), ": bit 9;"));
}

TEST_CASE("compression is zlib, or zstd where the feature's bit says that it is another") {
  CHECK(read_with({}).compression == Qcow2Compression::zlib);
  CHECK(read_with({{incompatible, 8}, {compression, 1}}).compression == Qcow2Compression::zstd);
  CHECK(contains(error_with({{incompatible, 8}, {compression, 2}}), "of type 2; accepted are zlib and zstd"));
  CHECK(contains(error_with({{incompatible, 8}}), "contradicts itself"));
  CHECK(contains(error_with({{compression, 1}}), "contradicts itself"));
  // The field is there only if the header is long enough; what is there instead is the end of the extensions.
  CHECK(
      contains(error_with({{incompatible, 8}, {header_size, 104}, {compression, 1}}), "contradicts itself"));
}

TEST_CASE("the disk has at most 2^56 bytes and an L1 table that is enough for it, of at most 32M") {
  CHECK(contains(error_with({{virtual_size, (std::uint64_t{1} << 56) + 1}}), "accepted are up to 2^56"));
  CHECK(contains(error_with({{virtual_size, UINT64_MAX}}), "accepted are up to 2^56"));
  CHECK(contains(error_with({{virtual_size, std::uint64_t{1} << 56}}), "its L1 table has 512 entries"));
  CHECK_NOTHROW(read_with({{l1_entries, 512}}));
  CHECK(contains(error_with({{l1_entries, 511}}), "has 511 entries; its disk needs 512"));
  CHECK(contains(error_with({{virtual_size, G + 1}}), "needs 513"));
  CHECK(contains(error_with({{l1_entries, 0}}), "has 0 entries"));
  CHECK(contains(error_with({{l1_entries, 4 * M + 1}}), "more than 32M"));
  CHECK(contains(error_with({{l1_entries, UINT32_MAX}}), "more than 32M"));
  CHECK(contains(error_with({{l1_entries, 4 * M}}), "behind the end"));
  MemoryImageFile file = good();
  file.bytes.resize(file.bytes.size() + 32 * M);
  apply(file, {{l1_entries, 4 * M}});
  CHECK(read(file).l1_entries == 4 * M);
}

TEST_CASE("a disk without a byte needs no L1 table, wherever it is said to be") {
  CHECK(read_with({{virtual_size, 0}, {l1_entries, 0}, {l1_offset, 0}}).l1_entries == 0);
  CHECK_NOTHROW(read_with({{virtual_size, 0}, {l1_entries, 0}, {l1_offset, UINT64_MAX}}));
}

TEST_CASE("the tables lie in the file, at clusters, apart from the header and from each other") {
  MemoryImageFile file = good();
  REQUIRE(file.bytes.size() == 16384);  // header, refcount table, refcount block, L1 table
  for (const Field offset : {l1_offset, refcount_offset}) {
    const char* const name = offset.offset == l1_offset.offset ? "L1 table" : "refcount table";
    CHECK(contains(error_with({{offset, 0}}), std::string("its ") + name + " lies in its header"));
    CHECK(
        contains(error_with({{offset, 512}}), std::string("its ") + name + " does not begin with a cluster"));
    CHECK(contains(error_with({{offset, 8193}}), "does not begin with a cluster"));
    CHECK(contains(error_with({{offset, 16384}}), std::string("its ") + name + " lies behind the end"));
    CHECK(contains(error_with({{offset, UINT64_MAX - 4095}}), "lies behind the end"));
    CHECK(contains(error_with({{offset, std::uint64_t{1} << 63}}), "lies behind the end"));
  }
  CHECK(contains(error_with({{l1_offset, 4096}}), "overlap"));
  CHECK(contains(error_with({{refcount_offset, 8192}, {refcount_clusters, 2}}), "overlap"));
  CHECK_NOTHROW(read_with({{refcount_offset, 4096}, {refcount_clusters, 2}}));
  CHECK_NOTHROW(read_with({{l1_offset, 8192}, {refcount_offset, 12288}}));
  CHECK(contains(error_with({{l1_offset, 8192}, {l1_entries, 513}, {refcount_offset, 12288}}), "overlap"));
  // The last cluster of a file need not be whole; what is missing is zeroes.
  file.bytes.resize(12289);
  CHECK_NOTHROW(read(file));
  file.bytes.resize(12288);
  CHECK(contains(config_error_of([&] { read(file); }), "behind the end"));
}

TEST_CASE("the refcount table is there, of at most 8M, with refcounts of 1 to 64 bits") {
  CHECK(contains(error_with({{refcount_clusters, 0}}), "has no refcount table"));
  CHECK(contains(error_with({{refcount_clusters, 4}}), "behind the end"));
  CHECK(contains(error_with({{refcount_clusters, 2049}}), "more than 8M"));
  CHECK(contains(error_with({{refcount_clusters, UINT32_MAX}}), "more than 8M"));
  MemoryImageFile file = good();
  file.bytes.resize(16384 + 8 * M);
  apply(file, {{refcount_offset, 16384}, {refcount_clusters, 2048}});
  CHECK(read(file).refcount_table_clusters == 2048);
  CHECK(read_with({{refcount_order, 0}}).refcount_bits == 1);
  CHECK(read_with({{refcount_order, 6}}).refcount_bits == 64);
  CHECK(contains(error_with({{refcount_order, 7}}), "2^7 bits"));
  CHECK(contains(error_with({{refcount_order, UINT32_MAX}}), "accepted are up to 64"));
}

TEST_CASE("snapshots are counted and not looked at") {
  CHECK(read_with({{snapshots, UINT32_MAX}, {{64, 8}, UINT64_MAX}}).snapshots == UINT32_MAX);
}

TEST_CASE("the name of the backing file lies behind the header, in its cluster, of at most 1023 bytes") {
  MemoryImageFile file = with_extensions({});
  const auto read_name = [&](std::uint64_t offset, std::uint64_t size) {
    apply(file, {{backing_offset, offset}, {backing_size, size}});
    return read(file).backing_file;
  };
  const auto error_of = [&](std::uint64_t offset, std::uint64_t size) {
    return config_error_of([&] { read_name(offset, size); });
  };
  std::fill(file.bytes.begin() + 1024, file.bytes.begin() + 4096, std::byte{'a'});
  CHECK(read_name(0, UINT32_MAX).empty());
  CHECK(read_name(4096, 0).empty());
  CHECK(read_name(4095, 1) == "a");
  CHECK(contains(error_of(4095, 2), "end of the first cluster"));
  CHECK(contains(error_of(4096, 1), "end of the first cluster"));
  CHECK(contains(error_of(UINT64_MAX, 2), "end of the first cluster"));
  CHECK(contains(error_of(1024, UINT32_MAX), "end of the first cluster"));
  CHECK(contains(error_of(103, 1), "end of the first cluster"));
  CHECK(read_name(1024, 1023) == std::string(1023, 'a'));
  CHECK(contains(error_of(1024, 1024), "more than 1023 bytes"));
  CHECK(contains(error_of(1023, 2), "zero byte"));
  CHECK(contains(error_of(104, 1), "zero byte"));
  file.bytes[104] = std::byte{'a'};
  CHECK(read_name(104, 1) == "a");
}

TEST_CASE(
    "extensions are read up to their end, unknown ones are passed over, one that is too long is refused") {
  MemoryImageFile file = with_extensions({{0x12345678, 3, "abc"}, {0xe2792aca, 5, "qcow2"}});
  CHECK(read(file).backing_format == "qcow2");
  file = with_extensions({{0, 0, ""}, {0xe2792aca, 5, "qcow2"}});
  CHECK(read(file).backing_format.empty());
  // 4096 - 104 - 8: all that is there.
  file = with_extensions({{0x12345678, 3984, ""}});
  CHECK_NOTHROW(read(file));
  file = with_extensions({{0x12345678, 3985, ""}});
  CHECK(contains(config_error_of([&] { read(file); }), "extensions"));
  file = with_extensions({{0x12345678, UINT32_MAX, ""}});
  CHECK(contains(config_error_of([&] { read(file); }), "extensions"));
  // The last one begins where less than its own header is left.
  file = with_extensions({{0x12345678, 3976, std::string(3976, '\0')}, {0xe2792aca, 0, ""}});
  CHECK_NOTHROW(read(file));
  // The name of the backing file ends them.
  file = with_extensions({{0x12345678, 16, std::string(16, 'x')}});
  apply(file, {{backing_offset, 128}, {backing_size, 1}, {{128, 1}, 'b'}});
  CHECK(read(file).backing_file == "b");
  apply(file, {{backing_offset, 127}});
  CHECK(contains(config_error_of([&] { read(file); }), "extensions"));
}

TEST_CASE("qemu-img finds no fault with a new image, and reads of it what was wanted") {
  if (!have_qemu_img()) return;
  for (const unsigned bits : {9u, 12u, 16u, 21u}) {
    for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{512}, M + 512, 10 * G, 8 * T}) {
      if (bits == 9 && size == 8 * T) continue;  // refused
      const TemporaryFile path(0);
      Qcow2Header header = wanted(size, bits);
      if (bits != 12) header.compression = Qcow2Compression::zstd;
      write_new_qcow2("disk.path", path.path(), *RawFile::open("disk.path", path.path(), false), header);
      CHECK(exit_code_of("qemu-img check -f qcow2 " + path.path()) == 0);
      CHECK(exit_code_of("qemu-img info --output=json " + path.path() +
                         " | grep '\"virtual-size\": " + std::to_string(size) + ",'") == 0);
    }
  }
}

TEST_CASE("the header of an image that qemu-img made is read, of either version") {
  if (!have_qemu_img()) return;
  for (const std::string_view compat : {"0.10", "1.1"}) {
    for (const std::uint64_t size : {std::uint64_t{0}, 3 * G + 512}) {
      const TemporaryFile path(0);
      REQUIRE(exit_code_of("qemu-img create -u -f qcow2 -F raw -b base.img -o compat=" + std::string(compat) +
                           " " + path.path() + " " + std::to_string(size)) == 0);
      const auto file = RawFile::open("disk.path", path.path(), true);
      const Qcow2Header header = read_qcow2_header("disk.path", path.path(), *file);
      CHECK(header.version == (compat == "1.1" ? 3 : 2));
      CHECK(header.virtual_size == size);
      CHECK(header.backing_file == "base.img");
      CHECK(header.backing_format == "raw");
    }
  }
}

}  // namespace hum
