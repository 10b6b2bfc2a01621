// SPDX-License-Identifier: Apache-2.0
//
// The daemon is killed at every moment that the journal knows of, in the middle of whole lives of VMs, and
// again while it recovers. Whatever was under way is finished or undone then, and nothing is left over.
#include <signal.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/humd/api_error.h"
#include "tools/humd/daemon_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using std::chrono::steady_clock;
using Say = std::function<void(const std::string&)>;

Task<> act(Manager& manager, const Say& say, std::string name, std::string kind,
           std::string arguments = "{}") {
  const auto row = manager.vms().find(name);
  if (!row) co_return;
  Caller caller;
  Operation operation;
  try {
    operation = co_await manager.begin(kind, *row, std::move(caller), std::move(arguments));
  } catch (const ApiError&) {  // it has ended by itself meanwhile
    co_return;
  }
  say("begun " + kind + " " + name);
  co_await manager.wait_for(operation.id, steady_clock::now() + std::chrono::seconds(20));
}

Task<> create(Manager& manager, const Say& say, VmSpec spec) {
  const std::string name = spec.name();
  Caller caller;
  const Operation operation = co_await manager.create(std::move(spec), std::move(caller), false);
  say("created " + name);
  co_await manager.wait_for(operation.id, steady_clock::now() + std::chrono::seconds(20));
}

// Until nothing is under way and nothing is about to begin.
Task<> settle(Manager& manager) {
  const auto deadline = steady_clock::now() + std::chrono::seconds(30);
  for (;;) {
    bool busy = !manager.journal().open().empty() || !manager.vms().due_restarts(wall_clock() + 0.5).empty();
    for (const VmRow& vm : manager.vms().list({}))
      busy = busy || (vm.process && manager.live().has_ended(vm.id));
    if (!busy) co_return;
    if (steady_clock::now() > deadline) throw std::runtime_error("it does not settle");
    co_await manager.wait_for_change(std::min(deadline, steady_clock::now() + std::chrono::milliseconds(20)));
  }
}

constexpr const char* at_once = R"({"timeout_ms": 0})";
constexpr const char* soon = R"({"timeout_ms": 30})";
constexpr const char* again = R"({"timeout_ms": 500, "again": true})";
constexpr const char* force = R"({"force": true})";

Task<> whole_life(Manager& manager, const Say& say) {
  co_await create(manager, say, fake_vm("web"));
  for (const char* const kind : {"start", "pause", "resume"}) co_await act(manager, say, "web", kind);
  co_await act(manager, say, "web", "stop", again);
  co_await act(manager, say, "web", "start");
  co_await act(manager, say, "web", "kill");
  co_await act(manager, say, "web", "start");
  co_await act(manager, say, "web", "restart", again);
  co_await act(manager, say, "web", "delete", force);
}

Task<> failing_start(Manager& manager, const Say& say) {
  co_await create(manager, say, fake_vm("bad", "fake=die-at-start"));
  co_await act(manager, say, "bad", "start");
  co_await act(manager, say, "bad", "start", R"({"by_policy": true})");
  co_await act(manager, say, "bad", "delete");
}

Task<> ends_by_itself(Manager& manager, const Say& say) {
  co_await create(manager, say,
                  fake_vm("job", "fake=exit-code:3", R"({"restart": "on-failure", "most_restarts": 1})"));
  co_await act(manager, say, "job", "start");
  co_await settle(manager);
  co_await act(manager, say, "job", "delete", force);
}

Task<> stubborn(Manager& manager, const Say& say) {
  co_await create(manager, say, fake_vm("mule", "fake=ignore-stop fake=ignore-term"));
  co_await act(manager, say, "mule", "start");
  co_await act(manager, say, "mule", "restart", soon);
  co_await act(manager, say, "mule", "stop", at_once);
  co_await act(manager, say, "mule", "delete");
}

Task<> two_at_once(Manager& manager, const Say& say) {
  co_await create(manager, say,
                  fake_vm("a", "fake=die-after-ms:20", R"({"restart": "always", "most_restarts": 1})"));
  co_await create(manager, say, fake_vm("b"));
  co_await act(manager, say, "a", "start");
  co_await act(manager, say, "b", "start");
  co_await settle(manager);
  co_await act(manager, say, "b", "stop", soon);
  for (const char* const name : {"b", "a"}) co_await act(manager, say, name, "delete", force);
}

struct Scenario {
  const char* name;
  Task<> (*run)(Manager& manager, const Say& say);
};

// Tells where it is at each moment, and ends the process at one of them (0: at none).
Journal::Observer killer(const Say& say, unsigned at) {
  auto count = std::make_shared<unsigned>(0);
  return [&say, at, count](const Operation& operation, std::string_view step, JournalMoment moment) {
    constexpr const char* words[] = {"entered", "acted", "finished"};
    say("at " + operation.kind + "/" + (operation.undoing ? "undo " : "") + std::string(step) + " " +
        words[static_cast<std::size_t>(moment)]);
    if (++*count == at) ::raise(SIGKILL);
  };
}

std::vector<std::string> live(const DaemonPlace& place, const Scenario& scenario, unsigned kill_at) {
  return in_child([&](const Say& say) {
    boost::asio::io_context context{1};
    Manager manager(context, place.settings(), killer(say, kill_at));
    const auto all = [&]() -> Task<> {
      co_await manager.recover();
      co_await scenario.run(manager, say);
    };
    run_coroutine(context, all());
    say("end");
  });
}

