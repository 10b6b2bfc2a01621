// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tools/humd/disk_tables.h"
#include "tools/humd/vm_spec.h"
#include "tools/humd/vm_table.h"
#include "tools/humd/workflow.h"

// What VMs take of other objects: an image's content, volumes, places in networks. All belong to the logic's
// thread.
namespace hum {

// One of that name that the user may have. Throws ApiError (404; 409: it is being made or deleted).
ImageRow ready_image(Manager& manager, const std::string& name, uid_t user);
VolumeRow ready_volume(Manager& manager, const std::string& name, uid_t user);

// Throws ApiError (409): a VM runs on it.
void expect_no_runner(Manager& manager, const VolumeRow& volume);
// Throws ApiError (409): something is done with a volume that the VM is to run on.
void expect_idle_volumes(Manager& manager, const VmSpec& spec);

// The content that a VM is to be made of: the digest of the image that the spec names; empty: it names none.
// Throws ApiError (404, 409), ConfigError: nobody gives a kernel.
std::string content_for(Manager& manager, const VmSpec& spec, uid_t user);
// A new VM's own disk, where its image has one. The caller commits; the disk is made by make_own_disks.
void give_own_disk(Manager& manager, std::int64_t vm, const VmSpec& spec, uid_t user,
                   const std::string& content);
// The volumes and networks that the spec names are the VM's from now on, and no others. The caller commits.
// Throws ApiError (404), ConfigError: a port is published twice, a network is full.
void bind_resources(Manager& manager, std::int64_t vm, const VmSpec& spec, uid_t user);
// They are the VM's no more.
void release_resources(Manager& manager, std::int64_t vm);

// The config file of the VM's process. user_socket: the descriptor that leads to passt there.
nlohmann::json vmm_config(Manager& manager, const VmRow& vm);
inline constexpr int user_socket = 5;
inline constexpr int ready_pipe = 4;  // of the VM's process, which tells there that the VM runs

// Steps. Each may be done again.
Task<> make_own_disks(Manager& manager, Run& run);
Task<> remove_own_disks(Manager& manager, Run& run);
Task<> connect_networks(Manager& manager, Run& run);
Task<> disconnect_networks(Manager& manager, Run& run);

// Removes what images were made of and nothing needs any more.
Task<> collect_contents(Manager& manager, Run& run);

}  // namespace hum
