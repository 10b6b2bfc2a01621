// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/suite.h"

#include <fnmatch.h>

#include <algorithm>
#include <filesystem>

#include "tools/hum/test/manifest.h"
#include "tools/hum/test/unittests_cfg.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

void replace_all(std::string& text, std::string_view from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

void append(std::vector<TestCase>& all, std::vector<TestCase> more) {
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

std::vector<TestCase> tests_of_folder(const std::string& folder) {
  std::vector<std::string> manifests;
  std::vector<TestCase> tests;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".toml") manifests.push_back(entry.path().string());
    if (entry.path().filename() == "unittests.cfg") append(tests, read_unittests_cfg(entry.path().string()));
  }
  std::sort(manifests.begin(), manifests.end());
  for (const std::string& manifest : manifests) append(tests, read_manifest(manifest));
  if (tests.empty())
    throw ConfigError("folder", folder, "there is no manifest in it (*.toml or unittests.cfg)",
                      "name the images themselves, or a manifest");
  return tests;
}

TestCase test_of_image(const std::string& image, const SuiteOptions& options) {
  TestCase test;
  test.image = image;
  test.name = fs::path(image).stem().string();
  test.arguments = options.arguments;
  if (fs::path(image).extension() == ".flat") apply_unit_test_profile(test);
  return test;
}

std::vector<TestCase> tests_of(const std::string& path, const SuiteOptions& options) {
  if (fs::is_directory(path)) return tests_of_folder(path);
  if (path.ends_with(".toml")) return read_manifest(path);
  if (path.ends_with(".cfg")) return read_unittests_cfg(path);
  return {test_of_image(path, options)};
}

void check_names(const std::vector<TestCase>& tests) {
  std::map<std::string, const TestCase*> seen;
  for (const TestCase& test : tests) {
    const auto [other, fresh] = seen.try_emplace(test.name, &test);
    if (fresh) continue;
    const TestCase& first = *other->second;
    throw ConfigError(
        test.place.empty() ? "test" : test.place + ": name", test.name,
        "two tests have this name, the other is " + (first.place.empty() ? first.image : "at " + first.place),
        "give each its own; --repeat runs one several times");
  }
}

std::vector<std::string> allowed(const std::vector<std::string>& variants,
                                 const std::map<std::string, std::string>& machine, const std::string& key) {
  const auto only = machine.find(key);
  if (only == machine.end() || variants.empty()) return variants;
  const bool listed = std::count(variants.begin(), variants.end(), only->second) != 0;
  return listed ? std::vector<std::string>{only->second} : std::vector<std::string>{};
}

TestCase variant_of(const TestCase& test, const std::map<std::string, std::string>& machine,
                    const std::string* transport, const std::string* irqchip) {
  TestCase variant = test;
  variant.transports.clear();
  variant.irqchips.clear();
  for (const auto& [key, value] : machine) variant.machine[key] = value;
  if (transport != nullptr) {
    variant.name += "/" + *transport;
    variant.machine["transport"] = *transport;
  }
  if (irqchip != nullptr) {
    variant.name += "/" + *irqchip;
    variant.machine["irqchip"] = *irqchip;
  }
  const auto value_of = [&](const std::string& key, const std::string& otherwise) {
    const auto found = variant.machine.find(key);
    return found == variant.machine.end() ? otherwise : found->second;
  };
  if (variant.arguments) {
    replace_all(*variant.arguments, "@TRANSPORT@", value_of("transport", "pci"));
    replace_all(*variant.arguments, "@IRQCHIP@", value_of("irqchip", "split"));
  }
  return variant;
}

bool is_wanted(const TestCase& test, const SuiteOptions& options) {
  return options.filters.empty() ||
         std::any_of(options.filters.begin(), options.filters.end(),
                     [&](const std::string& pattern) { return matches(test, pattern); });
}

// Whoever names a slow test whole wants it.
bool is_named(const TestCase& test, const SuiteOptions& options) {
  return std::count(options.filters.begin(), options.filters.end(), test.name) != 0;
}

}  // namespace

std::vector<TestCase> expand(const TestCase& test, const std::map<std::string, std::string>& machine) {
  const std::vector<std::string> transports = allowed(test.transports, machine, "transport");
  const std::vector<std::string> irqchips = allowed(test.irqchips, machine, "irqchip");
  if (transports.empty() != test.transports.empty() || irqchips.empty() != test.irqchips.empty()) return {};
  std::vector<TestCase> variants;
  for (std::size_t t = 0; t < std::max<std::size_t>(transports.size(), 1); ++t)
    for (std::size_t i = 0; i < std::max<std::size_t>(irqchips.size(), 1); ++i)
      variants.push_back(variant_of(test, machine, transports.empty() ? nullptr : &transports[t],
                                    irqchips.empty() ? nullptr : &irqchips[i]));
  return variants;
}

bool matches(const TestCase& test, const std::string& pattern) {
  const auto fits = [&](const std::string& text) { return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0; };
  return fits(test.name) || fits(test.name.substr(0, test.name.find('/'))) ||
         std::any_of(test.groups.begin(), test.groups.end(), fits);
}

Suite load_suite(const SuiteOptions& options) {
  std::vector<TestCase> described;
  for (const std::string& path : options.paths) append(described, tests_of(path, options));
  check_names(described);
  Suite suite;
  for (const TestCase& test : described) {
    for (TestCase& variant : expand(test, options.machine)) {
      if (!is_wanted(variant, options)) continue;
      if (variant.slow && !options.all && !is_named(variant, options)) {
        ++suite.slow_left_out;
        continue;
      }
      if (options.timeout) variant.timeout = *options.timeout;
      suite.tests.push_back(std::move(variant));
    }
  }
  if (suite.tests.empty())
    throw ConfigError("tests", "", "none is left to run",
                      suite.slow_left_out != 0 ? "--all runs the slow ones too"
                                               : "give another --filter; --list lists them");
  const std::size_t once = suite.tests.size();
  for (unsigned round = 2; round <= options.repeat; ++round) {
    for (std::size_t i = 0; i < once; ++i) {
      suite.tests.push_back(suite.tests[i]);
      suite.tests.back().name += "#" + std::to_string(round);
    }
  }
  return suite;
}

}  // namespace hum
