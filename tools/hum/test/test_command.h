// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "tools/hum/test/reports.h"
#include "tools/hum/test/runner.h"
#include "tools/hum/test/suite.h"

namespace CLI {
class App;
}

namespace hum {

// `hum test`: runs guest test images and tells how each ended.
class TestCommand {
 public:
  // Declares the command; it runs, and sets exit_code, when the command line is parsed.
  TestCommand(CLI::App& app, int& exit_code);
  TestCommand(const TestCommand&) = delete;
  TestCommand& operator=(const TestCommand&) = delete;

 private:
  int execute();
  int list(const Suite& suite) const;
  int run_rounds(Suite suite);
  RunSummary run_once(const Suite& suite);
  void write_reports(const RunSummary& run) const;

  SuiteOptions suite_;
  RunnerOptions runner_;
  bool repeat_given_ = false;
  bool list_ = false;
  bool quiet_ = false;
  bool tap_ = false;
  std::string junit_;
  std::string json_;
};

}  // namespace hum
