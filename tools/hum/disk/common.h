// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "devices/block/copy_image.h"
#include "devices/block/open_image.h"

// What the commands of `hum disk` have in common.
namespace hum {

// A size in whole sectors, and one of clusters. Throw ConfigError.
std::uint64_t parse_disk_size(const std::string& text);
unsigned parse_cluster_bits(const std::string& text);
ImageFormat parse_format(const std::string& text);

// "10G (10737418240 bytes)"
std::string with_bytes(std::uint64_t size);
// An image may come from anywhere: nothing in it reaches a terminal but what can be seen.
std::string printable(std::string text);
void print_json(const nlohmann::ordered_json& json);

// Throws for what is not ok: "cannot VERB 'PATH'".
void expect_ok(BlockResult result, const std::string& what, const std::string& path);

// Long work: while it lives Ctrl-C, SIGTERM and SIGHUP are not delivered but stop the work, and a line on the
// terminal, if standard error is one, says how far it is. Make it before threads.
class LongWork {
 public:
  // name: "converting".
  explicit LongWork(std::string name);
  ~LongWork();
  LongWork(const LongWork&) = delete;
  LongWork& operator=(const LongWork&) = delete;

  // Runs it. True: it is done. False: a signal has stopped it. Throws like expect_ok.
  bool run(const std::string& path, const std::function<CopyResult(const CopyProgress&)>& work);
  // Of the signal that has stopped it.
  int exit_code() const;

 private:
  bool progress(std::uint64_t done, std::uint64_t whole);
  void clear();

  std::string name_;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
  sigset_t stops_{};
  sigset_t before_{};
  int signal_ = 0;
};

}  // namespace hum
