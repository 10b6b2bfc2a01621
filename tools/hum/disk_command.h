// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "tools/hum/disk/verbs.h"

namespace CLI {
class App;
}

namespace hum {

// `hum disk`: create and info are here, the others in disk/.
class DiskCommand {
 public:
  // Declares the commands; they run, and set exit_code, when the command line is parsed.
  DiskCommand(CLI::App& app, int& exit_code);
  DiskCommand(const DiskCommand&) = delete;
  DiskCommand& operator=(const DiskCommand&) = delete;

 private:
  void create() const;
  void create_raw() const;
  void create_qcow2() const;
  void info() const;

  std::string path_;
  std::string size_;
  std::string format_;
  std::string cluster_size_;
  std::string compression_;
  std::string backing_;
  std::string backing_format_;
  bool json_ = false;

  DiskCheck check_;
  DiskConvert convert_;
  DiskResize resize_;
  DiskCommit commit_;
  DiskMap map_;
};

}  // namespace hum
