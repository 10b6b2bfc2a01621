// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/test_case.h"

#include <algorithm>
#include <array>
#include <utility>

#include "devices/registry.h"
#include "tools/hum/test/text.h"

namespace hum {
namespace {

constexpr std::array<std::pair<Ending, std::string_view>, 12> names = {{
    {Ending::pass, "pass"},
    {Ending::skip, "skip"},
    {Ending::fail, "fail"},
    {Ending::timeout, "timeout"},
    {Ending::triple_fault, "triple-fault"},
    {Ending::kvm_error, "kvm-error"},
    {Ending::vmm_error, "vmm-error"},
    {Ending::invalid, "invalid"},
    {Ending::power_off, "poweroff"},
    {Ending::reboot, "reboot"},
    {Ending::panic, "panic"},
    {Ending::interrupted, "interrupted"},
}};

constexpr std::string_view test_device = "testdev";

bool is_test_device(const std::string& device) {
  return device.substr(0, device.find(',')) == test_device;
}

}  // namespace

std::string_view to_string(Ending ending) {
  for (const auto& [each, name] : names)
    if (each == ending) return name;
  return "unknown";
}

std::optional<Ending> expected_ending(std::string_view text) {
  for (const auto& [ending, name] : names)
    if (name == text && ending != Ending::interrupted) return ending;
  return std::nullopt;
}

std::string expected_endings() {
  std::string text;
  for (const auto& [ending, name] : names)
    if (ending != Ending::interrupted) text += std::string(name) + ", ";
  return text + "or an exit code";
}

std::string to_string(const Expectation& expectation) {
  if (expectation.exit_code) return "exit code " + std::to_string(*expectation.exit_code);
  return std::string(to_string(expectation.ending));
}

std::string path_in(const std::string& folder, const std::string& path) {
  if (folder.empty() || path.empty() || path.front() == '/' || path.starts_with(disk_placeholder))
    return path;
  return folder + "/" + path;
}

void apply_unit_test_profile(TestCase& test) {
  test.machine.try_emplace("irqchip", "kernel");
  const auto kinds = all_devices();
  const bool there_is_one = std::any_of(kinds.begin(), kinds.end(),
                                        [](const DeviceKind* kind) { return kind->name == test_device; });
  if (there_is_one && std::none_of(test.devices.begin(), test.devices.end(), is_test_device))
    test.devices.emplace_back(test_device);
  if (!test.arguments) test.arguments.emplace();
  if (!test.environment) test.environment.emplace();
  // Newer images write half of the status that their own runner reads: 38 for QEMU's exit status 77.
  test.expect.also_skip = skip_exit_code / 2;
}

}  // namespace hum