// What is not as it should be when nothing is under way; empty: all is.
std::string trouble(Manager& manager, const DaemonPlace& place) {
  std::set<std::int64_t> vms;
  std::set<std::int64_t> running;
  for (const VmRow& vm : manager.vms().list({})) {
    vms.insert(vm.id);
    if (vm.state == VmState::running || vm.state == VmState::paused) running.insert(vm.id);
    if (vm.state != VmState::stopped && !running.contains(vm.id))
      return vm.name + " is " + std::string(to_string(vm.state));
    if (running.contains(vm.id) != vm.process.has_value()) return vm.name + " and its process";
  }
  return place.untidy(vms, running);
}

// What the next daemon finds, brings to an end, and then removes.
std::vector<std::string> recover(const DaemonPlace& place, unsigned kill_at) {
  return in_child([&](const Say& say) {
    boost::asio::io_context context{1};
    Manager manager(context, place.settings(), killer(say, kill_at));
    const auto all = [&]() -> Task<> {
      co_await manager.recover();
      // A VM may end by itself between two looks.
      std::string wrong = "nothing";
      for (int tries = 0; tries < 50 && !wrong.empty(); ++tries) {
        co_await settle(manager);
        wrong = trouble(manager, place);
        if (!wrong.empty())
          co_await manager.wait_for_change(steady_clock::now() + std::chrono::milliseconds(20));
      }
      if (!wrong.empty()) say("wrong: " + wrong);
      for (const VmRow& vm : manager.vms().list({}))
        say("vm " + vm.name + " " + std::string(to_string(vm.state)));
      for (const VmRow& vm : manager.vms().list({})) co_await act(manager, say, vm.name, "delete", force);
      co_await settle(manager);
      if (manager.vms().count() != 0) say("wrong: a VM is left");
      if (const std::string why = place.untidy({}, {}); !why.empty()) say("wrong: at the end " + why);
    };
    run_coroutine(context, all());
    say("end");
  });
}

bool has(const std::vector<std::string>& lines, const std::string& line) {
  return std::find(lines.begin(), lines.end(), line) != lines.end();
}

std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// What was promised to a client is there.
std::string broken_promise(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  for (const std::string& line : before) {
    if (!line.starts_with("created ")) continue;
    const std::string name = line.substr(8);
    const bool is_there = std::any_of(after.begin(), after.end(), [&](const std::string& each) {
      return each.starts_with("vm " + name + " ");
    });
    const bool may_be_gone = has(before, "begun delete " + name) ||
                             std::any_of(before.begin(), before.end(), [](const std::string& each) {
                               return each.starts_with("at delete/");
                             });
    if (!is_there && !may_be_gone) return name + " was created and is not there";
  }
  return {};
}

void check(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  INFO("the daemon that was killed:\n" << text_of(before) << "and the next:\n" << text_of(after));
  CHECK(has(after, "end"));
  CHECK(std::none_of(after.begin(), after.end(), [](const std::string& line) {
    return line.starts_with("wrong: ") || line.starts_with("exception: ");
  }));
  CHECK(broken_promise(before, after) == "");
}

unsigned moments_in(const std::vector<std::string>& lines) {
  return static_cast<unsigned>(std::count_if(
      lines.begin(), lines.end(), [](const std::string& line) { return line.starts_with("at "); }));
}

bool is_long() {
  return std::getenv("HUM_LONG") != nullptr;
}

#ifdef HUM_SANITIZED
constexpr unsigned stride = 5;  // such a build takes several times as long
#else
constexpr unsigned stride = 1;
#endif

// The next daemon is killed, too, soon after its start; in long tests at more moments.
unsigned kill_everywhere(const Scenario& scenario) {
  std::set<std::string> covered;
  unsigned points = 0;
  unsigned total = 0;
  {
    const DaemonPlace place;
    const std::vector<std::string> lines = live(place, scenario, 0);
    INFO(scenario.name << "\n" << text_of(lines));
    REQUIRE(has(lines, "end"));
    REQUIRE(place.untidy({}, {}) == "");
    total = moments_in(lines);
  }
  for (unsigned at = 1; at <= total; at += stride) {
    const DaemonPlace place;
    std::vector<std::string> before = live(place, scenario, at);
    for (const std::string& line : before)
      if (line.starts_with("at ")) covered.insert(line.substr(3));
    const unsigned first = 1 + at % 3;
    for (unsigned second = first; second <= (is_long() ? first + 6 : first); ++second) {
      for (std::string& line : recover(place, second)) before.push_back(std::move(line));
      ++points;
    }
    INFO(scenario.name << ", killed at moment " << at);
    check(before, recover(place, 0));
    reap_orphans();
    ++points;
  }
  std::printf("count: %u kills at %zu moments of operations' steps: %s\n", points, covered.size(),
              scenario.name);
  return points;
}

}  // namespace

TEST_CASE("a daemon that is killed at any moment of a VM's life loses nothing and leaves nothing behind") {
  CHECK(kill_everywhere({"a whole life", whole_life}) >= 170 / stride);
}

TEST_CASE("a daemon that is killed while a VM fails to start leaves nothing of it behind") {
  CHECK(kill_everywhere({"a start that fails", failing_start}) >= 80 / stride);
}

TEST_CASE("a daemon that is killed while a VM ends by itself knows of the end, and starts the VM again") {
  CHECK(kill_everywhere({"an end that comes by itself", ends_by_itself}) >= 80 / stride);
}

TEST_CASE("a daemon that is killed while a VM does not want to end ends it") {
  CHECK(kill_everywhere({"a VM that does not want to end", stubborn}) >= 80 / stride);
}

TEST_CASE("a daemon that is killed while two VMs come and go mixes nothing up") {
  CHECK(kill_everywhere({"two VMs at once", two_at_once}) >= 100 / stride);
}

}  // namespace hum
