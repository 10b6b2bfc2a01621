// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/fd.h"

namespace hum {

// One wait for many descriptors, level-triggered. watch, unwatch and run belong to the loop's own thread (or
// to the maker before run is called); post and stop may come from any thread.
class EventLoop {
 public:
  enum class Interest : std::uint8_t {
    readable,
    writable,
    end,  // neither: only what every watch tells, that it has hung up or is in error
  };
  using Callback = std::function<void()>;

  // Throws HostError.
  EventLoop();

  // Calls ready on the loop's thread whenever fd is ready, hung up or in error; one watch per descriptor (a
  // second one replaces the first). A callback may unwatch any descriptor, its own too. Throws HostError,
  // with EPERM for what try_watch refuses.
  void watch(int fd, Interest interest, Callback ready);
  // As watch; false, and nothing is watched, where fd is always ready: a regular file, /dev/null.
  [[nodiscard]] bool try_watch(int fd, Interest interest, Callback ready);
  // Forgets the descriptor; nothing happens if it is not watched. Call before the descriptor is closed.
  void unwatch(int fd);

  // Runs work on the loop's thread, soon. Work posted before stop runs before run returns.
  void post(Callback work);

  // Waits for the loop, on its thread.
  class Sleeper {
   public:
    virtual ~Sleeper() = default;
    // True: there may be more to do, so the loop does not wait. Looks for work itself while !called().
    virtual bool before_sleep() = 0;
    // Waits until fd is readable, always the same one: true then. False where it had other work to do, and
    // has done that.
    virtual bool sleep(int fd) = 0;
  };
  // Before run, or on the loop's thread; null for none again. sleeper outlives that.
  void set_sleeper(Sleeper* sleeper) { sleeper_ = sleeper; }
  // Whether work was posted, or stop called.
  bool called() const { return called_.load(std::memory_order_relaxed); }

  // Serves until stop is called, by the calling thread.
  void run();
  void stop();

 private:
  struct Watch {
    Callback ready;
    std::uint32_t serial;
  };

  void retire(std::map<int, Watch>::iterator watch);
  void run_posted();

  Fd epoll_;
  EventFd wake_;
  std::map<int, Watch> watches_;
  // Watches replaced or removed since the last wait, where they were made: one of them may be running.
  std::vector<std::map<int, Watch>::node_type> retired_;
  std::uint32_t next_serial_ = 1;
  Sleeper* sleeper_ = nullptr;
  std::atomic<bool> called_ = false;
  std::mutex mutex_;  // guards the two below
  std::vector<Callback> posted_;
  bool stop_ = false;
};

// A named thread that runs an EventLoop from construction to destruction, all signals blocked.
class IoThread {
 public:
  // name: at most 15 characters, shown by ps and top. Throws HostError.
  explicit IoThread(const std::string& name);
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  EventLoop& loop() { return loop_; }

  // Runs work on this thread and returns when it is done; at once if called on it. An exception of work
  // reaches the caller.
  void call(const std::function<void()>& work);

 private:
  EventLoop loop_;
  std::thread thread_;
};

// Starts a thread with every signal blocked, so that signals reach only threads that want them; SIGSYS is
// not, which a thread only brings upon itself. Throws HostError.
std::thread start_thread(const std::string& name, std::function<void()> body);

// Called by a new thread with its name, before anything else that it does.
using ThreadHook = std::function<void(const std::string& name)>;
// For all threads that the calling thread starts from now on, and those that they start in turn; null: none.
// So a program gives its threads what a library has no business with. The hook outlives the threads.
void hook_new_threads(const ThreadHook* hook);

}  // namespace hum
