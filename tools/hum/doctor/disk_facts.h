// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hum::doctor {

// What a disk, or a partition of one, holds.
struct DiskContent {
  enum class Health : std::uint8_t {
    unknown,  // its superblock does not say
    clean,
    needs_recovery,  // its journal has to be replayed
    not_unmounted,
    has_errors,
  };

  std::string type;  // "ext4", "swap", "crypto_LUKS", "LVM2_member", "extended"; empty: nothing known
  std::string label;
  std::string uuid;
  Health health = Health::unknown;
  std::uint64_t claimed_size = 0;  // bytes by its superblock; 0: it does not say
};

struct DiskPartition {
  unsigned number = 0;
  std::uint64_t begin = 0;  // bytes
  std::uint64_t size = 0;
  std::string uuid;   // PARTUUID
  std::string label;  // PARTLABEL, of a GPT only
  DiskContent content;
};

// What a disk image says about itself. The file is trusted in nothing; no text of it is fit for a terminal as
// it is.
struct DiskFacts {
  std::string format = "raw";  // or "qcow2", "vmdk", "vdi", "vhd", "vhdx": what a raw disk cannot be
  std::uint64_t size = 0;      // bytes
  std::string table;           // "gpt", "dos"; empty: no partition table
  bool table_usable = true;    // false: Linux does not take the table
  std::vector<DiskPartition> partitions;
  DiskContent whole;                 // where there is no table
  std::vector<std::string> damages;  // in words: "the checksum of its partition table is wrong"
};

// Reads a file or a block device. Throws HostError where it cannot be opened or read.
DiskFacts examine_disk(const std::string& path);

}  // namespace hum::doctor
