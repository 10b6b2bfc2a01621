// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace CLI {
class App;
}

namespace hum {

// `hum devices`: the kinds of devices and their options, for people or as JSON.
class DevicesCommand {
 public:
  // Declares the command; it runs, and sets exit_code, when the command line is parsed.
  DevicesCommand(CLI::App& app, int& exit_code);
  DevicesCommand(const DevicesCommand&) = delete;
  DevicesCommand& operator=(const DevicesCommand&) = delete;

 private:
  void list() const;

  bool json_ = false;
};

}  // namespace hum
