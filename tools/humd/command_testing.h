// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/hum/process.h"
#include "tools/hum/test/child.h"
#include "tools/humd/daemon_testing.h"

// For tests only.
namespace hum::testing {

using Words = std::vector<std::string>;

// The real daemon in a place of its own, with the VMM that is no VMM, and the real command line that asks it.
// All processes end with it.
class CommandDaemon {
 public:
  CommandDaemon() { start(); }
  ~CommandDaemon() { end(); }
  CommandDaemon(const CommandDaemon&) = delete;
  CommandDaemon& operator=(const CommandDaemon&) = delete;

  void start();
  // Its VMs go on.
  void end();
  pid_t pid() const { return child_->pid(); }
  const DaemonPlace& place() const { return place_; }

  // The command, as it is typed, and what begins another process that runs it, the program's path left out.
  ProcessResult hum(Words words) const;
  std::vector<std::string> command(Words words) const;
  // Its output, which is all there is: nothing on standard error, and exit code 0.
  std::string said(Words words) const;
  // What it says on standard error when it has exit code 2 and no output.
  std::string refused(Words words) const;
  // With options for a VM that the fake VMM runs.
  std::string create(const std::string& name, Words more = {}) const;

 private:
  DaemonPlace place_;
  std::unique_ptr<Child> child_;
};

// What a program writes to a terminal of 24 rows and 100 columns, where `typed` is typed when it has written
// `mark`; its exit code in place of what it says after its end.
struct TerminalResult {
  int exit_code = 0;
  std::string output;
};
TerminalResult on_terminal(const std::vector<std::string>& words, const std::string& mark,
                           const std::string& typed);

bool has(const std::string& text, const std::string& part);

}  // namespace hum::testing
