// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

bool is_open(int number) {
  return ::fcntl(number, F_GETFD) >= 0;
}

Fd open_null() {
  return open_file("/dev/null", O_RDWR);
}

}  // namespace

TEST_CASE("a descriptor is closed by its owner's end") {
  int number = -1;
  {
    const Fd fd = open_null();
    number = fd.get();
    REQUIRE(is_open(number));
  }
  CHECK_FALSE(is_open(number));
}

TEST_CASE("a moved descriptor has one owner, and assignment closes what was owned before") {
  Fd first = open_null();
  Fd second = open_null();
  const int kept = first.get();
  const int closed = second.get();

  second = std::move(first);
  CHECK_FALSE(first);
  CHECK(second.get() == kept);
  CHECK(is_open(kept));
  CHECK_FALSE(is_open(closed));

  Fd& self = second;
  second = std::move(self);
  CHECK(second.get() == kept);
  CHECK(is_open(kept));

  const Fd third(std::move(second));
  CHECK_FALSE(second);
  CHECK(third.get() == kept);
}

TEST_CASE("release gives a descriptor away open, reset closes it") {
  Fd fd = open_null();
  Fd owner(fd.release());
  CHECK_FALSE(fd);
  const int number = owner.get();
  CHECK(is_open(number));
  owner.reset();
  CHECK_FALSE(owner);
  CHECK_FALSE(is_open(number));
}

TEST_CASE("opened and duplicated descriptors do not survive exec") {
  const Fd fd = open_null();
  const Fd copy = Fd::duplicate(fd.get());
  CHECK(copy.get() != fd.get());
  CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(copy.get(), F_GETFD) & FD_CLOEXEC) != 0);
  const EventFd event;
  CHECK((::fcntl(event.fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("a duplicate of no descriptor is the host's error") {
  try {
    Fd::duplicate(-1);
    FAIL("no error");
  } catch (const HostError& error) {
    CHECK(error.code().value() == EBADF);
  }
}

TEST_CASE("an open that fails names the path and the fix") {
  try {
    open_file("/nonexistent/file", O_RDONLY, 0, "create it");
    FAIL("no error");
  } catch (const HostError& error) {
    const std::string text = error.what();
    CHECK(error.code().value() == ENOENT);
    CHECK(text.find("/nonexistent/file") != std::string::npos);
    CHECK(text.find("create it") != std::string::npos);
  }
}

TEST_CASE("an eventfd is the host's error when no descriptor is left") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit none = before;
  none.rlim_cur = 0;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  int error_number = 0;
  try {
    const EventFd event;
  } catch (const HostError& error) {
    error_number = error.code().value();
  }
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(error_number == EMFILE);
}

TEST_CASE("an eventfd is pending from a signal to a drain, however many signals came") {
  const EventFd event;
  CHECK_FALSE(event.pending());
  CHECK_FALSE(event.drain());
  event.signal();
  event.signal();
  CHECK(event.pending());
  CHECK(event.pending());
  CHECK(event.drain());
  CHECK_FALSE(event.pending());
  CHECK_FALSE(event.drain());
}

TEST_CASE("a drain does not wait, not even if whoever shares the eventfd has made it a blocking one") {
  const EventFd event;
  REQUIRE(::fcntl(event.fd(), F_SETFL, 0) == 0);
  CHECK_FALSE(event.drain());
  event.signal();
  CHECK(event.drain());
  CHECK_FALSE(event.drain());
}

TEST_CASE("a signal to an eventfd whose counter is full neither blocks nor gets lost") {
  const EventFd event;
  const std::uint64_t most = UINT64_MAX - 1;
  REQUIRE(::write(event.fd(), &most, sizeof most) == sizeof most);
  event.signal();
  CHECK(event.drain());
}

TEST_CASE("a timer runs out once after its time, at once for no time, and not when it was stopped") {
  const auto ran_out = [](const Timer& timer, int milliseconds) {
    pollfd entry{.fd = timer.fd(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, milliseconds) == 1;
  };
  const Timer timer;
  CHECK_FALSE(ran_out(timer, 0));
  const auto begin = std::chrono::steady_clock::now();
  timer.set(std::chrono::milliseconds(30));
  CHECK(ran_out(timer, 10'000));
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(30));
  CHECK(ran_out(timer, 0));  // until somebody takes it down
  timer.set(std::chrono::hours(1));
  CHECK_FALSE(ran_out(timer, 0));
  for (const int none : {0, -5}) {
    timer.set(std::chrono::nanoseconds(none));
    CHECK(ran_out(timer, 10'000));
  }
  timer.stop();
  CHECK_FALSE(ran_out(timer, 20));
}

}  // namespace hum
