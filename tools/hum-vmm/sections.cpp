// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/sections.h"

#include <algorithm>
#include <array>

namespace hum {
namespace {

using enum FieldType;

constexpr Field boot_source_fields[] = {
    {.name = "kernel_image_path", .required = true},
    {.name = "boot_args"},
    {.name = "initrd_path"},
};

constexpr Field machine_config_fields[] = {
    {.name = "vcpu_count", .type = integer, .required = true, .key = "cpus", .minimum = 1, .maximum = 32},
    {.name = "mem_size_mib", .type = integer, .required = true, .key = "memory", .minimum = 2},
    {.name = "smt", .type = boolean, .alias = "ht_enabled"},
    {.name = "cpu_template", .type = choice, .choices = "None|C3|T2|T2S|T2CL|T2A|V1N1", .deprecated = true},
    {.name = "track_dirty_pages", .type = boolean},
    {.name = "huge_pages", .type = choice, .key = "hugepages", .choices = "None=off|Transparent=off|2M=on"},
};
constexpr Field machine_config_patch_fields[] = {
    {.name = "vcpu_count", .type = integer, .key = "cpus", .minimum = 1, .maximum = 32},
    {.name = "mem_size_mib", .type = integer, .key = "memory", .minimum = 2},
    machine_config_fields[2],
    machine_config_fields[3],
    machine_config_fields[4],
    machine_config_fields[5],
};

constexpr Field cpu_config_fields[] = {
    {.name = "kvm_capabilities", .type = texts},
    {.name = "cpuid_modifiers", .type = objects},
    {.name = "msr_modifiers", .type = objects},
};

constexpr Field drive_fields[] = {
    {.name = "drive_id", .required = true},
    {.name = "is_root_device", .type = boolean, .required = true},
    {.name = "path_on_host", .key = "path"},
    {.name = "is_read_only", .type = boolean, .key = "readonly"},
    {.name = "partuuid"},
    {.name = "cache_type", .type = choice, .key = "cache", .choices = "Unsafe=unsafe|Writeback=writeback"},
    {.name = "io_engine", .type = choice, .key = "aio", .choices = "Sync=auto|Async=auto"},
    {.name = "rate_limiter", .type = limiter},
    {.name = "socket"},
};
constexpr Field vhost_user_fields[] = {{.name = "socket", .key = "socket"}};
constexpr Field drive_patch_fields[] = {
    {.name = "drive_id", .required = true},
    {.name = "path_on_host", .key = "path"},
    {.name = "rate_limiter", .type = limiter},
};

constexpr Field pmem_fields[] = {
    {.name = "id", .required = true},          {.name = "path_on_host", .required = true, .key = "path"},
    {.name = "root_device", .type = boolean},  {.name = "read_only", .type = boolean, .key = "readonly"},
    {.name = "rate_limiter", .type = limiter},
};
constexpr Field pmem_patch_fields[] = {
    {.name = "id", .required = true},
    {.name = "rate_limiter", .type = limiter},
};

constexpr Field network_fields[] = {
    {.name = "iface_id", .required = true},
    {.name = "host_dev_name", .required = true, .key = "tap"},
    {.name = "guest_mac", .key = "mac"},
    {.name = "mtu", .type = integer, .key = "mtu", .minimum = 68, .maximum = 65535},
    {.name = "rx_rate_limiter", .type = limiter, .key = "rx-"},
    {.name = "tx_rate_limiter", .type = limiter, .key = "tx-"},
};
constexpr Field network_patch_fields[] = {
    {.name = "iface_id", .required = true},
    {.name = "rx_rate_limiter", .type = limiter, .key = "rx-"},
    {.name = "tx_rate_limiter", .type = limiter, .key = "tx-"},
};

constexpr Field vsock_fields[] = {
    {.name = "guest_cid", .type = integer, .required = true, .key = "cid", .minimum = 3},
    {.name = "uds_path", .required = true, .key = "socket"},
    {.name = "vsock_id", .deprecated = true},
};

constexpr Field entropy_fields[] = {{.name = "rate_limiter", .type = limiter}};

constexpr Field serial_fields[] = {
    {.name = "serial_out_path"},
    {.name = "rate_limiter", .type = bucket, .key = "bandwidth"},
};

constexpr Field logger_fields[] = {
    {.name = "log_path"},
    {.name = "level",
     .type = choice,
     .choices =
         "Off|Error|Warning|Info|Debug|Trace|OFF=Off|ERROR=Error|WARNING=Warning|INFO=Info|DEBUG=Debug|"
         "TRACE=Trace|Warn=Warning|WARN=Warning"},
    {.name = "show_level", .type = boolean},
    {.name = "show_log_origin", .type = boolean},
    {.name = "module"},
};

constexpr Field metrics_fields[] = {
    {.name = "metrics_path", .required = true},
    {.name = "emit_id", .type = boolean},
    {.name = "properties", .type = texts_by_name},
};

constexpr Field mmds_config_fields[] = {
    {.name = "network_interfaces", .type = texts},
    {.name = "version", .type = choice, .choices = "V1|V2"},
    {.name = "ipv4_address"},
    {.name = "imds_compat", .type = boolean},
};

constexpr Field balloon_fields[] = {
    {.name = "amount_mib", .type = integer, .required = true, .key = "target", .unit = "M"},
    {.name = "deflate_on_oom", .type = boolean, .required = true, .key = "deflate-on-oom"},
    {.name = "stats_polling_interval_s", .type = integer, .key = "statistics", .maximum = UINT16_MAX},
    {.name = "free_page_hinting", .type = boolean, .key = "hinting"},
    {.name = "free_page_reporting", .type = boolean, .key = "reporting"},
};
constexpr Field balloon_patch_fields[] = {balloon_fields[0]};
constexpr Field balloon_statistics_fields[] = {{.name = "stats_polling_interval_s",
                                                .type = integer,
                                                .required = true,
                                                .key = "statistics",
                                                .maximum = UINT16_MAX}};

constexpr Field memory_hotplug_fields[] = {
    {.name = "total_size_mib",
     .type = integer,
     .required = true,
     .key = "total",
     .unit = "M",
     .minimum = 128},
    {.name = "slot_size_mib", .type = integer, .key = "slot-size", .unit = "M", .minimum = 128},
    {.name = "block_size_mib", .type = integer, .key = "block-size", .unit = "M", .minimum = 2},
};
constexpr Field memory_hotplug_patch_fields[] = {
    {.name = "requested_size_mib", .type = integer, .required = true, .key = "requested", .unit = "M"}};

constexpr Field own_device_fields[] = {
    {.name = "name", .required = true},
    {.name = "kind", .required = true},
    {.name = "options", .type = values},
};

constexpr std::array everything = {
    &sections::logger,      &sections::metrics,        &sections::boot_source, &sections::machine_config,
    &sections::cpu_config,  &sections::drives,         &sections::pmem,        &sections::network_interfaces,
    &sections::vsock,       &sections::balloon,        &sections::entropy,     &sections::serial,
    &sections::mmds_config, &sections::memory_hotplug, &sections::own_devices,
};

}  // namespace

namespace sections {

constinit const Section boot_source{
    .name = "boot-source", .path = "boot-source", .fields = boot_source_fields};
constinit const Section machine_config{.name = "machine-config",
                                       .path = "machine-config",
                                       .fields = machine_config_fields,
                                       .patch_fields = machine_config_patch_fields};
constinit const Section cpu_config{.name = "cpu-config", .path = "cpu-config", .fields = cpu_config_fields};
constinit const Section drives{.name = "drives",
                               .path = "drives",
                               .fields = drive_fields,
                               .id_field = "drive_id",
                               .patch_fields = drive_patch_fields,
                               .live = true,
                               .hotplug = true};
constinit const Section pmem{.name = "pmem",
                             .path = "pmem",
                             .fields = pmem_fields,
                             .id_field = "id",
                             .patch_fields = pmem_patch_fields,
                             .live = true,
                             .hotplug = true};
constinit const Section network_interfaces{.name = "network-interfaces",
                                           .path = "network-interfaces",
                                           .fields = network_fields,
                                           .id_field = "iface_id",
                                           .patch_fields = network_patch_fields,
                                           .live = true,
                                           .hotplug = true,
                                           .alias = "network_interfaces"};
constinit const Section vsock{.name = "vsock", .path = "vsock", .fields = vsock_fields};
constinit const Section entropy{.name = "entropy", .path = "entropy", .fields = entropy_fields};
constinit const Section serial{.name = "serial", .path = "serial", .fields = serial_fields};
constinit const Section logger{.name = "logger", .path = "logger", .fields = logger_fields};
constinit const Section mmds_config{
    .name = "mmds-config", .path = "mmds/config", .fields = mmds_config_fields};
constinit const Section balloon{.name = "balloon",
                                .path = "balloon",
                                .fields = balloon_fields,
                                .patch_fields = balloon_patch_fields,
                                .live = true};
constinit const Section balloon_statistics{.name = "balloon",
                                           .path = "balloon/statistics",
                                           .fields = {},
                                           .patch_fields = balloon_statistics_fields,
                                           .live = true};
constinit const Section memory_hotplug{.name = "memory-hotplug",
                                       .path = "hotplug/memory",
                                       .fields = memory_hotplug_fields,
                                       .patch_fields = memory_hotplug_patch_fields,
                                       .live = true};
constinit const Section own_devices{.name = "hum-devices",
                                    .path = "hum/v1/devices",
                                    .fields = own_device_fields,
                                    .id_field = "name",
                                    .hotplug = true};
constinit const Section metrics{.name = "metrics", .path = "metrics", .fields = metrics_fields};

std::span<const Section* const> all() {
  return everything;
}

const Section* find(std::string_view path) {
  if (path == balloon_statistics.path) return &balloon_statistics;
  const auto found = std::find_if(everything.begin(), everything.end(),
                                  [&](const Section* each) { return each->path == path; });
  return found == everything.end() ? nullptr : *found;
}

}  // namespace sections

std::span<const Field> vhost_user_drive_fields() {
  return vhost_user_fields;
}

}  // namespace hum
