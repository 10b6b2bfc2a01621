// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/boot/boot_file.h"

namespace hum::boot {

// An unpacked kernel kept in a private folder as <digest of the packed file>.elf. Nothing here throws because
// a cache cannot be written or read: the kernel is unpacked again then. Several processes may use one folder.
class KernelCache {
 public:
  KernelCache(const std::string& folder, const std::string& digest);

  // The entry, if it has this size, is an ELF image, and belongs to this user alone.
  std::optional<BootFile> find(std::uint64_t size) const;

  // An entry on its way: written under another name, renamed by commit; without commit it is removed.
  class Writer {
   public:
    explicit Writer(const KernelCache& cache);
    ~Writer();
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    void write(std::uint64_t offset, std::span<const std::byte> piece);
    void commit();

   private:
    void drop();

    std::string final_path_;
    std::string partial_path_;
    Fd fd_;  // locked; empty once the entry is done or given up
  };

 private:
  std::string folder_;
  std::string path_;
};

}  // namespace hum::boot
