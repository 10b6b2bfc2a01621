// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "tools/hum-vmm/fields.h"

namespace hum {

// One part of a configuration in the dialect: a path of the API and a key of the config file.
struct Section {
  std::string_view name;                     // in the config file and in GET /vm/config
  std::string_view path;                     // of the API, without its first slash
  std::span<const Field> fields;             // of PUT
  std::string_view id_field = {};            // of one that is a list
  std::span<const Field> patch_fields = {};  // empty: no PATCH
  bool live = false;                         // PATCH is for a VM that runs; else for one that is not started
  bool hotplug = false;                      // elements may come and go while a VM on PCI runs
  std::string_view alias = {};               // another spelling of the name in config files
};

namespace sections {

extern const Section boot_source;
extern const Section machine_config;
extern const Section cpu_config;
extern const Section drives;
extern const Section pmem;
extern const Section network_interfaces;
extern const Section vsock;
extern const Section entropy;
extern const Section serial;
extern const Section logger;
extern const Section metrics;
extern const Section mmds_config;
extern const Section balloon;
extern const Section memory_hotplug;
extern const Section own_devices;         // of our own kind, beside the dialect's
extern const Section balloon_statistics;  // a part of balloon that is changed by itself

// In the order in which a config file is taken.
std::span<const Section* const> all();

// The one that an API path of one or two words begins with, like "drives" or "mmds/config"; null: none.
const Section* find(std::string_view path);

}  // namespace sections

// What of a drive a vhost-user server is told.
std::span<const Field> vhost_user_drive_fields();

}  // namespace hum
