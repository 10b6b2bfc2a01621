// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/api_gate.h"

#include <atomic>
#include <thread>

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("requests are answered by the loop's thread, one after the other") {
  IoThread owner("owner");
  std::thread::id thread;
  owner.call([&] { thread = std::this_thread::get_id(); });
  ApiGate gate(owner.loop(), [&](const ApiRequest& request) -> ApiAnswer {
    return {std::this_thread::get_id() == thread ? 200u : 500u, request.path};
  });
  for (int i = 0; i < 100; ++i) {
    const auto answer = gate.call({"GET", std::to_string(i), {}});
    REQUIRE(answer);
    CHECK(answer->status == 200);
    CHECK(answer->body == std::to_string(i));
  }
}

TEST_CASE("a gate that was closed lets go who waits, and takes nothing more") {
  EventLoop never_run;
  std::atomic<unsigned> calls = 0;
  ApiGate gate(never_run, [&](const ApiRequest&) -> ApiAnswer {
    ++calls;
    return {};
  });
  std::atomic<bool> let_go = false;
  std::thread waiter([&] { let_go = !gate.call({"GET", "/", {}}); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // it waits by now, most of the time
  CHECK_FALSE(let_go);
  gate.close();
  waiter.join();
  CHECK(let_go);
  CHECK_FALSE(gate.call({"GET", "/", {}}));
  CHECK(calls == 0);
}

}  // namespace hum
