// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "tools/humd/project_table.h"
#include "tools/humd/vm_table.h"

// How many VMs there is room for: what is promised to those that run is never more than the host's share for
// VMs, and what a project's VMs are is never more than its quota.
namespace hum {

class Manager;

struct HostShare {
  unsigned memory_percent = 90;      // of the host's memory that all VMs together may have
  unsigned cpus_per_processor = 16;  // virtual ones
};

struct Room {
  std::uint64_t fit = 0;   // how many more
  std::string limited_by;  // "memory", "cpus", or the quota's "project.vms", "project.cpus", "project.memory"
};

// Pure. How many more VMs like one there is room for; what needs nothing fits without end (UINT64_MAX).
Room room_on_host(const VmUse& all, const VmUse& used, const VmUse& one);
Room room_in_quota(const Quota& quota, const VmUse& used, const VmUse& one);

// What all VMs that run together may have on this host; its vms is 0: any number.
VmUse host_capacity(const HostShare& share);

VmUse use_of(const VmSpec& spec);

// Throws ApiError (409, "no-room"): the VM may not run beside those that do.
void expect_room(Manager& manager, const VmRow& vm);
// Throws ApiError (409, "quota-exceeded"): its project may not have such a VM besides the others; vm: which
// of those it is to be, 0 where it is new.
void expect_quota(Manager& manager, std::int64_t vm, const VmSpec& spec);

}  // namespace hum
