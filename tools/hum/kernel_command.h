// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace hum {

// `hum kernel get` and `hum kernel list`.
class KernelCommand {
 public:
  // Declares the commands; they run, and set exit_code, when the command line is parsed.
  KernelCommand(CLI::App& app, int& exit_code);
  KernelCommand(const KernelCommand&) = delete;
  KernelCommand& operator=(const KernelCommand&) = delete;

 private:
  void get() const;
  void list() const;

  std::string flavour_ = "cloud";
  std::string deb_;
  bool installed_ = false;
  bool force_ = false;
  bool quiet_ = false;
  bool json_ = false;
};

}  // namespace hum
