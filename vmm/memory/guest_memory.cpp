// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/guest_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <optional>
#include <string>

#include "vmm/base/errors.h"

namespace hum {
namespace {

// The guest may change the bytes meanwhile: the compiler must not read them twice, so the copy is opaque to
// it.
void copy_opaque(std::byte* to, const std::byte* from, std::size_t size) {
  const std::byte* source = from;
  asm volatile("" : "+r"(source) : : "memory");
  std::memcpy(to, source, size);
  asm volatile("" : : : "memory");
}

std::string describe(GuestAddress address, std::uint64_t size) {
  return "guest address " + std::to_string(address.value) + " with " + std::to_string(size) +
         " bytes is outside of guest memory";
}

constexpr std::uint64_t small_page = 4096;
constexpr std::uint64_t huge_page = 2 << 20;

std::uint64_t offset_in(const MemoryRegion& region, GuestAddress address) {
  return address.value - region.range.begin.value;
}

}  // namespace

std::uint64_t MemoryRegion::discard(std::uint64_t offset, std::uint64_t size) const {
  const std::uint64_t begin = (offset + page - 1) / page * page;
  const std::uint64_t end = (offset + size) / page * page;
  if (begin >= end) return 0;
  // Of a file that others have mapped, too, the pages have to leave the file.
  const int advice = fd >= 0 ? MADV_REMOVE : MADV_DONTNEED;
  return ::madvise(host + begin, end - begin, advice) == 0 ? end - begin : 0;
}

GuestMemory::GuestMemory(std::span<const GuestRange> ranges, MemoryBacking backing) {
  for (const GuestRange& range : ranges) size_ += range.size;
  ram_ = HostMemory::zeroes(size_, backing);
  std::uint64_t offset = 0;
  for (const GuestRange& range : ranges) {
    assert(regions_.empty() ||
           regions_.back().range.begin.value + regions_.back().range.size <= range.begin.value);
    regions_.push_back(
        {range, ram_.data() + offset, ram_.fd(), offset, backing.hugepages ? huge_page : small_page});
    offset += range.size;
  }
}

MemoryRegion GuestMemory::add(GuestRange range, HostMemory host, bool writable, std::uint64_t block_size) {
  std::unique_ptr<BlockMap> blocks;
  if (block_size != 0) blocks = std::make_unique<BlockMap>(range.size, block_size);
  device_regions_.push_back({range, host.data(), host.fd(), 0, small_page, writable, blocks.get()});
  device_memory_.push_back({std::move(host), std::move(blocks)});
  return device_regions_.back();
}

bool GuestMemory::remove(GuestRange range) {
  const auto found = std::find_if(device_regions_.begin(), device_regions_.end(),
                                  [&](const MemoryRegion& each) { return each.range == range; });
  if (found == device_regions_.end()) return false;
  device_memory_.erase(device_memory_.begin() + (found - device_regions_.begin()));
  device_regions_.erase(found);
  return true;
}

GuestMemory::Piece GuestMemory::piece(GuestAddress address, std::uint64_t most, Access access) const {
  for (const MemoryRegion& region : regions_) {
    const std::uint64_t offset = offset_in(region, address);
    if (offset < region.range.size) return {region.host + offset, std::min(most, region.range.size - offset)};
  }
  return device_piece(address, most, access);
}

GuestMemory::Piece GuestMemory::device_piece(GuestAddress address, std::uint64_t most, Access access) const {
  for (const MemoryRegion& region : device_regions_) {
    const std::uint64_t offset = offset_in(region, address);
    if (offset >= region.range.size) continue;
    if (access == Access::write && !region.writable) return {};
    std::uint64_t size = std::min(most, region.range.size - offset);
    if (region.blocks != nullptr) size = region.blocks->extent(offset, size);
    return {region.host + offset, size};
  }
  return {};
}

bool GuestMemory::contains(GuestRange range) const {
  return contains(range, Access::read);
}

bool GuestMemory::contains(GuestRange range, Access access) const {
  if (range.size != 0 && range.begin.value > UINT64_MAX - (range.size - 1)) return false;
  std::uint64_t left = std::max<std::uint64_t>(range.size, 1);
  while (left != 0) {
    const Piece here = piece(range.begin, left, access);
    if (here.size == 0) return false;
    range.begin = range.begin + here.size;
    left -= here.size;
  }
  return true;
}

void GuestMemory::append(GuestRange range, std::vector<iovec>& out, Access access) const {
  if (range.size == 0) return;
  if (range.begin.value > UINT64_MAX - (range.size - 1)) throw GuestError(describe(range.begin, range.size));
  const std::size_t before = out.size();
  std::uint64_t done = 0;
  while (done < range.size) {
    const Piece here = piece(range.begin + done, range.size - done, access);
    if (here.size == 0) {
      out.resize(before);
      throw GuestError(describe(range.begin, range.size));
    }
    out.push_back({here.host, here.size});
    done += here.size;
  }
}

void GuestMemory::read_bytes(GuestAddress from, std::span<std::byte> to) const {
  while (!to.empty()) {
    const Piece here = piece(from, to.size(), Access::read);
    if (here.size == 0) throw GuestError(describe(from, 1));
    copy_opaque(to.data(), here.host, here.size);
    to = to.subspan(here.size);
    from = from + here.size;
  }
}

void GuestMemory::write_bytes(GuestAddress to, std::span<const std::byte> from) const {
  if (from.empty()) return;
  if (const Piece all = piece(to, from.size(), Access::write); all.size == from.size())
    return copy_opaque(all.host, from.data(), all.size);
  // In pieces: all of them, or nothing is written.
  if (!contains({to, from.size()}, Access::write)) throw GuestError(describe(to, from.size()));
  while (!from.empty()) {
    const Piece here = piece(to, from.size(), Access::write);
    if (here.size == 0) throw GuestError(describe(to, from.size()));  // blocks have gone since
    copy_opaque(here.host, from.data(), here.size);
    from = from.subspan(here.size);
    to = to + here.size;
  }
}

void GuestMemory::fill_zero(GuestRange range) const {
  std::vector<iovec> parts;
  for_write(range, parts);
  for (const iovec& part : parts) std::memset(part.iov_base, 0, part.iov_len);
}

std::uint64_t GuestMemory::discard(GuestRange range) const {
  if (range.size == 0) return 0;
  if (!contains(range)) throw GuestError(describe(range.begin, range.size));
  std::uint64_t done = 0;
  while (range.size != 0) {
    const Piece here = piece(range.begin, range.size, Access::read);
    if (here.size == 0) break;  // a block that has gone since
    done += discard(iovec{here.host, here.size});
    range = {range.begin + here.size, range.size - here.size};
  }
  return done;
}

std::uint64_t GuestMemory::discard(const iovec& part) const {
  const auto try_region = [&part](const MemoryRegion& region) -> std::optional<std::uint64_t> {
    const auto offset = static_cast<std::uint64_t>(static_cast<std::byte*>(part.iov_base) - region.host);
    if (offset >= region.range.size) return {};
    return region.discard(offset, part.iov_len);
  };
  for (const MemoryRegion& region : regions_)
    if (const auto done = try_region(region)) return *done;
  for (const MemoryRegion& region : device_regions_)
    if (region.blocks != nullptr)
      if (const auto done = try_region(region)) return *done;
  return 0;
}

void* GuestMemory::locate_aligned(GuestAddress address, std::uint64_t size, Access access) const {
  // Regions are page-aligned, so an aligned word never crosses one.
  if (address.value % size != 0)
    throw GuestError("guest address " + std::to_string(address.value) + " is misaligned");
  const Piece here = piece(address, size, access);
  if (here.size == 0) throw GuestError(describe(address, size));
  return here.host;
}

std::size_t copy_from(std::span<const iovec> guest, std::size_t offset, std::span<std::byte> to) {
  std::size_t done = 0;
  for (const iovec& part : guest) {
    if (done == to.size()) break;
    if (offset >= part.iov_len) {
      offset -= part.iov_len;
      continue;
    }
    const std::size_t here = std::min(to.size() - done, part.iov_len - offset);
    copy_opaque(to.data() + done, static_cast<const std::byte*>(part.iov_base) + offset, here);
    done += here;
    offset = 0;
  }
  return done;
}

std::size_t copy_to(std::span<const iovec> guest, std::size_t offset, std::span<const std::byte> from) {
  std::size_t done = 0;
  for (const iovec& part : guest) {
    if (done == from.size()) break;
    if (offset >= part.iov_len) {
      offset -= part.iov_len;
      continue;
    }
    const std::size_t here = std::min(from.size() - done, part.iov_len - offset);
    copy_opaque(static_cast<std::byte*>(part.iov_base) + offset, from.data() + done, here);
    done += here;
    offset = 0;
  }
  return done;
}

}  // namespace hum
