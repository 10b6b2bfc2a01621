// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/event_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <memory>
#include <stdexcept>
#include <string>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

constexpr auto readable = EventLoop::Interest::readable;
constexpr auto writable = EventLoop::Interest::writable;

// Runs the loop until the work that is queued and ready now has been done.
void run_once(EventLoop& loop) {
  const EventFd last;
  last.signal();
  loop.watch(last.fd(), readable, [&] { loop.stop(); });
  loop.run();
}

}  // namespace

TEST_CASE("a sleeper waits for the loop, unless there is more to do") {
  class Sleeper final : public EventLoop::Sleeper {
   public:
    explicit Sleeper(EventLoop& loop) : loop_(loop) {}
    bool before_sleep() override {
      if (++asked == 3) loop_.post([this] { loop_.stop(); });
      return asked < 3;
    }
    bool sleep(int fd) override {
      pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
      readable_ = ::poll(&entry, 1, 5000) == 1;
      return ++slept != 1;  // the first time it was for something else
    }
    int asked = 0;
    int slept = 0;
    bool readable_ = false;

   private:
    EventLoop& loop_;
  };
  EventLoop loop;
  Sleeper sleeper(loop);
  loop.set_sleeper(&sleeper);
  loop.run();
  CHECK(sleeper.asked == 3);
  CHECK(sleeper.slept == 1);
  CHECK(sleeper.readable_);
}

TEST_CASE("a loop tells that it is called until it has run what was posted") {
  EventLoop loop;
  CHECK_FALSE(loop.called());
  bool called_meanwhile = true;
  loop.post([&] {
    called_meanwhile = loop.called();
    loop.stop();
  });
  CHECK(loop.called());
  loop.run();
  CHECK_FALSE(called_meanwhile);
  CHECK(loop.called());
}

TEST_CASE("a watch is called while its descriptor is ready, and not before") {
  EventLoop loop;
  const EventFd idle;
  const EventFd ready;
  int idle_calls = 0;
  int ready_calls = 0;
  loop.watch(idle.fd(), readable, [&] { ++idle_calls; });
  loop.watch(ready.fd(), readable, [&] {
    if (++ready_calls == 3) loop.stop();
  });
  ready.signal();
  loop.run();
  CHECK(idle_calls == 0);
  CHECK(ready_calls == 3);
}

TEST_CASE("a watch for writing is called while there is room") {
  EventLoop loop;
  const EventFd event;
  bool called = false;
  loop.watch(event.fd(), writable, [&] {
    called = true;
    loop.stop();
  });
  loop.run();
  CHECK(called);
}

TEST_CASE("a watch is called when the other end hangs up") {
  EventLoop loop;
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  bool called = false;
  loop.watch(reader.get(), readable, [&] {
    called = true;
    loop.stop();
  });
  writer.reset();
  loop.run();
  CHECK(called);
}

TEST_CASE("a watch for the end is called when the other end is gone, whatever can be read or written") {
  for (const bool gone : {false, true}) {
    EventLoop loop;
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const Fd watched(ends[0]);
    Fd other(ends[1]);
    REQUIRE(::write(other.get(), "x", 1) == 1);
    if (gone) other.reset();
    bool called = false;
    loop.watch(watched.get(), EventLoop::Interest::end, [&] { called = true; });
    run_once(loop);
    CHECK(called == gone);
  }
}

TEST_CASE("a second watch of a descriptor replaces the first") {
  EventLoop loop;
  const EventFd event;
  bool first = false;
  bool second = false;
  loop.watch(event.fd(), readable, [&] { first = true; });
  loop.watch(event.fd(), readable, [&] {
    second = true;
    loop.stop();
  });
  event.signal();
  loop.run();
  CHECK_FALSE(first);
  CHECK(second);
}

TEST_CASE("a callback that unwatches itself keeps what it has captured until it returns") {
  EventLoop loop;
  const EventFd event;
  event.signal();
  SECTION("a small one, which lies inside its watch") {
    struct State {
      EventLoop& loop;
      int fd;
      int calls = 0;
    } state{loop, event.fd()};
    loop.watch(event.fd(), readable, [&state] {
      state.loop.unwatch(state.fd);
      // Work that would overwrite the captured pointer if its place had been given back.
      const std::unique_ptr<std::array<std::byte, 80>> reuse(new std::array<std::byte, 80>{});
      ++state.calls;
    });
    run_once(loop);
    CHECK(state.calls == 1);
  }
  SECTION("a large one") {
    const auto calls = std::make_shared<int>(0);
    const std::array<long, 8> bulk{1, 2, 3, 4, 5, 6, 7, 8};
    loop.watch(event.fd(), readable, [&loop, &event, bulk, calls] {
      loop.unwatch(event.fd());
      *calls += static_cast<int>(bulk[7]);
    });
    run_once(loop);
    CHECK(*calls == 8);
    CHECK(calls.use_count() == 1);
  }
}

