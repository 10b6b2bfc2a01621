// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/capacity.h"

#include <boost/asio/io_context.hpp>
#include <nlohmann/json.hpp>

#include "tools/humd/api_error.h"
#include "tools/humd/daemon_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;

constexpr VmUse one{.vms = 1, .cpus = 2, .memory_mib = 512};

// The code of the refusal; empty: it was none.
Task<std::string> refusal_of(Task<Operation> begun) {
  std::string code;
  try {
    co_await std::move(begun);
  } catch (const ApiError& error) {
    code = error.code();
  }
  co_return code;
}

Task<Operation> create(Manager& manager, std::string name, std::string more, bool start = false) {
  VmSpec spec = fake_vm(name, {}, more);
  Caller caller;
  Operation made = co_await manager.create(std::move(spec), std::move(caller), start);
  co_return co_await manager.wait_for(made.id, TimePoint::max());
}

Task<Operation> start(Manager& manager, std::string name) {
  const VmRow row = *manager.vms().find(name);
  Caller caller;
  Operation begun = co_await manager.begin("start", row, std::move(caller), "{}");
  co_return co_await manager.wait_for(begun.id, TimePoint::max());
}

void with_manager(const DaemonPlace& place, const HostShare& share,
                  const std::function<Task<>(Manager& manager)>& work) {
  boost::asio::io_context context{1};
  ManagerSettings settings = place.settings();
  settings.share = share;
  Manager manager(context, settings);
  const auto life = [&]() -> Task<> {
    co_await manager.recover();
    co_await work(manager);
  };
  run_coroutine(context, life());
}

}  // namespace

TEST_CASE("as many more VMs fit as the scarcest of what they need allows") {
  const VmUse all{.vms = 0, .cpus = 32, .memory_mib = 4096};
  CHECK(room_on_host(all, {}, one).fit == 8);
  CHECK(room_on_host(all, {}, one).limited_by == "memory");
  CHECK(room_on_host(all, {.vms = 3, .cpus = 29, .memory_mib = 0}, one).fit == 1);
  CHECK(room_on_host(all, {.vms = 3, .cpus = 29, .memory_mib = 0}, one).limited_by == "cpus");
  CHECK(room_on_host(all, {.vms = 1, .cpus = 1, .memory_mib = 3585}, one).fit == 0);
  CHECK(room_on_host(all, {.vms = 1, .cpus = 1, .memory_mib = 3584}, one).fit == 1);
  CHECK(room_on_host(all, {.vms = 1, .cpus = 99, .memory_mib = 9999}, one).fit == 0);

  CHECK(room_in_quota({}, {.vms = 1000, .cpus = 1000, .memory_mib = 1000}, one).fit == UINT64_MAX);
  CHECK(room_in_quota({.vms = 3}, {.vms = 1}, one).fit == 2);
  CHECK(room_in_quota({.vms = 3}, {.vms = 3}, one).fit == 0);
  CHECK(room_in_quota({.vms = 0}, {}, one).limited_by == "project.vms");
  CHECK(room_in_quota({.vms = 9, .cpus = 5, .memory_mib = 9999}, {.vms = 1, .cpus = 1}, one).fit == 2);
  CHECK(room_in_quota({.vms = 9, .cpus = 99, .memory_mib = 1023}, {}, one).limited_by == "project.memory");
}

