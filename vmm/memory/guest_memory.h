// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/memory/guest_address.h"

namespace hum {

// How guest RAM is backed on the host.
struct MemoryBacking {
  bool shared = false;     // a memfd that other processes can map, instead of anonymous memory
  bool hugepages = false;  // 2 MiB pages from the host's pool
};

// A contiguous piece of guest RAM and where the host has it.
struct MemoryRegion {
  GuestRange range;
  std::byte* host = nullptr;
  int fd = -1;                  // memfd or -1
  std::uint64_t fd_offset = 0;  // of the region's first byte in fd
  std::uint64_t page = 4096;    // of the host; the region begins at one
};

// The guest's RAM, and the only bounds check on guest addresses. Immutable once made, so every thread may use
// it; the guest changes the bytes at any time, so what matters is copied out once and used from the copy.
// Accesses outside RAM throw GuestError. Moving it leaves the source without any RAM and the bytes where the
// host has them.
class GuestMemory {
 public:
  // Maps RAM for the ranges (page-aligned, in ascending order, apart). Throws HostError.
  explicit GuestMemory(std::span<const GuestRange> ranges, MemoryBacking backing = {});
  ~GuestMemory();
  GuestMemory(GuestMemory&& other) noexcept
      : regions_(std::exchange(other.regions_, {})),
        size_(std::exchange(other.size_, 0)),
        memfd_(std::move(other.memfd_)) {}
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  std::span<const MemoryRegion> regions() const { return regions_; }
  std::uint64_t size() const { return size_; }  // bytes

  // True if every byte of the range is RAM (an empty range needs a valid first address).
  bool contains(GuestRange range) const;

  // Copies an object out or in. T is a wire structure of at most a few words.
  template <class T>
  T read(GuestAddress from) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T object;
    read_bytes(from, {reinterpret_cast<std::byte*>(&object), sizeof object});
    return object;
  }
  template <class T>
  void write(GuestAddress to, const T& object) const {
    static_assert(std::is_trivially_copyable_v<T>);
    write_bytes(to, {reinterpret_cast<const std::byte*>(&object), sizeof object});
  }
  void read_bytes(GuestAddress from, std::span<std::byte> to) const;
  void write_bytes(GuestAddress to, std::span<const std::byte> from) const;
  void fill_zero(GuestRange range) const;

  // Ring indices: one aligned atomic access. A misaligned address throws GuestError.
  template <class T>
  T load_acquire(GuestAddress from) const {
    return std::atomic_ref<T>(*aligned<T>(from)).load(std::memory_order_acquire);
  }
  template <class T>
  void store_release(GuestAddress to, T value) const {
    std::atomic_ref<T>(*aligned<T>(to)).store(value, std::memory_order_release);
  }

  // Appends iovecs for a range that the host will read from or write to; a range may cross regions. The only
  // pointers that leave. An empty range appends nothing.
  void for_read(GuestRange range, std::vector<iovec>& out) const { append(range, out); }
  void for_write(GuestRange range, std::vector<iovec>& out) const { append(range, out); }

  // Gives the range's memory back to the host, which every other mapping of shared memory notices: it reads
  // as zero from then on, and takes memory again where it is written. Only whole pages of the host go.
  // Returns the bytes that went: what the host does not take stays as it is.
  std::uint64_t discard(GuestRange range) const;
  // The same for what for_write has handed out.
  std::uint64_t discard(const iovec& part) const;

 private:
  const MemoryRegion& find(GuestAddress address) const;
  void append(GuestRange range, std::vector<iovec>& out) const;

  template <class T>
  T* aligned(GuestAddress address) const {
    static_assert(std::is_integral_v<T>);
    return static_cast<T*>(locate_aligned(address, sizeof(T)));
  }
  void* locate_aligned(GuestAddress address, std::uint64_t size) const;

  std::vector<MemoryRegion> regions_;
  std::uint64_t size_ = 0;
  Fd memfd_;
};

// Copies between guest memory handed out as iovecs and a buffer, from offset bytes on; returns the bytes
// copied (less than asked only where the iovecs end).
std::size_t copy_from(std::span<const iovec> guest, std::size_t offset, std::span<std::byte> to);
std::size_t copy_to(std::span<const iovec> guest, std::size_t offset, std::span<const std::byte> from);

}  // namespace hum
