// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/vm_config.h"

#include <algorithm>
#include <array>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::array<OptionSpec, 7> options = {{
    {.key = "cpus",
     .type = OptionType::integer,
     .help = "number of virtual CPUs",
     .default_value = "1",
     .minimum = 1,
     .maximum = 64},
    {.key = "memory",
     .type = OptionType::size,
     .help = "guest memory; less than 1M is taken as MiB",
     .default_value = "256M",
     .minimum = 2ull << 20,
     .maximum = 1ull << 40},
    {.key = "hugepages",
     .type = OptionType::boolean,
     .help = "back guest memory with 2 MiB pages of the host's pool",
     .default_value = "off"},
    {.key = "shared-memory",
     .type = OptionType::boolean,
     .help = "back guest memory with a memfd that other processes can map",
     .default_value = "off"},
    {.key = "irqchip",
     .type = OptionType::choice,
     .help = "where the interrupt controllers are: 'split' keeps only the local APICs in KVM, 'kernel' all, "
             "with PIC and PIT",
     .default_value = "split",
     .choices = "split|kernel"},
    {.key = "transport",
     .type = OptionType::choice,
     .help = "how virtio devices are attached",
     .default_value = "pci",
     .choices = "pci|mmio"},
    {.key = "boot",
     .type = OptionType::choice,
     .help = "boot protocol: 'auto' unpacks a compressed kernel on the host, 'bzimage' keeps the kernel's "
             "own decompressor and its address randomization",
     .default_value = "auto",
     .choices = "auto|bzimage|pvh|linux64|multiboot"},
}};

}  // namespace

std::span<const OptionSpec> machine_options() {
  return options;
}

void VmConfig::set(std::string_view key, std::string_view text) {
  const auto spec =
      std::find_if(options.begin(), options.end(), [&](const OptionSpec& row) { return row.key == key; });
  if (spec == options.end())
    throw ConfigError(std::string(key), std::string(text), "unknown option of the machine");
  // A bare number of memory means MiB, as in every other tool of this kind.
  const bool bare_memory = key == "memory" && !text.empty() && text.size() <= 7 &&
                           text.find_first_not_of("0123456789") == std::string_view::npos;
  const OptionValue value =
      parse_option(key, *spec, bare_memory ? std::string(text) + "M" : std::string(text));
  if (key == "cpus") cpus = static_cast<std::uint32_t>(std::get<std::uint64_t>(value));
  if (key == "memory") {
    memory = std::get<std::uint64_t>(value);
    if (memory % 4096 != 0) throw ConfigError("memory", std::string(text), "is not a multiple of 4096 bytes");
  }
  if (key == "hugepages") backing.hugepages = std::get<bool>(value);
  if (key == "shared-memory") backing.shared = std::get<bool>(value);
  if (key == "irqchip") irqchip = std::get<std::string>(value) == "kernel" ? Irqchip::kernel : Irqchip::split;
  if (key == "transport")
    transport = std::get<std::string>(value) == "mmio" ? Transport::mmio : Transport::pci;
  if (key == "boot") boot.protocol = *boot_protocol_from(std::get<std::string>(value));
}

}  // namespace hum
