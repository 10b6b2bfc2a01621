// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/disk_facts.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <lzma.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum::doctor {
namespace {

using Health = DiskContent::Health;
using Probe = std::unique_ptr<blkid_struct_probe, decltype(&::blkid_free_probe)>;

constexpr std::uint64_t sector = 512;
constexpr int most_partitions = 256;
constexpr std::size_t most_entries_size = 1 << 20;  // of a GPT; the usual one has 16 KiB

struct Magic {
  std::string_view format;
  std::string_view text;
};

// The first bytes of what is no raw image, by the formats' own specifications.
constexpr std::array<Magic, 6> magics = {{
    {"qcow2", "QFI\xfb"},
    {"vmdk", "KDMV"},
    {"vmdk", "# Disk DescriptorFile"},
    {"vhd", "conectix"},
    {"vhdx", "vhdxfile"},
    {"vdi", "<<< "},
}};

class Disk {
 public:
  explicit Disk(const std::string& path) : path_(path), fd_(open_file(path, O_RDONLY | O_NONBLOCK)) {
    const off_t end = ::lseek(fd_.get(), 0, SEEK_END);
    if (end < 0) throw HostError(errno, "find the size of '" + path + "'", "give a file or a block device");
    size_ = static_cast<std::uint64_t>(end);
  }

  int fd() const { return fd_.get(); }
  std::uint64_t size() const { return size_; }