TEST_CASE("a callback that replaces its own watch keeps what it has captured until it returns") {
  EventLoop loop;
  const EventFd event;
  event.signal();
  std::string seen;
  loop.watch(event.fd(), readable, [&loop, &event, &seen] {
    loop.watch(event.fd(), readable, [&] {
      seen += "second";
      loop.stop();
    });
    seen += "first ";
  });
  loop.run();
  CHECK(seen == "first second");
}

TEST_CASE("a callback that unwatches another ready descriptor keeps it from being called") {
  EventLoop loop;
  const std::array<EventFd, 2> events;
  int calls = 0;
  for (const std::size_t i : {0u, 1u}) {
    loop.watch(events[i].fd(), readable, [&, i] {
      ++calls;
      events[i].drain();
      loop.unwatch(events[1 - i].fd());
    });
    events[i].signal();
  }
  run_once(loop);
  CHECK(calls == 1);
}

TEST_CASE("an event of a watch that was replaced in the same round is not given to the new one") {
  EventLoop loop;
  const EventFd trigger;
  EventFd old;
  int new_calls = 0;
  int old_calls = 0;
  const auto replace = [&] {
    trigger.drain();
    if (old_calls != 0) return;
    // A new, idle descriptor that usually gets the old one's number.
    const int number = old.fd();
    loop.unwatch(number);
    old = EventFd();
    loop.watch(old.fd(), readable, [&] { ++new_calls; });
  };
  loop.watch(trigger.fd(), readable, replace);
  loop.watch(old.fd(), readable, [&] { ++old_calls; });
  trigger.signal();
  old.signal();
  loop.post([&] { loop.stop(); });
  loop.run();
  CHECK(new_calls == 0);
}

TEST_CASE("what a removed watch has captured is given back before the loop waits again") {
  IoThread thread("test");
  const EventFd event;
  const auto held = std::make_shared<int>(0);
  thread.call([&] { thread.loop().watch(event.fd(), readable, [held] {}); });
  CHECK(held.use_count() == 2);
  thread.call([&] { thread.loop().unwatch(event.fd()); });
  thread.call([] {});  // a round later
  CHECK(held.use_count() == 1);
}

TEST_CASE("a callback whose end unwatches another descriptor is no harm") {
  EventLoop loop;
  const EventFd first;
  const EventFd second;
  loop.watch(second.fd(), readable, [] {});
  const auto guard = [&] {
    return std::shared_ptr<void>(nullptr, [&](void*) { loop.unwatch(second.fd()); });
  };
  loop.watch(first.fd(), readable, [&loop, &first, held = guard()] { loop.unwatch(first.fd()); });
  first.signal();
  second.signal();
  int rounds = 0;
  const EventFd last;
  last.signal();
  loop.watch(last.fd(), readable, [&] {
    if (++rounds == 3) loop.stop();
  });
  loop.run();
  CHECK(rounds == 3);
}

TEST_CASE("unwatching what is not watched does nothing") {
  EventLoop loop;
  const EventFd event;
  loop.unwatch(event.fd());
  loop.unwatch(-1);
  event.signal();
  run_once(loop);
  CHECK(event.pending());
}

TEST_CASE("a regular file cannot be watched, nor can a closed descriptor") {
  EventLoop loop;
  const Fd file = open_file("/proc/self/exe", O_RDONLY);
  try {
    loop.watch(file.get(), readable, [] {});
    FAIL("no error");
  } catch (const HostError& error) {
    CHECK(error.code().value() == EPERM);
  }
  CHECK_FALSE(loop.try_watch(file.get(), readable, [] {}));
  CHECK_THROWS_AS(loop.watch(-1, readable, [] {}), HostError);
  CHECK_THROWS_AS(loop.try_watch(-1, readable, [] {}), HostError);
  run_once(loop);
}

TEST_CASE("a loop is the host's error when no descriptor is left") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit none = before;
  none.rlim_cur = 0;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  int error_number = 0;
  try {
    const EventLoop loop;
  } catch (const HostError& error) {
    error_number = error.code().value();
  }
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(error_number == EMFILE);
}

TEST_CASE("posted work runs in order, and all of it before a stopped loop returns") {
  EventLoop loop;
  std::string seen;
  loop.post([&] {
    seen += 'a';
    loop.post([&] { seen += 'c'; });
  });
  loop.post([&] { seen += 'b'; });
  loop.stop();
  loop.run();
  CHECK(seen == "abc");
}

