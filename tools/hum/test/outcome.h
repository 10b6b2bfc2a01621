// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/hum/test/test_case.h"

namespace hum {

// How the process that ran an image ended.
struct ProcessEnd {
  enum class By : std::uint8_t { exit, signal, overdue, interrupt };  // the last two: the runner killed it
  By by = By::exit;
  int code = 0;  // exit code, or signal's number

  bool operator==(const ProcessEnd&) const = default;
};

// What became of an image, read from its process, its end record and its messages.
struct Outcome {
  Ending ending = Ending::pass;
  std::string cause;                       // the record's; empty where there is none
  std::optional<std::uint32_t> exit_code;  // the guest's own, which hum run's exit code has 8 bits of
  std::string detail;                      // in words; empty where the ending says it all
};

// record is the text of the end record, empty if there is none; messages is what hum said. A process and a
// record that contradict each other are a vmm_error.
Outcome judge(const ProcessEnd& end, const std::string& record, const std::string& messages);

// What a report says of the test: pass or skip if the outcome is as expected, else the ending, and fail where
// the ending as such is no failure.
Ending status_of(const Outcome& outcome, const Expectation& expectation);

// A test that has ended, or was not run.
struct TestResult {
  TestCase test;
  Ending status = Ending::pass;
  Outcome outcome;
  double seconds = 0;
  std::vector<std::string> last_lines;  // of its output, clean; of failures only

  bool failed() const { return status != Ending::pass && status != Ending::skip; }
  // "exit code 3, expected pass", "triple-fault: vCPU 0 at rip 0x1000", the reason of a skip; empty for a
  // pass.
  std::string reason() const;
};

}  // namespace hum
