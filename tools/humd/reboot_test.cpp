// SPDX-License-Identifier: Apache-2.0
//
// The host is restarted: no process is left, the run folder is empty, and the store is as it was. VMs come
// back by what they are to be, operations go on, and each end has its reason.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "tools/humd/crash_lives_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;

constexpr const char* always = R"({"restart": "always"})";

// By a VM's name: the step of an operation on it that is under way when the host goes down.
using Frozen = std::map<std::string, std::string>;

// An operation that is to be frozen has entered its step and does nothing more.
Journal::Observer freezer(const Frozen& frozen) {
  return [frozen](const Operation& operation, std::string_view step, JournalMoment moment) {
    const auto found = frozen.find(operation.object_name);
    if (moment != JournalMoment::entered || found == frozen.end()) return;
    if (found->second == operation.kind + "/" + std::string(step)) throw std::runtime_error("frozen");
  };
}

using Life = std::function<Task<>(Manager& manager)>;

void run_daemon_at(const DaemonPlace& place, bool before, const Frozen& frozen, const Life& life) {
  boost::asio::io_context context{1};
  ManagerSettings settings = place.settings();
  if (before) settings.boot_id = "another";
  Manager manager(context, settings, freezer(frozen));
  const auto all = [&]() -> Task<> {
    co_await manager.recover();
    co_await life(manager);
  };
  run_coroutine(context, all());
}

void restart_host(const DaemonPlace& place) {
  for (const pid_t pid : place.processes()) ::kill(pid, SIGKILL);
  while (!place.processes().empty()) {
    reap_orphans();
    ::usleep(1000);
  }
  for (const auto& each : std::filesystem::directory_iterator(place.folders().run))
    std::filesystem::remove_all(each.path());
}

// Begins what is frozen on its way.
Task<> begin(Manager& manager, std::string name, std::string kind, std::string arguments = "{}") {
  Caller caller;
  const auto row = manager.vms().find(name);
  if (!row) throw std::runtime_error(name + " is not there");
  co_await manager.begin(kind, *row, std::move(caller), std::move(arguments));
}

Task<> running(Manager& manager, std::string name, std::string more = "{}") {
  const Say say = [](const std::string&) {};
  co_await create(manager, say, fake_vm(name, {}, more));
  co_await act(manager, say, name, "start");
  if (manager.vms().find(name)->state != VmState::running) throw std::runtime_error(name + " does not run");
}

Task<> stopped(Manager& manager, std::string name, std::string more = "{}") {
  const Say say = [](const std::string&) {};
  co_await create(manager, say, fake_vm(name, {}, more));
}

// Until it runs after so many failures.
Task<> settle_on(Manager& manager, std::string name, unsigned failures) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (;;) {
    const auto row = manager.vms().find(name);
    if (row->failures == failures && row->state == VmState::running) break;
    if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error(name + " does not come back");
    co_await manager.wait_for_change(std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
  }
  co_await settle(manager);
}

// State, cause of the last end, and its detail.
std::string words_of(Manager& manager, const std::string& name) {
  const auto row = manager.vms().find(name);
  if (!row) return "not there";
  std::string words(to_string(row->state));
  if (row->ended.empty()) return words;
  const json ended = json::parse(row->ended);
  return words + ", " + ended.value("cause", "") + ": " + ended.value("detail", "");
}

std::string untidy(Manager& manager, const DaemonPlace& place) {
  std::set<std::int64_t> vms;
  std::set<std::int64_t> live;
  for (const VmRow& vm : manager.vms().list({})) {
    vms.insert(vm.id);
    if (vm.state == VmState::running) live.insert(vm.id);
  }
  return place.untidy(vms, live);
}

// Of each operation of a kind: the VM's name and how it has ended, in the order of their beginning.
std::vector<std::string> operations(Manager& manager, const std::string& kind, std::int64_t after) {
  std::vector<std::string> found;
  for (const Operation& each : manager.journal().list(0, 1000, {}))
    if (each.kind == kind && each.id > after)
      found.push_back(each.object_name + " " + std::string(to_string(each.state)));
  std::reverse(found.begin(), found.end());
  return found;
}

std::int64_t last_operation(Manager& manager) {
  return manager.journal().list(0, 1, {}).front().id;
}

constexpr const char* came_back = "running, lost: the host was restarted";
constexpr const char* lost = "stopped, lost: the host was restarted";

}  // namespace

