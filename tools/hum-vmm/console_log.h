// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "tools/hum-vmm/logger.h"
#include "vmm/base/console_hub.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"

namespace hum {

// A file for what the guest puts out, and the one before it: FILE.1.
struct ConsoleLogSettings {
  std::string path;
  std::uint64_t size = 0;  // of each, bytes

  // From "FILE[,size=N]". Throws ConfigError.
  static ConsoleLogSettings parse(std::string_view text);
};

// Adds a VM's console to a file that is renamed and begun anew when it is full. The guest never waits: what
// it puts out is kept for a moment and written by the loop's thread, to which the object belongs. Nothing is
// lost but what finds no room on the disk: that is counted in the file itself.
class ConsoleLog {
 public:
  // Both references outlive the object. Throws ConfigError, HostError.
  ConsoleLog(ConsoleLogSettings settings, EventLoop& loop, Logger& logger);
  ~ConsoleLog();
  ConsoleLog(const ConsoleLog&) = delete;
  ConsoleLog& operator=(const ConsoleLog&) = delete;

  // From the console's first byte on; it lives until finish.
  void read(ConsoleHub& hub);
  // No more is read; what was is in the file.
  void finish();

 private:
  void take(std::span<const std::byte> output);
  void write_waiting();
  bool make_room();
  std::size_t put(std::string_view text);
  void fail(int error);

  const ConsoleLogSettings settings_;
  EventLoop& loop_;
  Logger& logger_;
  Fd file_;
  std::uint64_t size_ = 0;  // of the file
  std::uint64_t lost_ = 0;  // since the last byte in it
  bool failed_ = false;     // and said so
  std::mutex mutex_;        // guards the two below
  std::string waiting_;
  Timer timer_;                            // runs while something waits
  ConsoleHub::Subscription subscription_;  // last: ends before what its reader uses
};

}  // namespace hum
