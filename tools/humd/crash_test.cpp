// SPDX-License-Identifier: Apache-2.0
//
// The daemon is killed at every moment that the journal knows of, in the middle of whole lives of VMs, and
// again while it recovers. Whatever was under way is finished or undone then, and nothing is left over.
#include "tools/humd/crash_lives_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;

constexpr const char* at_once = R"({"timeout_ms": 0})";
constexpr const char* soon = R"({"timeout_ms": 30})";
constexpr const char* again = R"({"timeout_ms": 500, "again": true})";
constexpr const char* force = R"({"force": true})";

Task<> whole_life(Manager& manager, const Say& say) {
  co_await create(manager, say, fake_vm("web", {}, R"({"limits": {"cpu_percent": 50, "pids": 64}})"));
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

}  // namespace

TEST_CASE("a daemon that is killed at any moment of a VM's life loses nothing and leaves nothing behind") {
  CHECK(kill_everywhere({"a whole life", whole_life}) >= 170 / crash_stride);
}

TEST_CASE("a daemon that is killed while a VM fails to start leaves nothing of it behind") {
  CHECK(kill_everywhere({"a start that fails", failing_start}) >= 80 / crash_stride);
}

TEST_CASE("a daemon that is killed while a VM ends by itself knows of the end, and starts the VM again") {
  CHECK(kill_everywhere({"an end that comes by itself", ends_by_itself}) >= 80 / crash_stride);
}

TEST_CASE("a daemon that is killed while a VM does not want to end ends it") {
  CHECK(kill_everywhere({"a VM that does not want to end", stubborn}) >= 80 / crash_stride);
}

TEST_CASE("a daemon that is killed while two VMs come and go mixes nothing up") {
  CHECK(kill_everywhere({"two VMs at once", two_at_once}) >= 100 / crash_stride);
}

}  // namespace hum