TEST_CASE("a thread runs called work itself and the caller sees what it did") {
  IoThread thread("test");
  std::thread::id where;
  std::string name(16, '\0');
  sigset_t mask;
  ::sigemptyset(&mask);
  thread.call([&] {
    where = std::this_thread::get_id();
    ::pthread_getname_np(::pthread_self(), name.data(), name.size());
    ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  });
  CHECK(where != std::thread::id());
  CHECK(where != std::this_thread::get_id());
  CHECK(std::string(name.c_str()) == "test");
  CHECK(::sigismember(&mask, SIGTERM) == 1);
  CHECK(::sigismember(&mask, SIGUSR1) == 1);
}

TEST_CASE("called work may call again") {
  IoThread thread("test");
  std::string seen;
  thread.call([&] {
    seen += 'a';
    thread.call([&] { seen += 'b'; });
    seen += 'c';
  });
  CHECK(seen == "abc");
}

TEST_CASE("an exception of called work reaches the caller and leaves the thread serving") {
  IoThread thread("test");
  CHECK_THROWS_AS(thread.call([] { throw std::out_of_range("x"); }), std::out_of_range);
  bool served = false;
  thread.call([&] { served = true; });
  CHECK(served);
}

TEST_CASE("called work leaves nothing behind on the thread") {
  IoThread thread("test");
  const auto held = std::make_shared<int>(0);
  for (int i = 0; i < 200; ++i) {
    thread.call([held] { ++*held; });
    REQUIRE(held.use_count() == 1);
  }
  CHECK(*held == 200);
}

TEST_CASE("many threads may call at once") {
  IoThread server("test");
  int count = 0;
  std::array<std::thread, 4> callers;
  for (std::thread& caller : callers)
    caller = std::thread([&] {
      for (int i = 0; i < 200; ++i) server.call([&] { ++count; });
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(count == 800);
}

TEST_CASE("a starting thread leaves the starter's signal mask as it was") {
  sigset_t before;
  sigset_t after;
  ::sigemptyset(&before);
  ::sigemptyset(&after);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  start_thread("a name of more than fifteen", [] {}).join();
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  CHECK(::sigismember(&before, SIGTERM) == ::sigismember(&after, SIGTERM));
  CHECK(::sigismember(&after, SIGTERM) == 0);
}

TEST_CASE("a hook is called by each new thread first, and by those that they start, and by no others") {
  std::mutex mutex;
  std::vector<std::pair<std::string, std::thread::id>> calls;
  const ThreadHook hook = [&](const std::string& name) {
    const std::lock_guard lock(mutex);
    calls.emplace_back(name, std::this_thread::get_id());
  };
  std::thread::id first;
  std::thread::id second;
  hook_new_threads(&hook);
  start_thread("first of two threads", [&] {
    first = std::this_thread::get_id();
    start_thread("second", [&] { second = std::this_thread::get_id(); }).join();
  }).join();
  std::thread([] { start_thread("of a stranger", [] {}).join(); }).join();
  hook_new_threads(nullptr);
  start_thread("without", [] {}).join();
  REQUIRE(calls.size() == 2);
  CHECK(calls[0] == std::pair(std::string("first of two threads"), first));
  CHECK(calls[1] == std::pair(std::string("second"), second));
}

TEST_CASE("a thread's name is its own from its first moment") {
  std::array<char, 16> name{};
  start_thread("a name of more than fifteen", [&] {
    ::pthread_getname_np(::pthread_self(), name.data(), name.size());
  }).join();
  CHECK(std::string(name.data()) == "a name of more ");
}

TEST_CASE("a thread that the host refuses is the host's error, with the signal mask as it was") {
  pthread_attr_t before;
  REQUIRE(::pthread_getattr_default_np(&before) == 0);
  pthread_attr_t huge;
  REQUIRE(::pthread_attr_init(&huge) == 0);
  REQUIRE(::pthread_attr_setstacksize(&huge, std::size_t{1} << 47) == 0);  // more than the address space
  REQUIRE(::pthread_setattr_default_np(&huge) == 0);
  int error_number = 0;
  try {
    const IoThread thread("test");
  } catch (const HostError& error) {
    error_number = error.code().value();
  } catch (const std::system_error&) {
    error_number = -1;
  }
  REQUIRE(::pthread_setattr_default_np(&before) == 0);
  ::pthread_attr_destroy(&before);
  ::pthread_attr_destroy(&huge);
  CHECK(error_number == EAGAIN);
  sigset_t mask;
  ::sigemptyset(&mask);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  CHECK(::sigismember(&mask, SIGTERM) == 0);
}

}  // namespace hum
