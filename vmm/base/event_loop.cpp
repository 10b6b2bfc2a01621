// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/event_loop.h"

#include <pthread.h>
#include <sys/epoll.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <future>
#include <memory>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

std::uint32_t epoll_events(EventLoop::Interest interest) {
  switch (interest) {
    case EventLoop::Interest::readable:
      return EPOLLIN;
    case EventLoop::Interest::writable:
      return EPOLLOUT;
    case EventLoop::Interest::end:
      break;
  }
  return 0;
}

std::uint64_t pack(int fd, std::uint32_t serial) {
  return (static_cast<std::uint64_t>(serial) << 32) | static_cast<std::uint32_t>(fd);
}

// Inherited from the thread that starts another.
thread_local const ThreadHook* hook_of_new_threads = nullptr;

}  // namespace

EventLoop::EventLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_)
    throw HostError(errno, "create an epoll descriptor", "raise the limit of open files (ulimit -n)");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = pack(wake_.fd(), 0)}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.fd(), &event) != 0)
    throw HostError(errno, "watch an eventfd");
}

void EventLoop::watch(int fd, Interest interest, Callback ready) {
  if (!try_watch(fd, interest, std::move(ready)))
    throw HostError(EPERM, "watch descriptor " + std::to_string(fd));
}

bool EventLoop::try_watch(int fd, Interest interest, Callback ready) {
  const std::uint32_t serial = next_serial_++;
  epoll_event event{.events = epoll_events(interest), .data = {.u64 = pack(fd, serial)}};
  const auto found = watches_.find(fd);
  const int operation = found != watches_.end() ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) {
    if (errno == EPERM) return false;
    throw HostError(errno, "watch descriptor " + std::to_string(fd));
  }
  if (found != watches_.end()) retire(found);
  watches_.emplace(fd, Watch{std::move(ready), serial});
  return true;
}

void EventLoop::unwatch(int fd) {
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  retire(found);
}

// A callback must neither end nor move while it runs, so the watch itself is kept.
void EventLoop::retire(std::map<int, Watch>::iterator watch) {
  retired_.push_back(watches_.extract(watch));
}

void EventLoop::post(Callback work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  called_.store(true, std::memory_order_relaxed);
  wake_.signal();
}

void EventLoop::run_posted() {
  std::vector<Callback> work;
  {
    const std::lock_guard lock(mutex_);
    called_.store(stop_, std::memory_order_relaxed);
    work.swap(posted_);
  }
  for (Callback& each : work) each();
}

void EventLoop::run() {
  std::array<epoll_event, 32> events;
  while (true) {
    run_posted();
    // What ends here may unwatch more, so it ends outside of the member.
    std::exchange(retired_, {}).clear();
    {
      const std::lock_guard lock(mutex_);
      if (stop_ && posted_.empty()) break;
    }
    const bool waits = sleeper_ == nullptr;
    if (!waits && !sleeper_->before_sleep() && !sleeper_->sleep(epoll_.get())) continue;
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), waits ? -1 : 0);
    assert(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      const int fd = static_cast<int>(events[static_cast<std::size_t>(i)].data.u64 & 0xffffffff);
      const auto serial = static_cast<std::uint32_t>(events[static_cast<std::size_t>(i)].data.u64 >> 32);
      if (serial == 0) {
        wake_.drain();
        continue;
      }
      // An earlier callback of this round may have replaced or removed the watch.
      const auto found = watches_.find(fd);
      if (found == watches_.end() || found->second.serial != serial) continue;
      found->second.ready();
    }
  }
}

void EventLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  called_.store(true, std::memory_order_relaxed);
  wake_.signal();
}

IoThread::IoThread(const std::string& name) : thread_(start_thread(name, [this] { loop_.run(); })) {}

IoThread::~IoThread() {
  loop_.stop();
  thread_.join();
}

void IoThread::call(const std::function<void()>& work) {
  if (std::this_thread::get_id() == thread_.get_id()) return work();
  std::packaged_task<void()> task(work);  // keeps an exception for the caller
  std::future<void> result = task.get_future();
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  loop_.post([&] {
    task();
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_one();
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
  result.get();
}

void hook_new_threads(const ThreadHook* hook) {
  hook_of_new_threads = hook;
}

std::thread start_thread(const std::string& name, std::function<void()> body) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::sigdelset(&all, SIGSYS);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  struct Restore {
    const sigset_t& mask;
    ~Restore() { ::pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
  };
  const Restore restore{before};
  try {
    return std::thread([name, body = std::move(body), hook = hook_of_new_threads] {
      // By the thread itself: from outside it takes /proc, which a jail has not.
      ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
      hook_of_new_threads = hook;
      if (hook != nullptr) (*hook)(name);
      body();
    });
  } catch (const std::system_error& error) {
    throw HostError(error.code().value(), "start the thread '" + name + "'",
                    "raise the limit of processes (ulimit -u)");
  }
}

}  // namespace hum
