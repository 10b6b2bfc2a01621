// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace hum {

// A file descriptor and the only owner of it: closed by the destructor. Value type; not thread-safe.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int number) : number_(number) {}
  Fd(Fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd();

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  int release() { return std::exchange(number_, -1); }
  void reset() { *this = Fd(); }

  // A new descriptor for the same open file, O_CLOEXEC. Throws HostError.
  static Fd duplicate(int number);

 private:
  int number_ = -1;
};

// A non-blocking eventfd(2) counter: signalled from any thread, also from a signal handler.
class EventFd {
 public:
  // Throws HostError.
  EventFd();

  int fd() const { return fd_.get(); }
  void signal() const;
  // Takes the counter down to zero; true if it was above zero.
  bool drain() const;
  // True if the counter is above zero; leaves it as it is.
  bool pending() const;

 private:
  Fd fd_;
};

// A timer (timerfd(2), CLOCK_MONOTONIC), whose descriptor is readable from when it has run out until it is
// set again or stopped. Belongs to one thread at a time.
class Timer {
 public:
  // Throws HostError.
  Timer();

  int fd() const { return fd_.get(); }
  // Runs out after that time, once; at once for 0 and less.
  void set(std::chrono::nanoseconds delay) const;
  void stop() const;

 private:
  Fd fd_;
};

// Opens a path with O_CLOEXEC added to flags. Throws HostError with the path; fix is appended to the message.
Fd open_file(const std::string& path, int flags, unsigned mode = 0, const std::string& fix = {});

// A pipe with O_CLOEXEC: its reading end, its writing end. Throws HostError.
struct Pipe {
  Fd reader;
  Fd writer;
};
Pipe make_pipe();

}  // namespace hum
