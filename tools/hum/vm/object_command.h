// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "tools/hum/vm/daemon_client.h"

namespace CLI {
class App;
}

namespace hum {

// `hum image ...`, `hum volume ...`, `hum network ...`: what the daemon keeps besides VMs.
class ObjectCommand {
 public:
  enum class Kind { image, volume, network };

  // Declares the commands; they run, and set exit_code, when the command line is parsed.
  ObjectCommand(CLI::App& app, Kind kind, int& exit_code);
  ~ObjectCommand();
  ObjectCommand(const ObjectCommand&) = delete;
  ObjectCommand& operator=(const ObjectCommand&) = delete;

 private:
  struct Options;
  void add_image_commands(CLI::App& app, int& exit_code);
  void add_volume_commands(CLI::App& app, int& exit_code);
  void add_network_commands(CLI::App& app, int& exit_code);
  std::string path() const;
  int make(const std::string& body);
  int list();
  int inspect();
  int remove();

  Kind kind_;
  std::unique_ptr<Options> options_;
};

// `hum events`: what happens, as it happens.
class EventsCommand {
 public:
  EventsCommand(CLI::App& app, int& exit_code);

 private:
  int run() const;

  DaemonAddress daemon_;
  bool is_json_ = false;
};

}  // namespace hum
