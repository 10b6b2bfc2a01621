// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/console_hub.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"

namespace hum {

// Takes the console's escapes out of what is typed: Ctrl-A x leaves, Ctrl-A h shows help, Ctrl-A Ctrl-A sends
// one Ctrl-A.
class EscapeFilter {
 public:
  enum class Action : unsigned char { none, leave, help };

  // Appends what goes to the guest to `out` and returns the first action that was typed.
  Action filter(std::span<const std::byte> typed, std::vector<std::byte>& out);

 private:
  bool escaped_ = false;
};

// Writes the console's output to a descriptor. It waits for a slow reader, as the guest's serial port would,
// but no longer than the VM lives; or it waits once for a moment and then drops what finds no room until
// there is room again, so that nobody can make the guest stand still.
class ConsoleOutput {
 public:
  enum class Slow : unsigned char { wait, drop };

  // ended_fd: readable when the VM has ended. Both descriptors outlive the object.
  ConsoleOutput(ConsoleHub& hub, int output_fd, int ended_fd, Slow slow = Slow::wait);

 private:
  void write(std::span<const std::byte> text);
  void fail(int error);

  int output_fd_;
  int ended_fd_;
  Slow slow_;
  bool is_full_ = false;
  bool failed_ = false;
  ConsoleHub::Subscription subscription_;
};

// Passes an input descriptor on to the console, on the loop's thread.
class ConsoleInput {
 public:
  // escapes: look for Ctrl-A. leave is called for Ctrl-A x.
  ConsoleInput(EventLoop& loop, ConsoleHub& hub, int input_fd, bool escapes, std::function<void()> leave);
  ~ConsoleInput();
  ConsoleInput(const ConsoleInput&) = delete;
  ConsoleInput& operator=(const ConsoleInput&) = delete;

 private:
  void read_some();
  void pass_on();
  void watch_input();
  void call_soon(long nanoseconds, std::function<void()> work);

  EventLoop& loop_;
  ConsoleHub& hub_;
  int input_fd_;
  bool escapes_;
  std::function<void()> leave_;
  EscapeFilter filter_;
  std::vector<std::byte> waiting_;  // for room in the hub
  Timer retry_timer_;
};

// ConsoleInput for the standard input, on a thread of its own: the guest may make the console wait, and never
// the loop. The thread begins when there is something to read: most VMs are never typed at.
class StandardInput {
 public:
  // As of ConsoleInput. Made and destroyed on the thread of loop, which outlives the object.
  StandardInput(EventLoop& loop, ConsoleHub& hub, bool escapes, const std::function<void()>& leave);
  ~StandardInput();
  StandardInput(const StandardInput&) = delete;
  StandardInput& operator=(const StandardInput&) = delete;

 private:
  void begin(ConsoleHub& hub, bool escapes, const std::function<void()>& leave);

  EventLoop& loop_;
  std::optional<IoThread> thread_;
  std::optional<ConsoleInput> input_;
};

}  // namespace hum
