// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/kvm/abi.h"

namespace hum {

// /dev/kvm: what this host's KVM can do. Immutable once opened; any thread.
class Kvm {
 public:
  // Opens /dev/kvm. Throws HostError with the way out: no such device, no permission, or not KVM's stable
  // API.
  Kvm();
  // Uses an open /dev/kvm that was handed in (duplicated).
  explicit Kvm(int handed_in);

  int fd() const { return fd_.get(); }
  // KVM_CHECK_EXTENSION: 0 where the host lacks it.
  int extension(int capability) const;
  // Bytes of the structure a vCPU shares with us.
  std::size_t vcpu_mapping_size() const { return vcpu_mapping_size_; }
  // KVM_GET_SUPPORTED_CPUID. Throws HostError.
  std::vector<kvm_cpuid_entry2> supported_cpuid() const;

 private:
  void check();

  Fd fd_;
  std::size_t vcpu_mapping_size_ = 0;
};

// ioctl(2) that retries EINTR. Returns -1 with errno set.
int kvm_ioctl(int fd, unsigned long request, void* argument);
int kvm_ioctl(int fd, unsigned long request, unsigned long argument = 0);
// The same; throws HostError("cannot <tried>").
int require_ioctl(const char* tried, int fd, unsigned long request, void* argument);
int require_ioctl(const char* tried, int fd, unsigned long request, unsigned long argument = 0);

// A request of KVM's that is a header with entries right behind it.
template <class Header, class Entry>
class KvmTable {
 public:
  KvmTable(const Header& header, std::span<const Entry> entries)
      : bytes_(sizeof header + entries.size_bytes()) {
    std::memcpy(bytes_.data(), &header, sizeof header);
    if (!entries.empty()) std::memcpy(bytes_.data() + sizeof header, entries.data(), entries.size_bytes());
  }
  void* get() { return bytes_.data(); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace hum
