// SPDX-License-Identifier: Apache-2.0
//
// The host's clock is set, while the daemon runs and while it does not.
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/humd/served_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr double year = 365.0 * 86400;

// As the host's clock says again at its end.
struct Clock {
  Clock() = default;
  ~Clock() { set_wall_clock_ahead(0); }
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
};

void set_clock(Served& daemon, double ahead) {
  set_wall_clock_ahead(ahead);
  daemon.manager().reschedule();
}

void run_for(Served& daemon, milliseconds time) {
  const auto end = steady_clock::now() + time;
  daemon.until([&] { return steady_clock::now() >= end; });
}

void create_vm(Served& daemon, const std::string& words, const std::string& more) {
  REQUIRE(daemon.outcome("POST", "/v1/vms", fake_vm("web", words, more).text()) == "done");
}

VmRow row_of(Served& daemon) {
  const auto row = daemon.manager().vms().find("web");
  REQUIRE(row);
  return *row;
}

double left(Served& daemon) {
  return row_of(daemon).expires.value_or(0) - wall_clock();
}

std::size_t starts(Served& daemon) {
  std::size_t count = 0;
  for (const Operation& each : daemon.manager().journal().list(0, 1000))
    if (each.kind == "start") ++count;
  return count;
}

// A VM that ends at once whenever it is started, and waits for its next start, which is seconds away.
void create_waiting(Served& daemon) {
  create_vm(daemon, "fake=exit-code:1", R"({"restart": "always"})");
  REQUIRE(daemon.outcome("POST", "/v1/vms/web/start") == "done");
  REQUIRE(daemon.until([&] { return row_of(daemon).failures == 3 && row_of(daemon).restart_at; }));
}

}  // namespace

TEST_CASE("a VM with a lifetime is not deleted early when the clock is set a year ahead") {
  const Clock clock;
  const DaemonPlace place;
  {
    Served daemon(place.settings());
    create_vm(daemon, "", R"({"lifetime_s": 3600})");
    set_clock(daemon, year);
    run_for(daemon, milliseconds(200));
    CHECK(std::abs(left(daemon) - 3600) < 60);
    CHECK(daemon.ask("PATCH", "/v1/vms/web", R"({"labels": {"a": "b"}})").status == 200);
    set_clock(daemon, year);
    run_for(daemon, milliseconds(200));
    CHECK(std::abs(left(daemon) - 3600) < 60);
  }
  set_wall_clock_ahead(2 * year);  // while no daemon runs
  Served daemon(place.settings());
  run_for(daemon, milliseconds(200));
  CHECK(std::abs(left(daemon) - 3600) < 60);
  set_clock(daemon, -year);
  run_for(daemon, milliseconds(200));
  CHECK(std::abs(left(daemon) - 3600) < 60);
}

TEST_CASE("a VM's lifetime ends when it has passed though the clock was set a year back") {
  const Clock clock;
  const DaemonPlace place;
  Served daemon(place.settings());
  create_vm(daemon, "", R"({"lifetime_s": 2})");
  const auto begin = steady_clock::now();
  set_clock(daemon, -year);
  CHECK(daemon.until([&] { return !daemon.manager().vms().find("web"); }));
  CHECK(steady_clock::now() - begin > milliseconds(1000));
  CHECK(place.untidy({}, {}) == "");
}

TEST_CASE("a clock that was wrong after the host's start and is set right takes no lifetime with it") {
  const Clock clock;
  const DaemonPlace place;
  ManagerSettings settings = place.settings();
  settings.boot_id = "before";
  {
    Served daemon(settings);
    create_vm(daemon, "", R"({"lifetime_s": 3600})");
  }
  set_wall_clock_ahead(-year);
  Served daemon(place.settings());
  set_clock(daemon, 0);
  run_for(daemon, milliseconds(200));
  CHECK(std::abs(left(daemon) - 3600) < 60);
}

TEST_CASE("a restart that waits is neither early nor held up when the clock is set") {
  for (const double ahead : {year, -year, 3600.0, -3600.0}) {
    INFO("set by " << ahead);
    const Clock clock;
    const DaemonPlace place;
    Served daemon(place.settings());
    create_waiting(daemon);
    const std::size_t before = starts(daemon);
    set_clock(daemon, ahead);
    run_for(daemon, milliseconds(100));
    CHECK(row_of(daemon).restart_at.value_or(0) - wall_clock() < 5);
    CHECK(starts(daemon) <= before + 1);  // when the test itself was slow
    CHECK(daemon.until([&] { return starts(daemon) > before; }));
    CHECK(daemon.until([&] { return row_of(daemon).failures >= 4; }));
  }
}

TEST_CASE("a clock that is set again and again makes no storm of restarts") {
  const Clock clock;
  const DaemonPlace place;
  Served daemon(place.settings());
  create_waiting(daemon);
  const std::size_t before = starts(daemon);
  const auto begin = steady_clock::now();
  for (int i = 0; i < 50; ++i) {
    set_clock(daemon, i % 2 == 0 ? year : -year);
    run_for(daemon, milliseconds(10));
  }
  const auto took = steady_clock::now() - begin;
  // After 2, 4, 8... seconds.
  CHECK(starts(daemon) <= before + 1 + static_cast<std::size_t>(took / std::chrono::seconds(2)));
}

TEST_CASE("a restart that waits is not held up by a clock that a restart of the host has set back") {
  const Clock clock;
  const DaemonPlace place;
  ManagerSettings settings = place.settings();
  settings.boot_id = "before";
  std::size_t before = 0;
  {
    Served daemon(settings);
    create_waiting(daemon);
    before = starts(daemon);
  }
  set_wall_clock_ahead(-year);
  Served daemon(place.settings());
  CHECK(daemon.until([&] { return starts(daemon) > before; }));
}

TEST_CASE("waits take as long as they are to, however the clock is set meanwhile") {
  const Clock clock;
  const DaemonPlace place;
  Served daemon(place.settings());
  create_vm(daemon, "", "{}");
  for (const double ahead : {year, -year}) {
    const auto begin = steady_clock::now();
    const Served::Answer answer = daemon.send(api_request("GET", "/v1/vms/web/wait?for=running&timeout_s=1"));
    run_for(daemon, milliseconds(100));
    set_clock(daemon, ahead);
    CHECK(daemon.wait(answer).status == 202);
    CHECK(steady_clock::now() - begin >= milliseconds(990));
  }
}

}  // namespace hum
