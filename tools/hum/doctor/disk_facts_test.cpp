// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/disk_facts.h"

#include <lzma.h>

#include "tools/hum/doctor/testing.h"
#include "vmm/base/errors.h"

namespace hum::doctor {
namespace {

using namespace test;
using Health = DiskContent::Health;

constexpr std::size_t sector = 512;

struct Bench {
  FakeRoot root;
  DiskFacts examine(const Bytes& bytes) const { return examine_disk(root.write("disk", bytes)); }
};

Bytes ext4_disk(const TestExt4& ext4 = {}) {
  Bytes disk(64 * 1024);
  ext4.put_into(disk, 0);
  return disk;
}

void put_mbr_entry(Bytes& disk, std::size_t index, std::uint64_t type, std::uint64_t begin,
                   std::uint64_t count) {
  const std::size_t entry = 0x1be + index * 16;
  put(disk, entry + 4, 1, type);
  put(disk, entry + 8, 4, begin);
  put(disk, entry + 12, 4, count);
  put(disk, 0x1fe, 2, 0xaa55);
}

// A DOS table with an ext4 and a swap-less second partition.
Bytes dos_disk() {
  Bytes disk(256 * 1024);
  put(disk, 0x1b8, 4, 0x11223344);
  put_mbr_entry(disk, 0, 0x83, 64, 128);
  put_mbr_entry(disk, 1, 0x83, 192, 64);
  TestExt4{}.put_into(disk, 64 * sector);
  return disk;
}

std::uint32_t checksum(std::span<const std::byte> bytes) {
  return ::lzma_crc32(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), 0);
}

// A GPT of 4 entries with one partition, an ext4 named "root", and the second table at the end.
struct TestGpt {
  static constexpr std::size_t sectors = 512;
  static constexpr std::size_t entry_size = 128;
  static constexpr std::size_t entry_count = 4;

  Bytes disk = Bytes(sectors * sector);

  TestGpt() {
    put_mbr_entry(disk, 0, 0xee, 1, sectors - 1);
    put_entries(2);
    put_entries(sectors - 2);
    put_header(1, sectors - 1, 2);
    put_header(sectors - 1, 1, sectors - 2);
    TestExt4{}.put_into(disk, 64 * sector);
  }

  void put_entries(std::size_t at) {
    const std::size_t entry = at * sector;
    for (std::size_t i = 0; i < 16; ++i) put(disk, entry + i, 1, 0xa0 + i);       // a type
    for (std::size_t i = 0; i < 16; ++i) put(disk, entry + 16 + i, 1, 0x20 + i);  // its own GUID
    put(disk, entry + 32, 8, 64);
    put(disk, entry + 40, 8, 64 + 127);
    const std::string name = "root";
    for (std::size_t i = 0; i < name.size(); ++i)
      put(disk, entry + 56 + 2 * i, 2, static_cast<unsigned char>(name[i]));
  }

  void put_header(std::size_t at, std::size_t other, std::size_t entries) {
    const std::size_t header = at * sector;
    put_text(disk, header, "EFI PART");
    put(disk, header + 8, 4, 0x10000);
    put(disk, header + 12, 4, 92);
    put(disk, header + 24, 8, at);
    put(disk, header + 32, 8, other);
    put(disk, header + 40, 8, 34);
    put(disk, header + 48, 8, sectors - 3);
    put(disk, header + 72, 8, entries);
    put(disk, header + 80, 4, entry_count);
    put(disk, header + 84, 4, entry_size);
    put(disk, header + 88, 4, checksum(std::span(disk).subspan(entries * sector, entry_count * entry_size)));
    put(disk, header + 16, 4, 0);
    put(disk, header + 16, 4, checksum(std::span(disk).subspan(header, 92)));
  }
};

bool has_damage(const DiskFacts& facts, const std::string& text) {
  return std::any_of(facts.damages.begin(), facts.damages.end(),
                     [&](const std::string& each) { return each.find(text) != std::string::npos; });
}

}  // namespace

