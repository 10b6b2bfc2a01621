// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmm/memory/block_map.h"
#include "vmm/memory/guest_address.h"
#include "vmm/memory/host_memory.h"

namespace hum {

// A contiguous piece of guest memory and where the host has it.
struct MemoryRegion {
  GuestRange range;
  std::byte* host = nullptr;
  int fd = -1;                  // memfd or -1
  std::uint64_t fd_offset = 0;  // of the region's first byte in fd
  std::uint64_t page = 4096;    // of the host; the region begins at one
  bool writable = true;
  BlockMap* blocks = nullptr;  // those that are there; null: all is

  // Gives the whole pages of a part back to the host, for every mapping of them: they read as zero from then
  // on. Returns the bytes that went.
  std::uint64_t discard(std::uint64_t offset, std::uint64_t size) const;
};

// The guest's memory, and the only bounds check on guest addresses: RAM, and what devices bring. Regions are
// the same while the guest runs or a device is at work, so every thread may use it; the guest changes the
// bytes at any time, so what matters is copied out once and used from the copy. Accesses outside throw
// GuestError. Moving it leaves the source without any memory and the bytes where the host has them.
class GuestMemory {
 public:
  // Maps RAM for the ranges (page-aligned, in ascending order, apart). Throws HostError.
  explicit GuestMemory(std::span<const GuestRange> ranges, MemoryBacking backing = {});
  GuestMemory(GuestMemory&& other) noexcept
      : ram_(std::move(other.ram_)),
        regions_(std::exchange(other.regions_, {})),
        size_(std::exchange(other.size_, 0)),
        device_memory_(std::exchange(other.device_memory_, {})),
        device_regions_(std::exchange(other.device_regions_, {})) {}
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  // RAM alone, and its bytes.
  std::span<const MemoryRegion> regions() const { return regions_; }
  std::uint64_t size() const { return size_; }

  // Adds memory of a device, page-aligned and apart from all there is. With a block size (a power of two)
  // none of it is there at first. While no other thread uses this object.
  MemoryRegion add(GuestRange range, HostMemory host, bool writable, std::uint64_t block_size = 0);
  // Takes it away again; false if there is no region like that. While no other thread uses this object.
  bool remove(GuestRange range);
  // Those that were added, in that order.
  std::span<const MemoryRegion> device_regions() const { return device_regions_; }

  // True if every byte of the range can be read (an empty range needs a valid first address).
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
    return std::atomic_ref<T>(*aligned<T>(from, Access::read)).load(std::memory_order_acquire);
  }
  template <class T>
  void store_release(GuestAddress to, T value) const {
    std::atomic_ref<T>(*aligned<T>(to, Access::write)).store(value, std::memory_order_release);
  }

  // Appends iovecs for a range that the host will read from or write to; a range may cross regions. The only
  // pointers that leave. An empty range appends nothing.
  void for_read(GuestRange range, std::vector<iovec>& out) const { append(range, out, Access::read); }
  void for_write(GuestRange range, std::vector<iovec>& out) const { append(range, out, Access::write); }

  // Gives the range's memory back to the host, which every other mapping of shared memory notices: it reads
  // as zero from then on, and takes memory again where it is written. Only whole pages of the host go.
  // Returns the bytes that went: what the host does not take stays as it is, and so does a file (pmem).
  std::uint64_t discard(GuestRange range) const;
  // The same for what for_write has handed out.
  std::uint64_t discard(const iovec& part) const;

 private:
  enum class Access : std::uint8_t { read, write };
  // What is at an address in one piece; size 0: nothing that can be accessed so.
  struct Piece {
    std::byte* host = nullptr;
    std::uint64_t size = 0;
  };
  struct DeviceMemory {
    HostMemory host;
    std::unique_ptr<BlockMap> blocks;
  };

  Piece piece(GuestAddress address, std::uint64_t most, Access access) const;
  Piece device_piece(GuestAddress address, std::uint64_t most, Access access) const;
  bool contains(GuestRange range, Access access) const;
  void append(GuestRange range, std::vector<iovec>& out, Access access) const;

  template <class T>
  T* aligned(GuestAddress address, Access access) const {
    static_assert(std::is_integral_v<T>);
    return static_cast<T*>(locate_aligned(address, sizeof(T), access));
  }
  void* locate_aligned(GuestAddress address, std::uint64_t size, Access access) const;

  HostMemory ram_;
  std::vector<MemoryRegion> regions_;
  std::uint64_t size_ = 0;
  std::vector<DeviceMemory> device_memory_;
  std::vector<MemoryRegion> device_regions_;
};

// Copies between guest memory handed out as iovecs and a buffer, from offset bytes on; returns the bytes
// copied (less than asked only where the iovecs end).
std::size_t copy_from(std::span<const iovec> guest, std::size_t offset, std::span<std::byte> to);
std::size_t copy_to(std::span<const iovec> guest, std::size_t offset, std::span<const std::byte> from);

}  // namespace hum