  // The bytes from an offset on; nothing if they are not all there.
  std::optional<std::vector<std::byte>> read(std::uint64_t offset, std::size_t size) const {
    if (offset > size_ || size > size_ - offset) return std::nullopt;
    std::vector<std::byte> bytes(size);
    std::size_t done = 0;
    while (done < size) {
      const ssize_t got =
          ::pread(fd_.get(), bytes.data() + done, size - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw HostError(errno, "read '" + path_ + "'");
      if (got == 0) return std::nullopt;
      done += static_cast<std::size_t>(got);
    }
    return bytes;
  }

 private:
  std::string path_;
  Fd fd_;
  std::uint64_t size_ = 0;
};

std::uint64_t little(std::span<const std::byte> bytes, std::size_t offset, std::size_t size) {
  return load_le(bytes.subspan(offset, size));
}

std::uint64_t big(std::span<const std::byte> bytes, std::size_t offset, std::size_t size) {
  std::uint64_t value = 0;
  for (const std::byte each : bytes.subspan(offset, size))
    value = value << 8 | std::to_integer<std::uint64_t>(each);
  return value;
}

std::uint64_t saturating_product(std::uint64_t a, std::uint64_t b) {
  return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

// Linux, Documentation/filesystems/ext4/super.rst: the superblock is at byte 1024.
void read_ext(const Disk& disk, std::uint64_t begin, DiskContent& content) {
  const auto super = disk.read(begin + 1024, 1024);
  if (!super || little(*super, 0x38, 2) != 0xef53) return;
  constexpr std::uint64_t unmounted = 1;
  constexpr std::uint64_t errors = 2;
  constexpr std::uint64_t journal_has_work = 4;  // of the incompatible features
  constexpr std::uint64_t has_64_bits = 0x80;
  const std::uint64_t state = little(*super, 0x3a, 2);
  const std::uint64_t features = little(*super, 0x60, 4);
  content.health = (state & errors) != 0                ? Health::has_errors
                   : (features & journal_has_work) != 0 ? Health::needs_recovery
                   : (state & unmounted) == 0           ? Health::not_unmounted
                                                        : Health::clean;
  std::uint64_t blocks = little(*super, 0x4, 4);
  if ((features & has_64_bits) != 0) blocks |= little(*super, 0x150, 4) << 32;
  const std::uint64_t log_size = little(*super, 0x18, 4);
  if (log_size <= 6) content.claimed_size = saturating_product(blocks, std::uint64_t{1024} << log_size);
}

// XFS Algorithms & Data Structures, "Superblocks": big-endian, at byte 0.
void read_xfs(const Disk& disk, std::uint64_t begin, DiskContent& content) {
  if (const auto super = disk.read(begin, sector))
    content.claimed_size = saturating_product(big(*super, 4, 4), big(*super, 8, 8));
}

// btrfs, "On-disk format": at byte 64 KiB; a log tree is there until what was synced is merged.
void read_btrfs(const Disk& disk, std::uint64_t begin, DiskContent& content) {
  const auto super = disk.read(begin + 65536, 4096);
  if (!super) return;
  content.claimed_size = little(*super, 0x70, 8);
  content.health = little(*super, 0x60, 8) == 0 ? Health::clean : Health::needs_recovery;
}

// Linux, Documentation/filesystems/squashfs.rst and squashfs_fs.h: bytes_used.
void read_squashfs(const Disk& disk, std::uint64_t begin, DiskContent& content) {
  if (const auto super = disk.read(begin, 96)) content.claimed_size = little(*super, 0x28, 8);
  content.health = Health::clean;  // it is never written to
}

std::string value_of(const Probe& probe, const char* name) {
  const char* text = nullptr;
  return ::blkid_probe_lookup_value(probe.get(), name, &text, nullptr) == 0 && text != nullptr ? text : "";
}

std::string text_of(const char* text) {
  return text == nullptr ? "" : text;
}

Probe make_probe(const Disk& disk, std::uint64_t begin, std::uint64_t size) {
  Probe probe(::blkid_new_probe(), &::blkid_free_probe);
  if (!probe || ::blkid_probe_set_device(probe.get(), disk.fd(), static_cast<blkid_loff_t>(begin),
                                         static_cast<blkid_loff_t>(size)) != 0)
    throw HostError(ENOMEM, "look into a disk");
  ::blkid_probe_set_sectorsize(probe.get(), sector);
  return probe;
}

DiskContent examine_content(const Disk& disk, std::uint64_t begin, std::uint64_t size,
                            std::vector<std::string>& damages) {
  const Probe probe = make_probe(disk, begin, size);
  ::blkid_probe_enable_superblocks(probe.get(), 1);
  ::blkid_probe_set_superblocks_flags(probe.get(),
                                      BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID);
  const int result = ::blkid_do_safeprobe(probe.get());
  DiskContent content;
  if (result == -2) damages.emplace_back("it has the marks of two file systems at once");
  if (result != 0) return content;
  content.type = value_of(probe, "TYPE");
  content.label = value_of(probe, "LABEL");
  content.uuid = value_of(probe, "UUID");
  if (content.type.starts_with("ext")) read_ext(disk, begin, content);
  if (content.type == "xfs") read_xfs(disk, begin, content);
  if (content.type == "btrfs") read_btrfs(disk, begin, content);
  if (content.type == "squashfs") read_squashfs(disk, begin, content);
  return content;
}

std::uint32_t checksum(std::span<const std::byte> bytes) {
  return ::lzma_crc32(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), 0);
}

// One of the two headers of a GPT (UEFI Specification 2.10, 5.3.2) and the entries it names; what is wrong
// with it in words, empty: nothing.
std::string damage_of_header(const Disk& disk, std::uint64_t begin, const std::string& which) {
  const auto block = disk.read(begin, sector);
  if (!block || std::memcmp(block->data(), "EFI PART", 8) != 0) return which + " partition table is missing";
  const std::uint64_t header_size = little(*block, 12, 4);
  if (header_size < 92 || header_size > sector) return which + " partition table is damaged";
  std::vector<std::byte> header(block->begin(), block->begin() + static_cast<std::ptrdiff_t>(header_size));
  std::fill_n(header.begin() + 16, 4, std::byte{0});
  if (checksum(header) != little(*block, 16, 4))
    return "the checksum of " + which + " partition table's header is wrong";
  if (little(*block, 48, 8) >= disk.size() / sector)
    return which + " partition table is for a larger disk: it is cut off";
  const std::uint64_t entries_size = saturating_product(little(*block, 80, 4), little(*block, 84, 4));
  const std::uint64_t entries_at = saturating_product(little(*block, 72, 8), sector);
  if (entries_size > most_entries_size) return which + " partition table is damaged: it is too large";
  const auto entries = disk.read(entries_at, entries_size);
  if (!entries) return which + " partition table lies behind its end";
  if (checksum(*entries) != little(*block, 88, 4))
    return "the checksum of " + which + " partition table's entries is wrong";
  return {};
}

// Linux takes the second table, at the end, only if told to (gpt on its command line).
void check_gpt(const Disk& disk, DiskFacts& facts) {
  const auto first = disk.read(sector, sector);
  const bool has_first = first && std::memcmp(first->data(), "EFI PART", 8) == 0;
  if (!has_first && facts.table != "gpt" && facts.table != "PMBR") return;
  for (const bool second : {false, true}) {
    const std::uint64_t begin = second ? (disk.size() / sector - 1) * sector : sector;
    std::string damage = damage_of_header(disk, begin, second ? "its second" : "its first");
    if (damage.empty()) continue;
    facts.table_usable = facts.table_usable && second;
    facts.damages.push_back(std::move(damage));
  }
}

void examine_partitions(const Disk& disk, DiskFacts& facts) {
  const Probe probe = make_probe(disk, 0, disk.size());
  ::blkid_probe_enable_superblocks(probe.get(), 0);
  ::blkid_probe_enable_partitions(probe.get(), 1);
  blkid_partlist list = ::blkid_probe_get_partitions(probe.get());
  if (list == nullptr) return check_gpt(disk, facts);
  if (blkid_parttable table = ::blkid_partlist_get_table(list))
    facts.table = text_of(::blkid_parttable_get_type(table));
  const int count = std::min(::blkid_partlist_numof_partitions(list), most_partitions);
  for (int i = 0; i < count; ++i) {
    blkid_partition each = ::blkid_partlist_get_partition(list, i);
    if (each == nullptr) continue;
    const auto begin = static_cast<std::uint64_t>(::blkid_partition_get_start(each));
    const auto size = static_cast<std::uint64_t>(::blkid_partition_get_size(each));
    DiskPartition partition;
    partition.number = static_cast<unsigned>(::blkid_partition_get_partno(each));
    partition.begin = saturating_product(begin, sector);
    partition.size = saturating_product(size, sector);
    partition.uuid = text_of(::blkid_partition_get_uuid(each));
    partition.label = text_of(::blkid_partition_get_name(each));
    if (partition.begin > disk.size() || partition.size > disk.size() - partition.begin) {
      facts.damages.push_back("partition " + std::to_string(partition.number) + " ends behind its end");
    } else if (::blkid_partition_is_extended(each) != 0) {
      partition.content.type = "extended";
    } else if (partition.size != 0) {
      partition.content = examine_content(disk, partition.begin, partition.size, facts.damages);
    }
    facts.partitions.push_back(std::move(partition));
  }
  check_gpt(disk, facts);
}

void check_claimed_size(const std::string& what, std::uint64_t room, const DiskContent& content,
                        std::vector<std::string>& damages) {
  if (content.claimed_size > room)
    damages.push_back(what + " is cut off: its " + content.type + " has " +
                      std::to_string(content.claimed_size) + " bytes, and there are " + std::to_string(room));
}

}  // namespace

DiskFacts examine_disk(const std::string& path) {
  const Disk disk(path);
  DiskFacts facts;
  facts.size = disk.size();
  for (const Magic& magic : magics) {
    const auto first = disk.read(0, magic.text.size());
    if (first && std::memcmp(first->data(), magic.text.data(), magic.text.size()) == 0)
      facts.format = magic.format;
  }
  if (facts.format != "raw" || facts.size < sector) return facts;
  examine_partitions(disk, facts);
  if (facts.table.empty()) facts.whole = examine_content(disk, 0, disk.size(), facts.damages);
  check_claimed_size("the disk", facts.size, facts.whole, facts.damages);
  for (const DiskPartition& each : facts.partitions)
    check_claimed_size("partition " + std::to_string(each.number), each.size, each.content, facts.damages);
  return facts;
}

}  // namespace hum::doctor
