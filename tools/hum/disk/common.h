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
void print_json(const nlohmann::ordered_json& json);

// For messages.
struct Tried {
  std::string what;  // "read 'PATH'"
  // Where it cannot be done at all: what was given, why, and what to do.
  std::string key;
  std::string value;
  std::string unsupported;
  std::string fix;
};

// Throws for what is not ok: "cannot WHAT", or "KEY 'VALUE': UNSUPPORTED; FIX".
void expect_ok(BlockResult result, const Tried& tried);

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
  bool run(const Tried& tried, const std::function<CopyResult(const CopyProgress&)>& work);
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
