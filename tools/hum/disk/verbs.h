// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace CLI {
class App;
}

// The commands of `hum disk` that work on images with content. Each declares itself below `disk` and runs,
// and sets exit_code, when the command line is parsed.
namespace hum {

// The exit codes of check beside 0 and 2.
inline constexpr int exit_disk_errors = 1;
inline constexpr int exit_disk_leaks = 3;

class DiskCheck {
 public:
  DiskCheck(CLI::App& disk, int& exit_code);
  DiskCheck(const DiskCheck&) = delete;
  DiskCheck& operator=(const DiskCheck&) = delete;

 private:
  int run() const;

  std::string path_;
  std::string format_;
  std::string repair_;
  bool json_ = false;
};

class DiskConvert {
 public:
  DiskConvert(CLI::App& disk, int& exit_code);
  DiskConvert(const DiskConvert&) = delete;
  DiskConvert& operator=(const DiskConvert&) = delete;

 private:
  void check_options() const;
  int run() const;

  std::string source_;
  std::string target_;
  std::string format_;
  std::string to_;
  std::string cluster_size_;
  std::string compression_;
  std::string backing_;
  std::string backing_format_;
  bool compress_ = false;
  bool any_backing_ = false;
};

class DiskResize {
 public:
  DiskResize(CLI::App& disk, int& exit_code);
  DiskResize(const DiskResize&) = delete;
  DiskResize& operator=(const DiskResize&) = delete;

 private:
  void run() const;

  std::string path_;
  std::string format_;
  std::string size_;
  bool shrink_ = false;
  bool any_backing_ = false;
};

class DiskCommit {
 public:
  DiskCommit(CLI::App& disk, int& exit_code);
  DiskCommit(const DiskCommit&) = delete;
  DiskCommit& operator=(const DiskCommit&) = delete;

 private:
  int run() const;

  std::string path_;
  std::string format_;
  bool any_backing_ = false;
};

class DiskMap {
 public:
  DiskMap(CLI::App& disk, int& exit_code);
  DiskMap(const DiskMap&) = delete;
  DiskMap& operator=(const DiskMap&) = delete;

 private:
  void run() const;

  std::string path_;
  std::string format_;
  bool json_ = false;
  bool any_backing_ = false;
};

}  // namespace hum
