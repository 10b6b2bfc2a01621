// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace hum {

enum class LogLevel : std::uint8_t { error, warning, info, debug };

std::string_view to_string(LogLevel level);

// Where a VM's own messages go. Handed in by whoever makes the VM, shared by reference, callable from any
// thread: the sink must be thread-safe. Guest content is never logged.
class Log {
 public:
  using Sink = std::function<void(LogLevel, std::string_view)>;

  // Messages above the given level are dropped. An empty sink drops all.
  explicit Log(Sink sink = {}, LogLevel most = LogLevel::warning) : sink_(std::move(sink)), most_(most) {}

  bool enabled(LogLevel level) const { return sink_ && level <= most_; }
  void write(LogLevel level, std::string_view text) const {
    if (enabled(level)) sink_(level, text);
  }
  void error(std::string_view text) const { write(LogLevel::error, text); }
  void warning(std::string_view text) const { write(LogLevel::warning, text); }
  void info(std::string_view text) const { write(LogLevel::info, text); }
  void debug(std::string_view text) const { write(LogLevel::debug, text); }

 private:
  Sink sink_;
  LogLevel most_;
};

}  // namespace hum
