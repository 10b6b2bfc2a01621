// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/host_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

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

// Null with errno.
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

std::string mib_of(std::uint64_t size) {
  return std::to_string(size >> 20) + " MiB";
}

// A core file without guest memory, and no copy of it in a child.
void keep_apart(std::byte* begin, std::uint64_t size) {
  ::madvise(begin, size, MADV_DONTDUMP);
  ::madvise(begin, size, MADV_DONTFORK);
}

}  // namespace

HostMemory::HostMemory(HostMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      file_(std::move(other.file_)) {}

HostMemory& HostMemory::operator=(HostMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(file_, other.file_);
  return *this;
}

HostMemory::~HostMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

HostMemory HostMemory::zeroes(std::uint64_t size, MemoryBacking backing) {
  const std::string fix =
      backing.hugepages ? "reserve more huge pages: sysctl vm.nr_hugepages=" + std::to_string(size >> 21)
                        : "give the guest less memory or free some";
  HostMemory memory;
  int flags = MAP_NORESERVE;
  if (backing.shared) {
    memory.file_ = make_memfd(size, backing.hugepages);
    if (!memory.file_) throw HostError(errno, "create a memfd of " + mib_of(size) + " for guest memory", fix);
    flags |= MAP_SHARED;
  } else {
    flags |= MAP_PRIVATE | MAP_ANONYMOUS;
    if (backing.hugepages) flags |= static_cast<int>(MAP_HUGETLB | MAP_HUGE_2MB);
  }
  // Huge pages are reserved at once: a guest that touches one too many would get SIGBUS.
  if (backing.hugepages) flags &= ~MAP_NORESERVE;
  memory.data_ = map_aligned(size, flags, memory.fd());
  if (memory.data_ == nullptr) throw HostError(errno, "map " + mib_of(size) + " of guest memory", fix);
  memory.size_ = size;
  // Transparent huge pages make loading a kernel and running it faster; a host without them says no. The
  // first pages stay small: a guest that needs no more starts without two large ones being cleared.
  if (!backing.hugepages && size > small_pages)
    ::madvise(memory.data_ + small_pages, size - small_pages, MADV_HUGEPAGE);
  keep_apart(memory.data_, size);
  return memory;
}

void HostMemory::put_file(int file, std::uint64_t size, int protection) {
  if (::mmap(data_, size, protection, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, file, 0) == MAP_FAILED)
    throw HostError(errno, "map " + mib_of(size) + " of a file");
  keep_apart(data_, size);
}

}  // namespace hum
