// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <random>
#include <thread>

#include "tools/humd/network_host.h"
#include "tools/humd/network_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::TestHost;
using testing::with_network_host;

using Work = std::function<void(NetworkHost&)>;

// In a process that is killed before its change of that number; false: there is none, it has done all.
bool killed_before(const TestHost& test, int number, const Work& work) {
  const pid_t process = ::fork();
  if (process == 0) {
    NetworkHost host = test.host([left = number](std::string_view) mutable {
      if (left-- == 0) ::raise(SIGKILL);
    });
    work(host);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(process, &status, 0);
  testing::must(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "change the host");
  return WIFSIGNALED(status);
}

// In a process that is killed after that time.
void killed_after(const TestHost& test, std::chrono::microseconds time, const Work& work) {
  const pid_t process = ::fork();
  if (process == 0) {
    NetworkHost host = test.host();
    work(host);
    ::_exit(0);
  }
  std::this_thread::sleep_for(time);
  ::kill(process, SIGKILL);
  ::waitpid(process, nullptr, 0);
}

// What a daemon does for two VMs, and for what becomes of them: nobody, one VM, another in its place.
struct Life {
  TestHost& test;

  void begin(NetworkHost& host) const {
    host.ensure_network(test.spec, {test.leases.data(), 1});
    host.ensure_tap(3, {.vm = 1, .owner = 0});
  }
  void go_on(NetworkHost& host) const {
    std::vector<Lease> leases = test.leases;
    leases.erase(leases.begin());
    leases[0].address = {10, 20, 30, 2};
    host.ensure_network(test.spec, leases);
    host.ensure_tap(3, {.vm = 2, .owner = 7});
    host.remove_tap(3, 1);
  }
  void end(NetworkHost& host) const { host.remove_network(3); }
};

// What the network answers, and not only what its files say.
bool serves(const std::string& name) {
  return testing::comes_true(
      [&] { return testing::resolve(name + ".hum.internal", "10.20.30.1") == "10.20.30.2"; });
}

TEST_CASE("killed before any change of the host, the next one finishes or undoes it") {
  with_network_host([](TestHost& test) {
    const Life life{test};
    NetworkHost host = test.host();
    life.begin(host);
    const std::string begun = test.state();
    life.go_on(host);
    const std::string gone_on = test.state();
    life.end(host);
    REQUIRE(test.leftovers() == "");

    int points = 0;
    const auto at_each_change = [&](const std::function<void()>& prepare, const Work& work, const Work& next,
                                    const std::function<void()>& check) {
      bool was_killed = true;
      for (int number = 0; was_killed; ++number) {
        CAPTURE(number);
        prepare();
        was_killed = killed_before(test, number, work);
        next(host);
        check();
        life.end(host);
        points += was_killed ? 1 : 0;
      }
    };
    const auto nothing = [] {};
    const auto begin = [&](NetworkHost& with) { life.begin(with); };
    const auto go_on = [&](NetworkHost& with) { life.go_on(with); };
    const auto end = [&](NetworkHost& with) { life.end(with); };
    const auto is_begun = [&] {
      CHECK(test.state() == begun);
      CHECK(serves("one"));
    };
    const auto has_gone_on = [&] {
      CHECK(test.state() == gone_on);
      CHECK(serves("two"));
    };
    const auto is_over = [&] { CHECK(test.leftovers() == ""); };
    at_each_change(nothing, begin, begin, is_begun);
    at_each_change(nothing, begin, end, is_over);
    at_each_change([&] { life.begin(host); }, go_on, go_on, has_gone_on);
    at_each_change([&] { life.begin(host); }, go_on, end, is_over);
    at_each_change([&] { life.begin(host); }, end, end, is_over);
    at_each_change([&] { life.begin(host); }, end, begin, is_begun);
    INFO(points << " points");
    CHECK(points >= 70);
  });
}

TEST_CASE("killed at any time, the next one finishes or undoes it") {
  with_network_host([](TestHost& test) {
    const Life life{test};
    NetworkHost host = test.host();
    life.begin(host);
    const std::string begun = test.state();
    const auto begin_time = std::chrono::steady_clock::now();
    life.end(host);
    life.begin(host);
    life.end(host);
    const auto longest =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin_time);
    std::mt19937_64 random(20251123);
    for (int round = 0; round < 20; ++round) {
      const std::chrono::microseconds time(random() % static_cast<std::uint64_t>(longest.count()));
      CAPTURE(round, time.count());
      killed_after(test, time, [&](NetworkHost& with) {
        life.begin(with);
        life.end(with);
      });
      if (round % 2 == 0) {
        life.begin(host);
        CHECK(test.state() == begun);
        CHECK(serves("one"));
      }
      life.end(host);
      CHECK(test.leftovers() == "");
    }
  });
}

}  // namespace
}  // namespace hum
