// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace hum {

// A path as the daemon takes it, from the root: one that is not is taken from that folder.
std::string path_from(const std::string& folder, const std::string& path);

// A device of the command line, "disk" and "root.img,readonly=on", as the daemon takes it: only what was
// given, and paths from the root. folder: where other paths begin. Throws ConfigError.
nlohmann::json device_of(const std::string& kind, const std::string& name, const std::string& text,
                         const std::string& folder);

// The kind in the text, too: "disk,path=root.img"; the name is of the kind and a number.
nlohmann::json device_of(const std::string& text, std::size_t number, const std::string& folder);

}  // namespace hum