TEST_CASE("a VM for which there is no room is not started, and says what is missing") {
  const DaemonPlace place;
  // Of processors: two VMs with half of what there is fill it.
  const HostShare share{.memory_percent = 10'000, .cpus_per_processor = 2};
  const auto half = static_cast<unsigned>(host_capacity(share).cpus / 2);
  with_manager(place, share, [half](Manager& manager) -> Task<> {
    const std::string cpus = json{{"cpus", half}}.dump();
    for (const char* const name : {"a", "b", "c"}) co_await create(manager, name, cpus);
    for (const char* const name : {"a", "b"}) co_await start(manager, name);
    const std::string told1 = co_await refusal_of(start(manager, "c"));
    CHECK(told1 == "no-room");
    CHECK(manager.vms().find("c")->state == VmState::stopped);
    CHECK(manager.vms().use_of_active(0).cpus == 2 * half);
    // A place that is given up is another's.
    Caller caller;
    const VmRow row = *manager.vms().find("a");
    const Operation end = co_await manager.begin("kill", row, std::move(caller), "{}");
    co_await manager.wait_for(end.id, TimePoint::max());
    const Operation begun = co_await start(manager, "c");
    CHECK(begun.state == Operation::State::done);
  });
}

TEST_CASE("a start that comes by itself where there is no room fails, and the VM stays what it is") {
  const DaemonPlace place;
  with_manager(place, {.memory_percent = 1, .cpus_per_processor = 100}, [](Manager& manager) -> Task<> {
    const std::string large = json{{"memory_mib", 1U << 20U}}.dump();
    co_await create(manager, "large", large, true);
    const auto latest = [&] { return manager.journal().list(0, 1, {}).front(); };
    while (latest().kind != "start" || latest().state == Operation::State::running)
      co_await manager.wait_for_change(TimePoint::max());
    REQUIRE(latest().failure);
    CHECK(latest().failure->code == "no-room");
    CHECK_THAT(latest().failure->text, Catch::Contains("1048576 MiB of memory"));
    CHECK(manager.vms().find("large")->state == VmState::stopped);
    CHECK(manager.live().size() == 0);
  });
}

TEST_CASE("a project's VMs, running or not, are never more than its quota") {
  const DaemonPlace place;
  with_manager(place, {}, [](Manager& manager) -> Task<> {
    manager.projects().set({.name = "lab", .quota = {.vms = 2, .cpus = {}, .memory_mib = 600}});
    manager.store().commit();
    const std::string in_lab = R"({"project": "lab", "memory_mib": 300})";
    co_await create(manager, "a", in_lab);
    co_await create(manager, "b", in_lab);
    const std::string told2 = co_await refusal_of(create(manager, "c", in_lab));
    CHECK(told2 == "quota-exceeded");
    CHECK(!manager.vms().find("c"));
    co_await create(manager, "d", R"({"memory_mib": 4000})");  // of another project

    const auto change = [&](const char* name, const json& changes) -> Task<std::string> {
      const VmRow row = *manager.vms().find(name);
      std::string code;
      try {
        co_await manager.update(row, row.spec().with(changes));
      } catch (const ApiError& error) {
        code = error.code();
      }
      co_return code;
    };
    const json larger = {{"memory_mib", 301U}};
    const json smaller = {{"memory_mib", 299U}};
    const json moved = {{"project", "lab"}};
    const std::string told3 = co_await change("a", larger);
    CHECK(told3 == "quota-exceeded");
    CHECK(manager.vms().find("a")->spec().memory_mib() == 300);
    const std::string told4 = co_await change("b", smaller);
    CHECK(told4 == "");
    const std::string told5 = co_await change("a", larger);
    CHECK(told5 == "");
    const std::string told6 = co_await change("d", moved);
    CHECK(told6 == "quota-exceeded");
    CHECK(manager.vms().use_of_project("lab", 0).memory_mib == 600);
  });
  // It is the next daemon's, too.
  with_manager(place, {}, [](Manager& manager) -> Task<> {
    CHECK(manager.projects().find("lab")->quota.vms == 2);
    CHECK(!manager.projects().find("lab")->quota.cpus);
    const std::string told7 = co_await refusal_of(create(manager, "e", R"({"project": "lab"})"));
    CHECK(told7 == "quota-exceeded");
    CHECK(manager.projects().remove("lab"));
    CHECK(!manager.projects().remove("lab"));
    const std::string told8 = co_await refusal_of(create(manager, "e", R"({"project": "lab"})"));
    CHECK(told8 == "");
  });
}

}  // namespace hum
