// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/devices_command.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "devices/registry.h"
#include "vmm/base/options.h"

namespace hum {

DevicesCommand::DevicesCommand(CLI::App& app, int& exit_code) {
  app.add_flag("--json", json_, "Print JSON");
  app.callback([this, &exit_code] {
    list();
    exit_code = 0;
  });
}

void DevicesCommand::list() const {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const DeviceKind* const kind : all_devices()) {
    nlohmann::ordered_json options = nlohmann::ordered_json::array();
    if (!json_) std::printf("%-12s %s\n", std::string(kind->name).c_str(), std::string(kind->help).c_str());
    for (const OptionSpec& spec : kind->options) {
      const std::string accepted = describe_accepted(spec);
      if (!json_) {
        std::string note = accepted;
        if (spec.required) note += "; required";
        if (!spec.default_value.empty()) note += "; default " + std::string(spec.default_value);
        std::printf("  %-10s %s (%s)\n", std::string(spec.key).c_str(), std::string(spec.help).c_str(),
                    note.c_str());
      }
      options.push_back({{"key", spec.key},
                         {"help", spec.help},
                         {"accepts", accepted},
                         {"required", spec.required},
                         {"default", spec.default_value}});
    }
    all.push_back({{"name", kind->name}, {"help", kind->help}, {"options", options}});
  }
  if (json_) std::printf("%s\n", all.dump(2).c_str());
}

}  // namespace hum