TEST_CASE("a file system on the whole disk tells its type, label, UUID and health") {
  const Bench bench;
  const DiskFacts facts = bench.examine(ext4_disk());
  CHECK(facts.format == "raw");
  CHECK(facts.table.empty());
  CHECK(facts.partitions.empty());
  CHECK(facts.whole.type == "ext4");
  CHECK(facts.whole.label == "ROOT");
  CHECK(facts.whole.uuid == test_ext4_uuid);
  CHECK(facts.whole.health == Health::clean);
  CHECK(facts.whole.claimed_size == 64 * 1024);
  CHECK(facts.damages.empty());
}

TEST_CASE("an ext4 tells how it was left") {
  const Bench bench;
  CHECK(bench.examine(ext4_disk({.state = 0})).whole.health == Health::not_unmounted);
  CHECK(bench.examine(ext4_disk({.state = 3})).whole.health == Health::has_errors);
  CHECK(bench.examine(ext4_disk({.state = 1, .more_incompatible = 4})).whole.health ==
        Health::needs_recovery);
}

TEST_CASE("a file system that is larger than its disk is cut off") {
  const Bench bench;
  CHECK(bench.examine(ext4_disk({.blocks = 64})).damages.empty());
  CHECK(has_damage(bench.examine(ext4_disk({.blocks = 65})), "cut off"));
}

TEST_CASE("a DOS table's partitions are told with what they hold") {
  const Bench bench;
  Bytes disk = dos_disk();
  put_mbr_entry(disk, 2, 0x05, 300, 64);
  CHECK(bench.examine(disk).partitions.back().content.type == "extended");
  const DiskFacts facts = bench.examine(dos_disk());
  CHECK(facts.table == "dos");
  CHECK(facts.table_usable);
  REQUIRE(facts.partitions.size() == 2);
  CHECK(facts.partitions[0].number == 1);
  CHECK(facts.partitions[0].begin == 64 * sector);
  CHECK(facts.partitions[0].size == 128 * sector);
  CHECK(facts.partitions[0].uuid == "11223344-01");
  CHECK(facts.partitions[0].content.type == "ext4");
  CHECK(facts.partitions[1].content.type.empty());
  CHECK(facts.damages.empty());
}

TEST_CASE("a partition that ends behind the disk's end is a damage") {
  const Bench bench;
  Bytes disk = dos_disk();
  put_mbr_entry(disk, 1, 0x83, 192, 320);
  CHECK(bench.examine(disk).damages.empty());
  put_mbr_entry(disk, 1, 0x83, 192, 321);
  CHECK(has_damage(bench.examine(disk), "partition 2 ends behind"));
}

TEST_CASE("a GPT's partitions are told with name and PARTUUID") {
  const Bench bench;
  const DiskFacts facts = bench.examine(TestGpt().disk);
  CHECK(facts.table == "gpt");
  CHECK(facts.table_usable);
  REQUIRE(facts.partitions.size() == 1);
  CHECK(facts.partitions[0].label == "root");
  CHECK(facts.partitions[0].uuid == "23222120-2524-2726-2829-2a2b2c2d2e2f");
  CHECK(facts.partitions[0].content.type == "ext4");
  CHECK(facts.damages.empty());
}

TEST_CASE("the checksums of both tables of a GPT are compared") {
  const Bench bench;
  TestGpt first_header;
  first_header.disk[sector + 40] ^= std::byte{1};
  CHECK(has_damage(bench.examine(first_header.disk), "its first partition table's header"));
  CHECK_FALSE(bench.examine(first_header.disk).table_usable);
  TestGpt first_entries;
  first_entries.disk[2 * sector + 60] ^= std::byte{1};
  CHECK(has_damage(bench.examine(first_entries.disk), "its first partition table's entries"));
  CHECK_FALSE(bench.examine(first_entries.disk).table_usable);
  TestGpt second;
  second.disk[(TestGpt::sectors - 1) * sector + 40] ^= std::byte{1};
  CHECK(has_damage(bench.examine(second.disk), "its second partition table's header"));
  CHECK(bench.examine(second.disk).table_usable);
}

