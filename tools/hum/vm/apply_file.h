// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace hum {

// A JSON value that is shared and never changed.
using SharedJson = std::shared_ptr<const nlohmann::json>;

// One thing that a file wants to be there, or not to be.
struct WantedObject {
  std::string type;  // "image", "volume", "network", "project", "vm"
  std::string name;
  std::string state;  // "present" or "absent"; of a VM "running", "stopped" or "absent"
  SharedJson fields;  // as the daemon takes them, the name included; only what the file says
};

// What a TOML file says of the objects of a daemon, in the order in which they are made. folder: where its
// paths begin. place: what stands in errors for it. Throws ConfigError: no TOML, an unknown table, a key of
// the wrong kind; the daemon knows the fields and their ranges.
std::vector<WantedObject> read_apply_file(const std::string& text, const std::string& place,
                                          const std::string& folder);

}  // namespace hum
