// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tools/hum-vmm/sections.h"
#include "vmm/base/errors.h"
#include "vmm/machine/vm_config.h"

namespace hum {

// What clients and the config file have asked for, section by section. Each request is taken whole or, with
// an error, not at all. Belongs to one thread.
class MicrovmConfig {
 public:
  explicit MicrovmConfig(Transport transport);
  ~MicrovmConfig();

  // The checked body of a PUT; of a list's section it adds an element, or replaces the one with that id.
  // Throws ConfigError; HostError where a file cannot be opened.
  void put(const Section& section, const nlohmann::json& checked);
  // The checked body of a PATCH of the machine.
  void patch(const Section& section, const nlohmann::json& checked);
  // What was changed of a VM that runs, so that it is read back.
  void note_change(const Section& section, const nlohmann::json& checked);

  // In the form of the config file, every section that such a file may have.
  nlohmann::json all() const;
  const nlohmann::json& get(const Section& section) const;

  // Throws ConfigError: there is no kernel.
  VmConfig vm_config() const;
  // The device that a section, or the element of a list with that id, becomes; its name is "balloon", or
  // "drives/rootfs". None: there is none.
  std::optional<DeviceConfig> device(const Section& section, std::string_view id = {}) const;
  bool is_root(std::string_view device_name) const;
  // Forgets the element that has become the device of that name.
  void remove(std::string_view device_name);

 private:
  void check_drive(const nlohmann::json& drive) const;
  // That no other drive or pmem is the root device.
  void check_root(const Section& section, std::string_view field, const nlohmann::json& element) const;
  void check_pmem(const nlohmann::json& pmem) const;
  void check_network(const nlohmann::json& interface) const;
  void check_mmds(const nlohmann::json& mmds) const;
  DeviceConfig device_of(const Section& section, const nlohmann::json& element) const;
  std::string mmds_option(const nlohmann::json& interface) const;
  std::string command_line() const;

  Transport transport_;
  std::unique_ptr<nlohmann::json> document_;
};

// An error of a device's own option, by the field that stands for it.
ConfigError in_dialect(const ConfigError& error);

}  // namespace hum