TEST_CASE("a disk with a GPT that was cut off is told so") {
  const Bench bench;
  TestGpt gpt;
  gpt.disk.resize(gpt.disk.size() / 2);
  const DiskFacts facts = bench.examine(gpt.disk);
  CHECK(has_damage(facts, "cut off"));
  CHECK(has_damage(facts, "second partition table is missing"));
  CHECK_FALSE(facts.table_usable);
}

TEST_CASE("formats that are not raw are known by their magic") {
  const Bench bench;
  for (const auto& [format, magic] : {std::pair<std::string, std::string>{"qcow2", "QFI\xfb"},
                                      {"vmdk", "KDMV"},
                                      {"vhd", "conectix"},
                                      {"vhdx", "vhdxfile"},
                                      {"vdi", "<<< Oracle"}}) {
    Bytes disk(4096);
    put_text(disk, 0, magic);
    CHECK(bench.examine(disk).format == format);
  }
  CHECK(bench.examine(Bytes(4096)).format == "raw");
}

TEST_CASE("an empty file and one of a few bytes hold nothing") {
  const Bench bench;
  CHECK(bench.examine({}).size == 0);
  CHECK(bench.examine(Bytes(511)).whole.type.empty());
  CHECK_THROWS_AS(examine_disk(bench.root.path() + "/none"), HostError);
  CHECK_THROWS_AS(examine_disk(bench.root.path()), HostError);
}

TEST_CASE("no cut and no changed byte of a disk leads to more than other facts") {
  const Bench bench;
  struct Sample {
    Bytes disk;
    std::vector<std::size_t> places;  // of 512 bytes each that matter
  };
  for (const Sample& sample : {Sample{ext4_disk(), {1024, 1536}}, Sample{dos_disk(), {0}},
                               Sample{TestGpt().disk, {0, 512, 1024, (TestGpt::sectors - 1) * sector}}}) {
    std::size_t told = 0;
    const auto try_it = [&](const Bytes& disk) {
      const DiskFacts facts = bench.examine(disk);
      told += facts.table.empty() && facts.whole.type.empty() ? 0u : 1u;
    };
    for (std::size_t size = 0; size < 4096; size += 61)
      try_it(Bytes(sample.disk.begin(), sample.disk.begin() + static_cast<std::ptrdiff_t>(size)));
    for (const std::size_t place : sample.places)
      for (std::size_t at = place; at < place + sector; ++at)
        for (const std::byte flip : {std::byte{0xff}, std::byte{0x01}}) {
          Bytes changed = sample.disk;
          changed[at] ^= flip;
          try_it(changed);
        }
    CHECK(told > 0);
  }
}

TEST_CASE("a GPT of huge counts is refused, not read") {
  const Bench bench;
  for (const auto& [count, size] : {std::pair<std::uint64_t, std::uint64_t>{UINT32_MAX, UINT32_MAX},
                                    {UINT32_MAX, 128},
                                    {4, UINT32_MAX},
                                    {0, 0}}) {
    TestGpt gpt;
    put(gpt.disk, sector + 80, 4, count);
    put(gpt.disk, sector + 84, 4, size);
    put(gpt.disk, sector + 16, 4, 0);
    put(gpt.disk, sector + 16, 4, checksum(std::span(gpt.disk).subspan(sector, 92)));
    CHECK_FALSE(bench.examine(gpt.disk).damages.empty());
  }
}

TEST_CASE("a DOS table of partitions in a circle ends") {
  const Bench bench;
  Bytes disk = dos_disk();
  put_mbr_entry(disk, 1, 0x05, 192, 64);
  Bytes extended(sector);
  put_mbr_entry(extended, 0, 0x83, 1, 1);
  put_mbr_entry(extended, 1, 0x05, 0, 64);  // itself
  std::copy(extended.begin(), extended.end(), disk.begin() + 192 * static_cast<std::ptrdiff_t>(sector));
  CHECK(bench.examine(disk).partitions.size() < 256);
}

}  // namespace hum::doctor
