// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace hum {

// How a program ended and all that it wrote.
struct ProcessResult {
  int exit_code = 0;  // 128 + N if signal N ended it
  std::string output;
  std::string errors;
};

// Runs a program (found in PATH), without a shell, and waits for it. Its input is empty, its messages are in
// English (LC_ALL=C), its folder is `folder` unless that is empty. From any thread. Throws HostError if it
// cannot be started (ENOENT: there is no such program); fix is appended to the message.
ProcessResult run_process(const std::vector<std::string>& arguments, const std::string& folder = {},
                          const std::string& fix = {});

// The same for a program that is expected to succeed: its output. Throws HostError as well if it answers a
// code other than 0; the message ends with the last line it wrote to its errors.
std::string run_successfully(const std::vector<std::string>& arguments, const std::string& folder = {},
                             const std::string& fix = {});

}  // namespace hum
