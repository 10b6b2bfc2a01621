// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tools/hum/test/outcome.h"

namespace hum {

// A run of a suite, whole or as far as it came.
struct RunSummary {
  std::vector<TestResult> results;  // in order of ending
  std::size_t planned = 0;
  std::size_t slow_left_out = 0;
  bool interrupted = false;
  double seconds = 0;
  unsigned jobs = 1;

  std::size_t count(Ending status) const;
  std::size_t failed() const;
};

// "87 tests: 84 passed, 2 failed (1 timeout), 1 skipped in 12.3 s"
std::string summary_line(const RunSummary& run);

// TAP version 14, piece by piece: the head, one point for each result, the end.
std::string tap_head(std::size_t planned);
std::string tap_point(const TestResult& result, std::size_t number);
std::string tap_end(const RunSummary& run);

std::string junit_report(const RunSummary& run);
std::string json_report(const RunSummary& run);

// For text in XML: markup characters replaced. The text is clean (clean_text).
std::string xml_escaped(const std::string& text);

}  // namespace hum
