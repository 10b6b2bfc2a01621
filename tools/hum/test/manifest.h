// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/hum/test/test_case.h"

namespace hum {

// Reads a manifest of tests (TOML): [[test]] tables and one optional [defaults]. place names it in errors;
// paths in it are relative to folder. Throws ConfigError with PLACE:LINE: an unknown key (lists the known), a
// wrong type or value, a name given twice.
std::vector<TestCase> parse_manifest(std::string_view text, const std::string& place,
                                     const std::string& folder);

// Reads the file; paths are relative to it. Throws ConfigError, HostError.
std::vector<TestCase> read_manifest(const std::string& path);

}  // namespace hum
