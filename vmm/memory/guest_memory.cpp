// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/guest_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
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
constexpr std::uint64_t small_pages = 4 << 20;

// A file of that size for good: a process that shares it could otherwise cut it off under our mapping, and
// the next access would be SIGBUS. Invalid with errno.
Fd make_memfd(std::uint64_t size, bool hugepages) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (hugepages ? MFD_HUGETLB | MFD_HUGE_2MB : 0u);
  Fd file(::memfd_create("guest-memory", flags));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    const int error = errno;
    file.reset();
    errno = error;
  }
  return file;
}

// Maps at a multiple of a huge page, so that the guest's large pages can be the host's too. Null with errno.
std::byte* map_aligned(std::uint64_t size, int flags, int fd) {
  void* const reserved =
      ::mmap(nullptr, size + huge_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(reserved);
  const std::uint64_t head = -reinterpret_cast<std::uintptr_t>(reserved) % huge_page;
  void* const mapped = ::mmap(begin + head, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
  const int error = errno;
  if (mapped == MAP_FAILED) {
    ::munmap(begin, size + huge_page);
    errno = error;
    return nullptr;
  }
  if (head != 0) ::munmap(begin, head);
  ::munmap(begin + head + size, huge_page - head);
  return begin + head;
}

std::uint64_t discard_pages(const MemoryRegion& region, std::uint64_t offset, std::uint64_t size) {
  const std::uint64_t begin = (offset + region.page - 1) / region.page * region.page;
  const std::uint64_t end = (offset + size) / region.page * region.page;
  if (begin >= end) return 0;
  // Of a file that others have mapped, too, the pages have to leave the file.
  const int advice = region.fd >= 0 ? MADV_REMOVE : MADV_DONTNEED;
  return ::madvise(region.host + begin, end - begin, advice) == 0 ? end - begin : 0;
}

}  // namespace

GuestMemory::GuestMemory(std::span<const GuestRange> ranges, MemoryBacking backing) {
  for (const GuestRange& range : ranges) size_ += range.size;
  const std::string fix =
      backing.hugepages ? "reserve more huge pages: sysctl vm.nr_hugepages=" + std::to_string(size_ >> 21)
                        : "give the guest less memory or free some";
  int flags = MAP_NORESERVE;
  if (backing.shared) {
    memfd_ = make_memfd(size_, backing.hugepages);
    if (!memfd_)
      throw HostError(errno, "create a memfd of " + std::to_string(size_ >> 20) + " MiB for guest memory",
                      fix);
    flags |= MAP_SHARED;
  } else {
    flags |= MAP_PRIVATE | MAP_ANONYMOUS;
    if (backing.hugepages) flags |= static_cast<int>(MAP_HUGETLB | MAP_HUGE_2MB);
  }
  // Huge pages are reserved at once: a guest that touches one too many would get SIGBUS.
  if (backing.hugepages) flags &= ~MAP_NORESERVE;
  std::byte* const mapped = map_aligned(size_, flags, memfd_.get());
  if (mapped == nullptr)
    throw HostError(errno, "map " + std::to_string(size_ >> 20) + " MiB of guest memory", fix);
  // Transparent huge pages make loading a kernel and running it faster; a host without them says no. The
  // first pages stay small: a guest that needs no more starts without two large ones being cleared.
  if (!backing.hugepages && size_ > small_pages)
    ::madvise(mapped + small_pages, size_ - small_pages, MADV_HUGEPAGE);
  ::madvise(mapped, size_, MADV_DONTDUMP);
  ::madvise(mapped, size_, MADV_DONTFORK);
  std::uint64_t offset = 0;
  for (const GuestRange& range : ranges) {
    assert(regions_.empty() ||
           regions_.back().range.begin.value + regions_.back().range.size <= range.begin.value);
    regions_.push_back(
        {range, mapped + offset, memfd_.get(), offset, backing.hugepages ? huge_page : small_page});
    offset += range.size;
  }
}

GuestMemory::~GuestMemory() {
  if (!regions_.empty()) ::munmap(regions_.front().host, size_);
}

bool GuestMemory::contains(GuestRange range) const {
  if (range.size != 0 && range.begin.value > UINT64_MAX - (range.size - 1)) return false;
  std::uint64_t at = range.begin.value;
  std::uint64_t left = std::max<std::uint64_t>(range.size, 1);
  for (const MemoryRegion& region : regions_) {
    if (at < region.range.begin.value || at - region.range.begin.value >= region.range.size) continue;
    const std::uint64_t here = std::min(left, region.range.size - (at - region.range.begin.value));
    at += here;
    left -= here;
    if (left == 0) return true;
  }
  return false;
}

const MemoryRegion& GuestMemory::find(GuestAddress address) const {
  for (const MemoryRegion& region : regions_)
    if (address.value - region.range.begin.value < region.range.size) return region;
  throw GuestError(describe(address, 1));
}

void GuestMemory::append(GuestRange range, std::vector<iovec>& out) const {
  if (range.size == 0) return;
  if (range.begin.value > UINT64_MAX - (range.size - 1)) throw GuestError(describe(range.begin, range.size));
  const std::size_t before = out.size();
  std::uint64_t done = 0;
  while (done < range.size) {
    const GuestAddress at = range.begin + done;
    const auto region = std::find_if(regions_.begin(), regions_.end(), [&](const MemoryRegion& each) {
      return at.value - each.range.begin.value < each.range.size;
    });
    if (region == regions_.end()) {
      out.resize(before);
      throw GuestError(describe(range.begin, range.size));
    }
    const std::uint64_t offset = at.value - region->range.begin.value;
    const std::uint64_t here = std::min(range.size - done, region->range.size - offset);
    out.push_back({region->host + offset, here});
    done += here;
  }
}

void GuestMemory::read_bytes(GuestAddress from, std::span<std::byte> to) const {
  while (!to.empty()) {
    const MemoryRegion& region = find(from);
    const std::uint64_t offset = from.value - region.range.begin.value;
    const std::size_t here = std::min<std::uint64_t>(to.size(), region.range.size - offset);
    copy_opaque(to.data(), region.host + offset, here);
    to = to.subspan(here);
    from = from + here;
  }
}

void GuestMemory::write_bytes(GuestAddress to, std::span<const std::byte> from) const {
  if (!from.empty() && !contains({to, from.size()})) throw GuestError(describe(to, from.size()));
  while (!from.empty()) {
    const MemoryRegion& region = find(to);
    const std::uint64_t offset = to.value - region.range.begin.value;
    const std::size_t here = std::min<std::uint64_t>(from.size(), region.range.size - offset);
    copy_opaque(region.host + offset, from.data(), here);
    from = from.subspan(here);
    to = to + here;
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
    const MemoryRegion& region = find(range.begin);
    const std::uint64_t offset = range.begin.value - region.range.begin.value;
    const std::uint64_t here = std::min(range.size, region.range.size - offset);
    done += discard_pages(region, offset, here);
    range = {range.begin + here, range.size - here};
  }
  return done;
}

std::uint64_t GuestMemory::discard(const iovec& part) const {
  for (const MemoryRegion& region : regions_) {
    const auto offset = static_cast<std::uint64_t>(static_cast<std::byte*>(part.iov_base) - region.host);
    if (offset < region.range.size) return discard_pages(region, offset, part.iov_len);
  }
  return 0;
}

void* GuestMemory::locate_aligned(GuestAddress address, std::uint64_t size) const {
  // Regions are page-aligned, so an aligned word never crosses one.
  if (address.value % size != 0)
    throw GuestError("guest address " + std::to_string(address.value) + " is misaligned");
  const MemoryRegion& region = find(address);
  return region.host + (address.value - region.range.begin.value);
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
