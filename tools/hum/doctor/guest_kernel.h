// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tools/hum/doctor/boot_checks.h"
#include "tools/hum/doctor/kernel_options.h"
#include "vmm/boot/initrd_files.h"
#include "vmm/boot/kernel_facts.h"

namespace hum::doctor {

namespace drivers {
inline constexpr Driver virtio_pci{"virtio_pci", "VIRTIO_PCI", "virtio_pci", "virtio_pci.force_legacy"};
inline constexpr Driver virtio_mmio{"virtio_mmio", "VIRTIO_MMIO", "virtio_mmio", "LNRO0005"};
inline constexpr Driver virtio_blk{"virtio_blk", "VIRTIO_BLK", "virtio_blk", "virtio_blk.queue_depth"};
inline constexpr Driver serial_console{"8250 serial console", "SERIAL_8250_CONSOLE", "", "8250.nr_uarts"};
inline constexpr Driver virtio_console{"virtio_console", "VIRTIO_CONSOLE", "virtio_console", ""};
// The driver of a file system by the type that a disk says; nothing else is known of a type not listed.
const Driver* of_file_system(const std::string& type);
}  // namespace drivers

// A kernel and its initrd, read and put together. The texts of errors are kept.
class GuestKernel {
 public:
  explicit GuestKernel(const BootPlan& plan);

  const KernelFacts& facts() const { return facts_; }
  const InitrdFiles& initrd() const { return initrd_; }
  const DriverSources& drivers() const { return drivers_; }

  const std::string& kernel_error() const { return kernel_error_; }  // empty: it was read
  const std::string& initrd_error() const { return initrd_error_; }
  // Where the configuration came from: "the kernel itself", a path; empty: there is none.
  const std::string& options_from() const { return options_from_; }
  bool initrd_has_init() const { return has_init_; }
  // The release that the initrd's modules are for, if they are for none but another kernel.
  const std::string& foreign_release() const { return foreign_release_; }

 private:
  void read_kernel(const BootPlan& plan);
  void read_initrd(const BootPlan& plan);
  void find_options(const BootPlan& plan);
  bool take_options(const std::string& path);
  void see_module(std::string_view path);
  void take_built_in(std::string_view text);

  KernelFacts facts_;
  InitrdFiles initrd_;
  DriverSources drivers_;
  std::string kernel_error_;
  std::string initrd_error_;
  std::string options_from_;
  bool has_init_ = false;
  std::string foreign_release_;
};

}  // namespace hum::doctor
