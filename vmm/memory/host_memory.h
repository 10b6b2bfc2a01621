// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/base/fd.h"

namespace hum {

// How guest memory is backed on the host.
struct MemoryBacking {
  bool shared = false;     // a memfd that other processes can map, instead of anonymous memory
  bool hugepages = false;  // 2 MiB pages from the host's pool
};

// A piece of this process's memory that begins at a multiple of a huge page, so that the guest's large pages
// can be the host's too. The only owner of its mapping; neither dumped with the process nor inherited.
class HostMemory {
 public:
  HostMemory() = default;
  HostMemory(HostMemory&& other) noexcept;
  HostMemory& operator=(HostMemory&& other) noexcept;
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  ~HostMemory();

  // Zeroes that take memory once they are touched. Throws HostError.
  static HostMemory zeroes(std::uint64_t size, MemoryBacking backing = {});

  // Puts the beginning of a file, whose last page may be a part of one, in the place of what is there. Throws
  // HostError.
  void put_file(int file, std::uint64_t size, int protection);

  std::byte* data() const { return data_; }
  std::uint64_t size() const { return size_; }
  int fd() const { return file_.get(); }  // of memory that other processes can map; -1: of none

 private:
  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
  Fd file_;
};

}  // namespace hum
