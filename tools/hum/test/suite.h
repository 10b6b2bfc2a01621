// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/hum/test/test_case.h"

namespace hum {

// Which tests run, and how: what the command line of `hum test` said.
struct SuiteOptions {
  std::vector<std::string> paths = {};              // images, manifests, unittests.cfg, folders
  std::vector<std::string> filters = {};            // patterns of names or groups; any may match
  std::map<std::string, std::string> machine = {};  // of machine_options(), in place of each test's own
  std::optional<std::string> arguments = {};        // of images named by themselves
  std::optional<unsigned> timeout = {};             // seconds, in place of each test's own
  bool all = false;                                 // the slow ones too
  unsigned repeat = 1;
};

struct Suite {
  std::vector<TestCase> tests;    // expanded, in order
  std::size_t slow_left_out = 0;  // for want of `all`
};

// Reads and expands the tests. Throws ConfigError (nothing to run, two tests of one name, what the readers
// throw), HostError.
Suite load_suite(const SuiteOptions& options);

// One test for each transport and irqchip of the list, with @TRANSPORT@ and @IRQCHIP@ replaced; machine:
// values that take the place of the tests' own. A variant that they exclude is left out.
std::vector<TestCase> expand(const TestCase& test, const std::map<std::string, std::string>& machine);

// True if a pattern (*, ?, [...]) matches the test's name, the name without its variant, or a group.
bool matches(const TestCase& test, const std::string& pattern);

}  // namespace hum