TEST_CASE("when the host has been restarted, VMs run again by their policy and the others are lost by that") {
  const DaemonPlace place;
  std::int64_t last = 0;
  run_daemon_at(place, true, {}, [&](Manager& manager) -> Task<> {
    const Say say = [](const std::string&) {};
    co_await running(manager, "always", always);
    co_await running(manager, "on-failure", R"({"restart": "on-failure"})");
    co_await running(manager, "no");
    co_await running(manager, "no-more", R"({"restart": "always", "most_restarts": 1})");
    manager.live().find(manager.vms().find("no-more")->id)->signal(SIGKILL);
    co_await settle_on(manager, "no-more", 1);
    co_await running(manager, "paused");
    co_await act(manager, say, "paused", "pause");
    co_await running(manager, "paused-always", always);
    co_await act(manager, say, "paused-always", "pause");
    co_await running(manager, "stopped-always", always);
    co_await act(manager, say, "stopped-always", "kill");
    co_await stopped(manager, "idle");
    last = last_operation(manager);
  });
  restart_host(place);
  run_daemon_at(place, false, {}, [&](Manager& manager) -> Task<> {
    co_await settle(manager);
    CHECK(words_of(manager, "always") == came_back);
    CHECK(words_of(manager, "on-failure") == came_back);
    CHECK(words_of(manager, "no") == lost);
    CHECK(words_of(manager, "no-more") == lost);
    CHECK(words_of(manager, "paused") == lost);
    CHECK(words_of(manager, "paused-always") == came_back);
    CHECK(words_of(manager, "stopped-always") == "stopped, killed: ");
    CHECK(words_of(manager, "idle") == "stopped");
    CHECK(operations(manager, "end", last).size() == 6);
    CHECK(operations(manager, "start", last).size() == 3);
    CHECK(untidy(manager, place) == "");
  });
}

TEST_CASE("when the host has been restarted, what is to start with it does so in its order, and once") {
  const DaemonPlace place;
  std::int64_t last = 0;
  run_daemon_at(place, true, {}, [&](Manager& manager) -> Task<> {
    co_await stopped(manager, "third", R"({"autostart": true, "start_order": 30})");
    co_await stopped(manager, "first", R"({"autostart": true, "start_order": 1})");
    co_await stopped(manager, "second", R"({"autostart": true, "start_order": 20})");
    co_await stopped(manager, "second-too", R"({"autostart": true, "start_order": 20})");
    co_await stopped(manager, "idle");
    co_await running(manager, "ran", R"({"autostart": true, "start_order": 10})");
    last = last_operation(manager);
  });
  restart_host(place);
  const std::vector<std::string> started = {"first done", "ran done", "second done", "second-too done",
                                            "third done"};
  run_daemon_at(place, false, {}, [&](Manager& manager) -> Task<> {
    co_await settle(manager);
    CHECK(operations(manager, "start", last) == started);
    for (const char* const name : {"first", "second", "second-too", "third"})
      CHECK(words_of(manager, name) == "running");
    CHECK(words_of(manager, "idle") == "stopped");
    CHECK(words_of(manager, "ran") == came_back);
    CHECK(untidy(manager, place) == "");
    const Say say = [](const std::string&) {};
    co_await act(manager, say, "first", "kill");
  });
  // Another daemon on the same host since.
  run_daemon_at(place, false, {}, [&](Manager& manager) -> Task<> {
    co_await settle(manager);
    CHECK(operations(manager, "start", last) == started);
    CHECK(words_of(manager, "first").starts_with("stopped, killed"));
    CHECK(words_of(manager, "second") == "running");
  });
}

