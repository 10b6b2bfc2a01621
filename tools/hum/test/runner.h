// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/hum/test/outcome.h"
#include "tools/hum/test/test_case.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"

namespace hum {

struct RunnerOptions {
  std::string program = "/proc/self/exe";  // hum, which runs each image
  unsigned jobs = 1;
  std::string output = {};  // folder for serial texts and records; empty: not kept
  bool until_fail = false;  // starts no test after a failure
};

// Told on the runner's thread.
struct RunObserver {
  std::function<void(const TestCase&)> started = [](const TestCase&) {};
  std::function<void(const TestResult&)> finished = [](const TestResult&) {};
};

// Runs tests, each image in a process of its own (`hum run`), several at a time, on the calling thread. The
// signals SIGINT, SIGTERM and SIGHUP are blocked as long as it lives; one of them kills every VM and ends the
// run.
class Runner {
 public:
  // Throws HostError (no folder for its files).
  Runner(RunnerOptions options, RunObserver observer);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Returns what was run, in order of ending. Throws HostError.
  std::vector<TestResult> run(const std::vector<TestCase>& tests);
  bool interrupted() const { return interrupted_; }

 private:
  struct Job;

  void start_more();
  void start(const TestCase& test);
  void finish(Job& job);
  void report(TestResult result);
  void interrupt();

  RunnerOptions options_;
  RunObserver observer_;
  std::string folder_;  // of its own, removed at the end
  Fd signals_;
  bool interrupted_ = false;
  // Of the run that is under way:
  std::optional<EventLoop> loop_;
  const std::vector<TestCase>* tests_ = nullptr;
  std::size_t next_ = 0;
  bool failed_ = false;
  std::vector<TestResult> results_;
  std::list<std::unique_ptr<Job>> jobs_;
};

// The command line that runs a test, behind the program's name. Files of its own have names that begin with
// stem; disks and environment are expected there (write_test_files).
std::vector<std::string> run_arguments(const TestCase& test, const std::string& stem,
                                       const std::string& record);

// Makes a test's disks and environment; the names of the files. Throws HostError.
std::vector<std::string> write_test_files(const TestCase& test, const std::string& stem);

// The lines of the environment module: what the machine is, with the test's own values in place of those.
std::string environment_text(const TestCase& test);

}  // namespace hum
