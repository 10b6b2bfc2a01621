// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/reports.h"

#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "tools/hum/test/progress.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

TestResult result(const std::string& name, Ending status, Outcome outcome, double seconds) {
  TestResult made;
  made.test.name = name;
  made.test.image = name + ".elf";
  made.status = status;
  made.outcome = std::move(outcome);
  made.seconds = seconds;
  return made;
}

RunSummary sample() {
  RunSummary run;
  run.results.push_back(result("good", Ending::pass, {Ending::pass, "debug-exit", 0, {}}, 0.0125));
  run.results.push_back(result("b#2", Ending::fail, {Ending::fail, "debug-exit", 3, {}}, 0.5));
  run.results.back().last_lines = {"FAIL 3: \"a\" < b & c", "]]>"};
  run.results.back().test.groups = {"virtio"};
  run.results.push_back(
      result("crash", Ending::vmm_error, {Ending::vmm_error, {}, {}, "hum was ended by SIGSEGV"}, 1));
  run.results.push_back(result("later", Ending::skip, {Ending::skip, {}, {}, {}}, 0));
  run.results.back().test.skip = "no #1";
  run.planned = 4;
  run.seconds = 1.5;
  return run;
}

}  // namespace

TEST_CASE("the summary counts what there is to count") {
  RunSummary run = sample();
  CHECK(summary_line(run) == "4 tests: 1 passed, 2 failed (1 vmm-error), 1 skipped in 1.50 s");
  run.results.resize(1);
  run.planned = 1;
  CHECK(summary_line(run) == "1 test: 1 passed in 1.50 s");
  run.results.push_back(result("x", Ending::interrupted, {Ending::interrupted, {}, {}, {}}, 1));
  run.planned = 5;
  run.interrupted = true;
  run.slow_left_out = 2;
  CHECK(summary_line(run) ==
        "5 tests: 1 passed, 1 interrupted, 3 not run in 1.50 s; 2 slow left out (--all)");
}

TEST_CASE("TAP has a point for each test, with a block of what is known of it") {
  const RunSummary run = sample();
  CHECK(tap_head(4) == "TAP version 14\n1..4\n");
  CHECK(tap_point(run.results[0], 1) ==
        "ok 1 - good\n  ---\n  status: pass\n  duration_ms: 12.5\n  image: \"good.elf\"\n"
        "  cause: \"debug-exit\"\n  exit_code: 0\n  ...\n");
  CHECK(tap_point(run.results[1], 2) ==
        "not ok 2 - b\\#2\n  ---\n  status: fail\n  message: \"exit code 3, expected pass\"\n  duration_ms: "
        "500.0\n"
        "  image: \"b#2.elf\"\n  cause: \"debug-exit\"\n  exit_code: 3\n  output:\n"
        "    - \"FAIL 3: \\\"a\\\" < b & c\"\n    - \"]]>\"\n  ...\n");
  CHECK(tap_point(run.results[3], 4) == "ok 4 - later # SKIP no \\#1\n");
  CHECK(tap_end(run).empty());
  RunSummary cut = run;
  cut.results.resize(2);
  CHECK(tap_end(cut) == "Bail out! stopped at the first failure\n");
  cut.interrupted = true;
  CHECK(tap_end(cut) == "Bail out! interrupted\n");
}

TEST_CASE("the JUnit report tells failures from errors and escapes what XML would read as markup") {
  CHECK(junit_report(sample()) ==
        R"(<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="1" errors="1" skipped="1" time="1.500">
  <testsuite name="hum test" tests="4" failures="1" errors="1" skipped="1" time="1.500">
    <testcase classname="images" name="good" time="0.013"/>
    <testcase classname="virtio" name="b#2" time="0.500">
      <failure type="fail" message="exit code 3, expected pass"/>
      <system-out>FAIL 3: &quot;a&quot; &lt; b &amp; c
]]&gt;
</system-out>
    </testcase>
    <testcase classname="images" name="crash" time="1.000">
      <error type="vmm-error" message="hum was ended by SIGSEGV"/>
    </testcase>
    <testcase classname="images" name="later" time="0.000">
      <skipped message="no #1"/>
    </testcase>
  </testsuite>
</testsuites>
)");
}

TEST_CASE("the JSON report has every test with its status, ending and output") {
  const auto json = nlohmann::json::parse(json_report(sample()));
  CHECK(json["planned"] == 4);
  CHECK(json["failed"] == 2);
  CHECK(json["tests"].size() == 4);
  CHECK(json["tests"][0]["duration_ms"] == 12.5);
  CHECK(json["tests"][1]["status"] == "fail");
  CHECK(json["tests"][1]["expected"] == "pass");
  CHECK(json["tests"][1]["exit_code"] == 3);
  CHECK(json["tests"][1]["output"][1] == "]]>");
  CHECK(json["tests"][2]["ended"] == "vmm-error");
  CHECK(json["tests"][3]["reason"] == "no #1");
  CHECK_FALSE(json["tests"][3].contains("ended"));
}

TEST_CASE("a person sees a line for a pass, and for a failure why and its last lines") {
  const RunSummary run = sample();
  CHECK(result_text(run.results[0]) == "pass          good  12 ms\n");
  CHECK(result_text(run.results[1]) ==
        "fail          b#2  500 ms: exit code 3, expected pass\n    | FAIL 3: \"a\" < b & c\n    | ]]>\n");
  CHECK(result_text(run.results[3]) == "skip          later: no #1\n");
}

TEST_CASE("a terminal shows one line that fits it, and failures above") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const Fd reader(ends[0]);
  const RunSummary run = sample();
  {
    const Fd writer(ends[1]);
    Progress progress(writer.get(), 2, 24, false);
    progress.started(run.results[0].test);
    progress.finished(run.results[0]);
    progress.started(run.results[2].test);
    progress.finished(run.results[2]);
  }
  std::array<char, 1024> text{};
  REQUIRE(::read(reader.get(), text.data(), text.size() - 1) > 0);
  CHECK(std::string(text.data()) ==
        "\r\x1b[K[0/2] running: good"
        "\r\x1b[K[1/2] running:"
        "\r\x1b[K[1/2] running: crash"
        "\r\x1b[K"
        "vmm-error     crash  1000 ms: hum was ended by SIGSEGV\n"
        "\r\x1b[K[2/2] 1 failed, running"
        "\r\x1b[K");
}

}  // namespace hum