TEST_CASE("when the host has been restarted, what was under way comes to an end") {
  const DaemonPlace place;
  const Frozen frozen = {{"new", "create/folder"},         {"started", "start/files"},
                         {"spawned", "start/confirm"},     {"asked", "stop/ask"},
                         {"stopped", "stop/record"},       {"killed", "kill/kill"},
                         {"gone", "delete/kill"},          {"nearly-gone", "delete/forget"},
                         {"pausing", "pause/pause"},       {"resuming", "resume/resume"},
                         {"kept", "pause/pause"},          {"again", "restart/ask"},
                         {"nearly-again", "restart/spawn"}};
  std::int64_t last = 0;
  run_daemon_at(place, true, frozen, [&](Manager& manager) -> Task<> {
    const Say say = [](const std::string&) {};
    for (const char* const name : {"started", "spawned"}) co_await stopped(manager, name);
    for (const char* const name : {"asked", "stopped", "killed", "gone", "nearly-gone", "pausing", "resuming",
                                   "again", "nearly-again"})
      co_await running(manager, name);
    co_await running(manager, "kept", always);
    co_await act(manager, say, "resuming", "pause");
    last = last_operation(manager);
    Caller caller;
    co_await manager.create(fake_vm("new"), std::move(caller), false);
    for (const char* const name : {"started", "spawned"}) co_await begin(manager, name, "start");
    const std::string at_once = R"({"timeout_ms": 0})";
    for (const char* const name : {"asked", "stopped"}) co_await begin(manager, name, "stop", at_once);
    co_await begin(manager, "killed", "kill");
    for (const char* const name : {"gone", "nearly-gone"})
      co_await begin(manager, name, "delete", R"({"force": true})");
    for (const char* const name : {"pausing", "kept"}) co_await begin(manager, name, "pause");
    co_await begin(manager, "resuming", "resume");
    for (const char* const name : {"again", "nearly-again"})
      co_await begin(manager, name, "restart", R"({"timeout_ms": 0, "again": true})");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    const auto all_frozen = [&] {
      for (const auto& [name, step] : frozen) {
        const Operation latest =
            manager.journal().list(0, 1, ObjectRef{ObjectType::vm, manager.vms().find(name)->id}).front();
        const Run* const run = manager.run_of(latest);
        if (run == nullptr || latest.kind + "/" + std::string(run->step) != step) return false;
      }
      return true;
    };
    while (!all_frozen() && std::chrono::steady_clock::now() < deadline)
      co_await manager.wait_for_change(std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
    CHECK(all_frozen());
    CHECK(manager.journal().open().size() == frozen.size());
  });
  restart_host(place);
  run_daemon_at(place, false, {}, [&](Manager& manager) -> Task<> {
    co_await settle(manager);
    CHECK(words_of(manager, "new") == "stopped");
    for (const char* const name : {"started", "spawned"}) CHECK(words_of(manager, name) == "running");
    CHECK(words_of(manager, "asked") == lost);
    CHECK(words_of(manager, "stopped") == lost);
    CHECK(words_of(manager, "killed") == lost);
    for (const char* const name : {"gone", "nearly-gone"}) CHECK(words_of(manager, name) == "not there");
    for (const char* const name : {"pausing", "resuming"}) CHECK(words_of(manager, name) == lost);
    CHECK(words_of(manager, "kept") == came_back);
    CHECK(words_of(manager, "again") == came_back);
    CHECK(words_of(manager, "nearly-again") == "running, signal: signal 15");
    CHECK(operations(manager, "create", last) == std::vector<std::string>{"new done"});
    CHECK(operations(manager, "stop", last) == std::vector<std::string>{"asked done", "stopped done"});
    CHECK(operations(manager, "kill", last) == std::vector<std::string>{"killed done"});
    CHECK(operations(manager, "delete", last) == std::vector<std::string>{"gone done", "nearly-gone done"});
    CHECK(operations(manager, "pause", last) == std::vector<std::string>{"pausing failed", "kept failed"});
    CHECK(operations(manager, "resume", last) == std::vector<std::string>{"resuming failed"});
    CHECK(operations(manager, "restart", last) ==
          std::vector<std::string>{"again done", "nearly-again done"});
    CHECK(untidy(manager, place) == "");
  });
}

TEST_CASE("a VM whose folder was lost with the power starts and goes as if it were there") {
  const DaemonPlace place;
  run_daemon_at(place, true, {}, [&](Manager& manager) -> Task<> {
    co_await running(manager, "ran", always);
    co_await stopped(manager, "idle");
    co_await stopped(manager, "unused");
  });
  restart_host(place);
  std::filesystem::remove_all(place.folders().vms());
  run_daemon_at(place, false, {}, [&](Manager& manager) -> Task<> {
    const Say say = [](const std::string&) {};
    co_await settle(manager);
    CHECK(words_of(manager, "ran") == came_back);
    co_await act(manager, say, "idle", "start");
    CHECK(words_of(manager, "idle") == "running");
    for (const char* const name : {"ran", "idle", "unused"}) {
      co_await act(manager, say, name, "delete", R"({"force": true})");
      CHECK(words_of(manager, name) == "not there");
    }
    CHECK(untidy(manager, place) == "");
  });
}

}  // namespace hum
