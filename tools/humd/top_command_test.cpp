// SPDX-License-Identifier: Apache-2.0
//
// `hum vm top` as the program that it is, and what the daemon says of a VM's process.
#include <nlohmann/json.hpp>

#include "tools/humd/api_text.h"
#include "tools/humd/command_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using namespace testing;

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

}  // namespace

TEST_CASE(
    "hum vm top prints one sample without a terminal: rates of VMs that run, and a row for all others") {
  const CommandDaemon daemon;
  daemon.create("web");
  daemon.create("job", {"--memory", "1G"});
  daemon.said({"vm", "start", "web"});
  const std::string text = daemon.said({"vm", "top", "--interval", "0.2"});
  CHECK(count_of(text, "\n") == 3);
  CHECK(text.starts_with("NAME  STATE    CPU%  MEMORY  LIMIT  READ/S  WRITE/S"));
  CHECK(has(text, "\njob   stopped  -     -       1.0G   -"));
  CHECK(has(text, "\nweb   running  "));
  CHECK_FALSE(has(text, "\033"));
  const json rows = json::parse(daemon.said({"vm", "top", "--json", "--interval", "0.2", "web"}));
  REQUIRE(rows.size() == 1);
  CHECK(rows[0]["name"] == "web");
  CHECK(rows[0]["resident_bytes"] > 0.0);
  CHECK(rows[0]["cpu_percent"] >= 0.0);
  CHECK(rows[0]["limit_bytes"] == 256U << 20U);
  CHECK(rows[0]["exits_s"] > 100.0);  // a thousand, by a VMM that has the processor
  CHECK(rows[0]["read_bytes_s"] > 100'000.0);
  CHECK(rows[0]["written_bytes_s"] == 0.0);
}

TEST_CASE("hum vm top refuses names that are none and intervals that are too short") {
  const CommandDaemon daemon;
  daemon.create("web");
  CHECK(daemon.refused({"vm", "top", "--once", "web", "none"}) == "hum: there is no VM 'none'\n");
  CHECK(has(daemon.refused({"vm", "top", "--interval", "0"}), "--interval: Value 0 not in range 0.1"));
  CHECK(has(daemon.refused({"vm", "top", "--interval", "soon"}), "hum: --interval"));
}

TEST_CASE(
    "hum vm top on a terminal draws again and again, until q or Ctrl-C, and leaves the terminal as it was") {
  const CommandDaemon daemon;
  daemon.create("web");
  daemon.said({"vm", "start", "web"});
  for (const std::string typed : {"xyq", "\003"}) {
    std::string line = "before=$(stty -g); ";
    for (const std::string& word : daemon.command({"vm", "top", "--interval", "0.1"})) line += word + " ";
    line += "; echo code=$?; [ \"$before\" = \"$(stty -g)\" ] && echo as before";
    // Drawn for the second time: over one line of a head and one of a VM.
    const TerminalResult seen = on_terminal({"bash", "-c", line}, "\033[2A", typed);
    CHECK(count_of(seen.output, "NAME  STATE") >= 2);
    CHECK(has(seen.output, "code=0\r\nas before"));
  }
}

TEST_CASE("a daemon that goes away ends hum vm top with an error, and the terminal is as it was") {
  CommandDaemon daemon;
  daemon.create("web");
  std::string line = "before=$(stty -g); (sleep 0.7; kill " + std::to_string(daemon.pid()) + ") & ";
  for (const std::string& word : daemon.command({"vm", "top", "--interval", "0.1"})) line += word + " ";
  line += "; echo code=$?; [ \"$before\" = \"$(stty -g)\" ] && echo as before";
  const TerminalResult seen = on_terminal({"bash", "-c", line}, "", "");
  CHECK(has(seen.output, "cannot reach the daemon"));
  CHECK(has(seen.output, "code=2\r\nas before"));
}

TEST_CASE("what the host says of a process is put into its statistics, whatever they are") {
  const ProcessUse use{.cpu_seconds = 1.5, .resident_bytes = 4096};
  const json process = {{"cpu_seconds", 1.5}, {"resident_bytes", 4096}};
  CHECK(json::parse(with_process_use("{\"exits\":{}}", use)) ==
        json{{"exits", json::object()}, {"process", process}});
  CHECK(json::parse(with_process_use(" {\"a\" : 1} ", use)) == json{{"a", 1}, {"process", process}});
  CHECK(json::parse(with_process_use("{ }", use)) == json{{"process", process}});
  CHECK(with_process_use("[1]", use) == "[1]");
  CHECK(with_process_use("", use) == "");
}

}  // namespace hum
