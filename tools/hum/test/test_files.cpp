// SPDX-License-Identifier: Apache-2.0
// What a test's process is given: its command line and its files.
#include <algorithm>

#include "tools/hum/test/runner.h"
#include "tools/hum/test/text.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

constexpr std::size_t disk_size = 1 << 20;

std::string disk_content() {
  constexpr std::string_view line = "hummingbird\n";
  std::string content;
  content.reserve(disk_size + line.size());
  while (content.size() < disk_size) content += line;
  content.resize(disk_size);
  return content;
}

std::string disk_path(const std::string& stem, std::size_t number) {
  return stem + ".disk" + std::to_string(number);
}

std::string placeholder_path(const std::string& stem) {
  return stem + ".file";
}

std::string environment_path(const std::string& stem) {
  return stem + ".environment";
}

bool has_placeholder(const TestCase& test) {
  return test.initrd == disk_placeholder ||
         std::any_of(test.modules.begin(), test.modules.end(),
                     [](const std::string& module) { return module.starts_with(disk_placeholder); });
}

std::string resolved(const std::string& path, const std::string& stem) {
  if (!path.starts_with(disk_placeholder)) return path;
  return placeholder_path(stem) + path.substr(disk_placeholder.size());
}

}  // namespace

std::vector<std::string> run_arguments(const TestCase& test, const std::string& stem,
                                       const std::string& record) {
  std::vector<std::string> words = {"hum",
                                    "run",
                                    "--console=stdio",
                                    "--kernel=" + test.image,
                                    "--record=" + record,
                                    "--timeout=" + std::to_string(test.timeout)};
  if (test.arguments) words.insert(words.end(), {"--cmdline", *test.arguments});
  for (const auto& [key, value] : test.machine) words.push_back("--" + key + "=" + value);
  if (!test.initrd.empty()) words.push_back("--initrd=" + resolved(test.initrd, stem));
  if (test.environment) words.push_back("--module=" + environment_path(stem));
  for (const std::string& module : test.modules) words.push_back("--module=" + resolved(module, stem));
  for (std::size_t i = 0; i < test.disks.size(); ++i)
    words.push_back("--disk=" + disk_path(stem, i) + (test.disks[i].empty() ? "" : "," + test.disks[i]));
  for (const std::string& device : test.devices) words.push_back("--device=" + device);
  return words;
}

std::vector<std::string> write_test_files(const TestCase& test, const std::string& stem) {
  std::vector<std::string> files;
  const auto write = [&](const std::string& path, const std::string& text) {
    write_text_file(path, text);
    files.push_back(path);
  };
  for (std::size_t i = 0; i < test.disks.size(); ++i) write(disk_path(stem, i), disk_content());
  if (has_placeholder(test)) write(placeholder_path(stem), disk_content());
  if (test.environment) write(environment_path(stem), environment_text(test));
  return files;
}

std::string environment_text(const TestCase& test) {
  const auto value_of = [&](const char* key, const char* otherwise) {
    const auto found = test.machine.find(key);
    return found == test.machine.end() ? std::string(otherwise) : found->second;
  };
  std::uint64_t memory = parse_size("memory", value_of("memory", "256M"));
  if (memory >= 1 << 20) memory >>= 20;  // what is less is MiB already
  const bool test_device =
      std::any_of(test.devices.begin(), test.devices.end(),
                  [](const std::string& device) { return device.starts_with("testdev"); });
  // BOOTLOADER says that the command line begins without the program's name, which is not so here.
  std::map<std::string, std::string> values = {{"BOOTLOADER", "0"},
                                               {"MEMLIMIT", std::to_string(memory)},
                                               {"MEMSIZE", std::to_string(memory)},
                                               {"NR_CPUS", value_of("cpus", "1")},
                                               {"TEST_DEVICE", test_device ? "1" : "0"}};
  for (const auto& [name, value] : *test.environment) values[name] = value;
  std::string text;
  for (const auto& [name, value] : values) text += name + "=" + value + "\n";
  return text;
}

}  // namespace hum
