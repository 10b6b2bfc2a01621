// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// How a test image ended, as the runner tells it apart.
enum class Ending : std::uint8_t {
  pass,          // exit code 0
  skip,          // exit code 77, or not run for a reason
  fail,          // any other exit code
  timeout,       // still running after its time
  triple_fault,  // a vCPU shut down
  kvm_error,     // KVM could not go on
  vmm_error,     // hum itself failed, crashed or hung
  invalid,       // not an image, no such file, or options that are refused: the guest never ran
  power_off,     // the guest switched itself off
  reboot,        // the guest reset itself
  panic,         // the guest's kernel panicked
  interrupted,   // the runner was told to stop
};

std::string_view to_string(Ending ending);
// The inverse, for those that can be expected of an image (all but interrupted).
std::optional<Ending> expected_ending(std::string_view text);
// "pass, skip, ... or an exit code".
std::string expected_endings();

// What a test must end with.
struct Expectation {
  Ending ending = Ending::pass;
  std::optional<std::uint32_t> exit_code;       // of the guest, where the very code matters
  std::optional<std::uint32_t> also_skip = {};  // an exit code that means a skip as 77 does
};

std::string to_string(const Expectation& expectation);

// What a host may lack for a test, which is then skipped.
enum class Need : std::uint8_t {
  nothing,
  lab,        // kernel code at the speed of hardware
  direct_io,  // O_DIRECT where temporary files lie
};

// One test: an image and all that its run needs, as a manifest describes it. Value type.
struct TestCase {
  std::string name;
  std::string place;  // where it is described: "base.toml:12"; empty for an image of the command line
  std::string image;  // paths can be used as they are
  std::string what;
  std::string fault;
  std::vector<std::string> groups;
  std::optional<std::string> arguments;        // absent: what hum run gives by itself
  std::map<std::string, std::string> machine;  // of machine_options()
  std::vector<std::string> transports;         // one run for each, until expanded
  std::vector<std::string> irqchips;           // likewise
  std::string initrd;
  std::vector<std::string> modules;  // FILE or FILE=TEXT
  std::vector<std::string> disks;    // options of a fresh disk each
  std::vector<std::string> devices;  // KIND[,KEY=VALUE...]
  std::optional<std::map<std::string, std::string>>
      environment;  // kvm-unit-tests' module of NAME=value lines
  std::string input;
  unsigned timeout = 30;  // seconds
  Expectation expect;
  bool slow = false;
  Need need = Need::nothing;
  std::string skip;  // why it cannot run; empty: it can
};

// In a path or a module it stands for a fresh file with the content of a test disk.
inline constexpr std::string_view disk_placeholder = "@DISK@";

// A path or FILE=TEXT, made relative to a folder unless it is absolute or a placeholder.
std::string path_in(const std::string& folder, const std::string& path);

// What a kvm-unit-tests image needs of a machine: the kernel's irqchip, the test device, its environment.
// Fills in what is not set.
void apply_unit_test_profile(TestCase& test);

}  // namespace hum
