// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

#include "tools/humd/vmm_process.h"
#include "tools/humd/vmm_process_testing.h"
#include "vmm/base/testing.h"

// The stand-in behaves as hum-vmm does, and misbehaves as it is told: what tests with it rest on.
namespace hum {
namespace {

using namespace hum::testing;
using std::chrono::milliseconds;

const milliseconds patience = process_patience;

bool serves(const RunFolder& run) {
  return until([&] { return run.ask(request("GET", "/hum/v1/vm"), patience).has_value(); });
}

std::string answer(const RunFolder& run, const std::string& text) {
  return run.ask(text, patience).value_or("");
}

std::string state(const RunFolder& run) {
  const std::string text = answer(run, request("GET", "/hum/v1/vm"));
  const std::size_t at = text.find("\"state\":\"");
  return at == std::string::npos ? "" : text.substr(at + 9, text.find('"', at + 9) - at - 9);
}

bool has_status(const std::string& text, int status) {
  return text.starts_with("HTTP/1.1 " + std::to_string(status) + " ");
}

const std::string ctrl_alt_del = request("PUT", "/actions", R"({"action_type": "SendCtrlAltDel"})");

}  // namespace

TEST_CASE("a fake VMM answers what a manager asks") {
  const RunFolder run;
  const VmmProcess process = run.start(run.fake());
  REQUIRE(serves(run));
  CHECK(state(run) == "running");
  CHECK(has_status(answer(run, request("PATCH", "/vm", R"({"state": "Paused"})")), 204));
  CHECK(state(run) == "paused");
  CHECK(has_status(answer(run, request("PATCH", "/vm", R"({"state": "Resumed"})")), 204));
  CHECK(state(run) == "running");
  CHECK(has_status(answer(run, request("PATCH", "/vm", R"({"state": "Gone"})")), 400));
  CHECK(has_status(answer(run, request("GET", "/hum/v1/statistics")), 200));
  CHECK(has_status(answer(run, request("GET", "/none")), 404));
  CHECK(end_in_record(run.record())->cause == "running");

  CHECK(has_status(answer(run, ctrl_alt_del), 204));
  CHECK(exit_code(process) == 0);
  CHECK(end_in_record(run.record())->cause == "reboot");
}

TEST_CASE("a fake VMM ends by a signal as hum-vmm does, with a record") {
  const RunFolder run;
  const VmmProcess process = run.start(run.fake());
  REQUIRE(serves(run));
  process.signal(SIGTERM);
  CHECK(exit_code(process) == 128 + SIGTERM);
  const auto end = end_in_record(run.record());
  REQUIRE(end);
  CHECK(end->cause == "signal");
  CHECK(end->ran);
}

TEST_CASE("a fake VMM that is killed leaves a record that says it runs") {
  const RunFolder run;
  const VmmProcess process = run.start(run.fake("fake=die-after-ms:50"));
  CHECK(exit_code(process) == 128 + SIGKILL);
  const auto end = end_in_record(run.record());
  REQUIRE(end);
  CHECK(end->without_a_word());
  CHECK(end->ran);
}

TEST_CASE("a fake VMM dies at its start where it is to") {
  const RunFolder run;
  CHECK(exit_code(run.start(run.fake("fake=die-at-start"))) == 1);
  const auto end = end_in_record(run.record());
  REQUIRE(end);
  CHECK(end->without_a_word());
  CHECK_FALSE(end->ran);
  CHECK(file_content(run.log()).find("die-at-start") != std::string::npos);
}

TEST_CASE("a fake VMM's guest ends by itself with a code") {
  const RunFolder run;
  CHECK(exit_code(run.start(run.fake("fake=exit-code:42"))) == 42);
  const auto end = end_in_record(run.record());
  REQUIRE(end);
  CHECK(end->cause == "debug-exit");
  CHECK(end->guest_exit_code == 42);
}

TEST_CASE("a fake VMM takes a request and never answers") {
  const RunFolder run;
  const VmmProcess process = run.start(run.fake("fake=hang-api"));
  REQUIRE(until([&] { return ::access(run.socket().c_str(), F_OK) == 0; }));
  CHECK_FALSE(run.ask(request("GET", "/hum/v1/vm"), milliseconds(100)));
  CHECK_FALSE(process.ended());
  process.signal(SIGTERM);
  CHECK(exit_code(process) == 128 + SIGTERM);
}

TEST_CASE("a fake VMM answers what is no HTTP") {
  const RunFolder run;
  const VmmProcess process = run.start(run.fake("fake=garbage"));
  REQUIRE(serves(run));
  CHECK_FALSE(answer(run, request("GET", "/hum/v1/vm")).starts_with("HTTP"));
}

TEST_CASE("a fake VMM hears neither Ctrl-Alt-Del nor SIGTERM, but is killed") {
  const RunFolder run;
  const VmmProcess process = run.start(run.fake("fake=ignore-stop"));
  REQUIRE(serves(run));
  CHECK(has_status(answer(run, ctrl_alt_del), 204));
  process.signal(SIGTERM);
  ::usleep(100'000);
  CHECK(state(run) == "running");
  process.signal(SIGKILL);
  CHECK(exit_code(process) == 128 + SIGKILL);
}

TEST_CASE("a fake VMM serves late, or never") {
  const RunFolder run;
  const auto begin = std::chrono::steady_clock::now();
  SECTION("late") {
    const VmmProcess process = run.start(run.fake("fake=slow-start-ms:200"));
    REQUIRE(serves(run));
    CHECK(std::chrono::steady_clock::now() - begin >= milliseconds(200));
  }
  SECTION("never") {
    const VmmProcess process = run.start(run.fake("fake=no-socket"));
    REQUIRE(until([&] { return identity_in_record(run.record()).has_value(); }));
    ::usleep(100'000);
    CHECK(::access(run.socket().c_str(), F_OK) != 0);
    CHECK_FALSE(process.ended());
    process.signal(SIGTERM);
    CHECK(exit_code(process) == 128 + SIGTERM);
  }
}

}  // namespace hum
