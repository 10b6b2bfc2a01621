// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

namespace hum::doctor {

// What a Linux kernel was built with: the text of its .config. Value type.
class KernelOptions {
 public:
  KernelOptions() = default;
  explicit KernelOptions(std::string_view text);

  // There is no configuration: nothing is known.
  bool empty() const { return values_.empty(); }
  // 'y', 'm' or 'n'; an option that is not named is not built.
  char get(const std::string& option) const;  // without CONFIG_

 private:
  std::map<std::string, char, std::less<>> values_;
};

// A driver of the guest that matters here.
struct Driver {
  std::string_view name;    // for people
  std::string_view option;  // "VIRTIO_BLK"
  std::string_view module;  // "virtio_blk"
  std::string_view text;    // that occurs in every kernel that has it built in; empty: none is known
};

// Where the guest will find a driver.
enum class Presence { built_in, in_initrd, missing, unknown };

// All that is known about the drivers of one boot.
struct DriverSources {
  KernelOptions options;
  std::set<std::string, std::less<>> built_in;  // modules.builtin, if there is one
  std::set<std::string, std::less<>> modules;   // in the initrd, for this kernel
  bool initrd_known = true;                     // there is none, or it was read to its end
  std::set<std::string, std::less<>> texts;     // of drivers, found in the kernel

  Presence find(const Driver& driver) const;
};

// "kernel/drivers/block/virtio-blk.ko.xz" -> "virtio_blk"; empty: no module.
std::string module_name(std::string_view path);

}  // namespace hum::doctor
