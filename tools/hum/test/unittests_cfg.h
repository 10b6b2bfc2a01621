// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/hum/test/test_case.h"

namespace hum {

// Reads kvm-unit-tests' list of tests, unittests.cfg: [name] sections of file, smp, extra_params (of QEMU),
// groups, arch, accel, check, timeout. A test that asks for what this machine has not is kept and says so
// (skip). place names the file in errors; images are relative to folder. Throws ConfigError with PLACE:LINE
// for what is no such list.
std::vector<TestCase> parse_unittests_cfg(std::string_view text, const std::string& place,
                                          const std::string& folder);

// Reads the file. Throws ConfigError, HostError.
std::vector<TestCase> read_unittests_cfg(const std::string& path);

// The words of a line as a shell splits them: blanks, 'single' and "double" quotes, backslash.
std::vector<std::string> shell_words(std::string_view text);

}  // namespace hum
