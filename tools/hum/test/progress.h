// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tools/hum/test/outcome.h"

namespace hum {

// Tells a person how a run goes: on a terminal one line that changes, and what failed above it; elsewhere a
// line for each test.
class Progress {
 public:
  // columns: of the terminal; 0: none. It writes to fd.
  Progress(int fd, std::size_t planned, unsigned columns, bool quiet);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void started(const TestCase& test);
  void finished(const TestResult& result);

 private:
  void draw();
  void clear();
  void write(const std::string& text) const;

  int fd_;
  std::size_t planned_;
  unsigned columns_;
  bool quiet_;  // only what failed
  std::size_t done_ = 0;
  std::size_t failed_ = 0;
  std::vector<std::string> running_;
  bool drawn_ = false;
};

// What a person is told of one test: a line, and for a failure why and its last lines.
std::string result_text(const TestResult& result);

}  // namespace hum
