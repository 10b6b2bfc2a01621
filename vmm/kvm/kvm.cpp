// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/kvm.h"

#include <cpuid.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/base/errors.h"

namespace hum {
namespace {

std::string fix_for(int error) {
  switch (error) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
      return "load the module with 'modprobe kvm_intel' or 'modprobe kvm_amd', switch virtualization on in "
             "the "
             "firmware, or run inside the lab: tools/lab hum run";
    case EACCES:
    case EPERM:
      return "add yourself to its group with 'sudo usermod -aG kvm $USER' and log in again";
    default:
      return {};
  }
}

// KVM names the leaves of the processor's brand but leaves them empty: it is the host's.
void fill_in_brand(kvm_cpuid_entry2& leaf) {
  constexpr std::uint32_t first = 0x80000002;
  constexpr std::uint32_t last = 0x80000004;
  if (leaf.function >= first && leaf.function <= last && (leaf.eax | leaf.ebx | leaf.ecx | leaf.edx) == 0)
    __get_cpuid(leaf.function, &leaf.eax, &leaf.ebx, &leaf.ecx, &leaf.edx);
}

}  // namespace

int kvm_ioctl(int fd, unsigned long request, void* argument) {
  int result = 0;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

int kvm_ioctl(int fd, unsigned long request, unsigned long argument) {
  return kvm_ioctl(fd, request, reinterpret_cast<void*>(argument));
}

int require_ioctl(const char* tried, int fd, unsigned long request, void* argument) {
  const int result = kvm_ioctl(fd, request, argument);
  if (result < 0) throw HostError(errno, tried);
  return result;
}

int require_ioctl(const char* tried, int fd, unsigned long request, unsigned long argument) {
  return require_ioctl(tried, fd, request, reinterpret_cast<void*>(argument));
}

Kvm::Kvm() : fd_(::open("/dev/kvm", O_RDWR | O_CLOEXEC)) {
  if (!fd_) throw HostError(errno, "open '/dev/kvm'", fix_for(errno));
  check();
}

Kvm::Kvm(int handed_in) : fd_(Fd::duplicate(handed_in)) {
  check();
}

void Kvm::check() {
  if (kvm_ioctl(fd_.get(), KVM_GET_API_VERSION) != KVM_API_VERSION)
    throw HostError(ENODEV, "use this KVM: it does not have the stable API version 12");
  vcpu_mapping_size_ = static_cast<std::size_t>(
      require_ioctl("read the size of a vCPU's shared structure", fd_.get(), KVM_GET_VCPU_MMAP_SIZE));
}

int Kvm::extension(int capability) const {
  const int result = kvm_ioctl(fd_.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(capability));
  return result < 0 ? 0 : result;
}

std::vector<kvm_cpuid_entry2> Kvm::supported_cpuid() const {
  constexpr std::uint32_t most = 256;
  const auto bytes = sizeof(kvm_cpuid2) + most * sizeof(kvm_cpuid_entry2);
  std::vector<kvm_cpuid_entry2> storage(bytes / sizeof(kvm_cpuid_entry2) + 1);
  auto* table = reinterpret_cast<kvm_cpuid2*>(storage.data());
  table->nent = most;
  require_ioctl("read the CPUID leaves that KVM supports", fd_.get(), KVM_GET_SUPPORTED_CPUID, table);
  std::vector<kvm_cpuid_entry2> leaves(table->entries, table->entries + table->nent);
  for (kvm_cpuid_entry2& leaf : leaves) fill_in_brand(leaf);
  return leaves;
}

}  // namespace hum
