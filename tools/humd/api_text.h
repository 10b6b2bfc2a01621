// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/humd/disk_tables.h"
#include "tools/humd/journal.h"
#include "tools/humd/network_table.h"
#include "tools/humd/vm_table.h"
#include "tools/humd/vmm_process.h"
#include "tools/humd/workflow.h"

namespace hum {

// A time as RFC 3339 has it, in UTC with milliseconds, from seconds since 1970.
std::string time_text(double seconds);

// JSON texts of what clients see.
std::string vm_text(const VmRow& vm);
std::string image_text(const ImageRow& image);
// users: the names of the VMs that use it.
std::string volume_text(const VolumeRow& volume, const std::vector<std::string>& users);
std::string network_text(const NetworkRow& network, const std::vector<Lease>& leases);
// A process's statistics, which are JSON of its own, with what the host says of it as the field "process".
std::string with_process_use(std::string statistics, const ProcessUse& use);
// run: null where it is not under way.
std::string operation_text(const Operation& operation, const Run* run);

// What stands behind the question mark of a target.
class QueryFields {
 public:
  // Throws ConfigError: a name that is not among these, or is there twice, or a wrong escape.
  QueryFields(std::string_view query, std::initializer_list<std::string_view> names);

  std::string text(std::string_view name) const;
  // Throws ConfigError.
  bool flag(std::string_view name) const;
  std::uint64_t number(std::string_view name, std::uint64_t otherwise, std::uint64_t most) const;

 private:
  std::map<std::string, std::string, std::less<>> fields_;
};

}  // namespace hum
