// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "tools/hum-vmm/line_file.h"
#include "vmm/base/log.h"

namespace hum {

// The process's log in the dialect's form: "2026-01-31T10:00:00.123456789 [ID:THREAD:LEVEL] text", to
// standard error until a file was named. Any thread.
class Logger {
 public:
  struct Settings {
    std::optional<LogLevel> most = LogLevel::info;  // none: nothing at all
    bool show_level = false;
  };

  explicit Logger(std::string id) : id_(std::move(id)) {}

  // path: empty: where it goes already. Throws HostError.
  void configure(const std::string& path, const Settings& settings);
  void write(LogLevel level, std::string_view text);
  Settings settings() const;
  std::uint64_t lost() const;
  // Where the lines go, for a signal handler.
  const std::atomic<int>& descriptor() const { return descriptor_; }

 private:
  std::string id_;
  std::atomic<int> descriptor_ = STDERR_FILENO;
  mutable std::mutex mutex_;  // guards the three below
  Settings settings_;
  std::optional<LineFile> file_;
  std::uint64_t lost_ = 0;  // on standard error
};

// "Error", "Off" and the like, one of those that the dialect has; Off: none.
std::optional<LogLevel> log_level_from(std::string_view word);

}  // namespace hum
