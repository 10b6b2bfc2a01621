// SPDX-License-Identifier: Apache-2.0
//
// VMM processes that hang, answer what makes no sense, or die, in each operation.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/humd/served_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr const char* misbehaviours[] = {"hang-api", "garbage", "long-header", "wrong-json",    "no-object",
                                         "large",    "endless", "cut",         "die-at-request"};
#ifdef HUM_SANITIZED
constexpr int slowness = 5;
#else
constexpr int slowness = 1;
#endif
// What an operation may take beyond its own patience, on a host that has other things to do.
constexpr std::chrono::seconds spare{5};

ManagerSettings settings_of(const DaemonPlace& place) {
  ManagerSettings settings = place.settings();
  settings.start_patience = milliseconds(500) * slowness;
  settings.call_patience = milliseconds(200) * slowness;
  settings.term_patience = milliseconds(100) * slowness;
  return settings;
}

void create_vm(Served& daemon, const std::string& name, const std::string& words,
               const std::string& more = "{}") {
  REQUIRE(daemon.outcome("POST", "/v1/vms", fake_vm(name, words, more).text()) == "done");
}

// That it is gone with all that belonged to it.
void remove_vm(Served& daemon, const DaemonPlace& place) {
  CHECK(daemon.outcome("DELETE", "/v1/vms/bad?force=true") == "done");
  CHECK(place.untidy({}, {}) == "");
}

// What the last operation's error says.
std::string message_of_last(Served& daemon) {
  const json told = json::parse(daemon.ask("GET", "/v1/operations?limit=1").body);
  const json& error = told["operations"][0]["error"];
  return error.is_object() ? error["message"].get<std::string>() : "";
}

std::string last_end(Served& daemon) {
  return json::parse(daemon.ask("GET", "/v1/vms/bad").body)["end"].value("cause", "");
}

bool has_ended(Served& daemon) {
  return daemon.until([&] { return daemon.state_of("bad") == "stopped"; });
}

// Answers what the request's outcome is, which is there in time.
std::string outcome_in(Served& daemon, milliseconds patience, const std::string& method,
                       const std::string& target) {
  const auto begin = steady_clock::now();
  std::string outcome = daemon.outcome(method, target);
  CHECK(steady_clock::now() - begin < patience + spare * slowness);
  return outcome;
}

}  // namespace

TEST_CASE("a start fails in time and leaves nothing where the VM's process hangs, talks nonsense or dies") {
  for (const std::string word : {"hang-api", "garbage", "long-header", "wrong-json", "no-object", "large",
                                 "endless", "cut", "die-at-start", "no-socket"}) {
    INFO(word);
    const DaemonPlace place;
    const ManagerSettings settings = settings_of(place);
    Served daemon(settings);
    create_vm(daemon, "bad", "fake=" + word + " fake=ignore-stop");
    const bool dies = word == "die-at-start";
    CHECK(outcome_in(daemon, settings.start_patience + settings.call_patience, "POST", "/v1/vms/bad/start") ==
          (dies ? "failed vmm-ended" : "failed vmm-silent"));
    CHECK(message_of_last(daemon).find(dies ? "the VM's process ended: " : "vmm.log") != std::string::npos);
    CHECK(daemon.state_of("bad") == "stopped");
    CHECK(last_end(daemon) == "not-started");
    CHECK(place.untidy({1}, {}) == "");
    remove_vm(daemon, place);
  }
}

TEST_CASE("a VM that has run when its process dies without a word was started, and is lost then") {
  const DaemonPlace place;
  Served daemon(settings_of(place));
  create_vm(daemon, "bad", "fake=die-at-request");
  CHECK(daemon.outcome("POST", "/v1/vms/bad/start") == "done");
  CHECK(has_ended(daemon));
  CHECK(last_end(daemon) == "lost");
  CHECK(place.untidy({1}, {}) == "");
  remove_vm(daemon, place);
}

TEST_CASE("a VM whose process hangs, talks nonsense or dies at a pause stays as it was or has ended") {
  for (const std::string word : misbehaviours) {
    INFO(word);
    const DaemonPlace place;
    const ManagerSettings settings = settings_of(place);
    Served daemon(settings);
    create_vm(daemon, "bad", "fake=" + word + " fake=ignore-stop fake=only:Paused");
    REQUIRE(daemon.outcome("POST", "/v1/vms/bad/start") == "done");
    CHECK(outcome_in(daemon, settings.call_patience * 2, "POST", "/v1/vms/bad/pause") ==
          "failed vmm-refused");
    if (word == "die-at-request") {
      CHECK(has_ended(daemon));
      CHECK(last_end(daemon) == "lost");
    } else {
      CHECK(message_of_last(daemon).find("try again, or kill the VM") != std::string::npos);
      CHECK(daemon.state_of("bad") == "running");
      CHECK(place.untidy({1}, {1}) == "");
      CHECK(daemon.outcome("POST", "/v1/vms/bad/stop") == "done");
    }
    CHECK(place.untidy({1}, {}) == "");
    remove_vm(daemon, place);
  }
}

TEST_CASE("a VM whose process hangs, talks nonsense or dies at a resume stays paused or has ended") {
  for (const std::string word : misbehaviours) {
    INFO(word);
    const DaemonPlace place;
    const ManagerSettings settings = settings_of(place);
    Served daemon(settings);
    create_vm(daemon, "bad", "fake=" + word + " fake=only:Resumed");
    REQUIRE(daemon.outcome("POST", "/v1/vms/bad/start") == "done");
    REQUIRE(daemon.outcome("POST", "/v1/vms/bad/pause") == "done");
    CHECK(outcome_in(daemon, settings.call_patience * 2, "POST", "/v1/vms/bad/resume") ==
          "failed vmm-refused");
    if (word == "die-at-request") {
      CHECK(has_ended(daemon));
    } else {
      CHECK(daemon.state_of("bad") == "paused");
      CHECK(daemon.outcome("POST", "/v1/vms/bad/kill") == "done");
    }
    CHECK(place.untidy({1}, {}) == "");
    remove_vm(daemon, place);
  }
}

TEST_CASE("a VM is stopped and restarted in time whatever its process answers") {
  for (const std::string word : misbehaviours)
    for (const std::string kind : {"stop", "restart"}) {
      INFO(word << ", " << kind);
      const DaemonPlace place;
      const ManagerSettings settings = settings_of(place);
      Served daemon(settings);
      create_vm(daemon, "bad", "fake=" + word + " fake=ignore-stop fake=only:PUT fake=only:PATCH");
      REQUIRE(daemon.outcome("POST", "/v1/vms/bad/start") == "done");
      const bool again = kind == "restart";
      // Three requests are made before its process is ended.
      CHECK(outcome_in(daemon, settings.call_patience * 3 + settings.term_patience + settings.start_patience,
                       "POST", "/v1/vms/bad/" + kind) == "done");
      CHECK(daemon.state_of("bad") == (again ? "running" : "stopped"));
      CHECK(last_end(daemon) == "killed");
      CHECK(place.untidy({1}, again ? std::set<std::int64_t>{1} : std::set<std::int64_t>{}) == "");
      remove_vm(daemon, place);
    }
}

TEST_CASE("a VM is killed and deleted by force while another operation waits for its process") {
  for (const bool deletes : {false, true}) {
    const DaemonPlace place;
    ManagerSettings settings = settings_of(place);
    settings.start_patience = std::chrono::seconds(60);
    Served daemon(settings);
    create_vm(daemon, "bad", "fake=hang-api fake=ignore-stop");
    REQUIRE(daemon.ask("POST", "/v1/vms/bad/start").status == 202);
    REQUIRE(daemon.until([&] { return place.processes().size() == 1; }));
    if (deletes)
      CHECK(outcome_in(daemon, settings.call_patience, "DELETE", "/v1/vms/bad?force=true") == "done");
    else  // which has nothing more to do when the start has been undone
      CHECK(outcome_in(daemon, settings.call_patience, "POST", "/v1/vms/bad/kill") == "409 vm-stopped");
    CHECK(place.processes().empty());
    if (!deletes) remove_vm(daemon, place);
    CHECK(place.untidy({}, {}) == "");
  }
}

TEST_CASE("statistics of a process that hangs, talks nonsense or dies are an error, and the VM runs on") {
  for (const std::string word : misbehaviours) {
    INFO(word);
    const DaemonPlace place;
    Served daemon(settings_of(place));
    create_vm(daemon, "bad", "fake=" + word + " fake=only:statistics");
    REQUIRE(daemon.outcome("POST", "/v1/vms/bad/start") == "done");
    const ApiAnswer answer = daemon.ask("GET", "/v1/vms/bad/statistics");
    if (word == "no-object") {  // is JSON: what it says is the process's own
      CHECK(answer.status == 200);
    } else {
      CHECK(answer.status == 502);
      CHECK(error_code(answer) == "vmm-refused");
      CHECK(answer.body.find("try again, or kill the VM") != std::string::npos);
    }
    if (word == "die-at-request") {
      CHECK(has_ended(daemon));
    } else {
      CHECK(daemon.state_of("bad") == "running");
      CHECK(daemon.ask("GET", "/v1/vms/bad/console").status == 200);
    }
    remove_vm(daemon, place);
  }
}

TEST_CASE("a VM whose process has died is no running one for its statistics and its console") {
  const DaemonPlace place;
  Served daemon(settings_of(place));
  create_vm(daemon, "bad", "fake=die-after-ms:50");
  REQUIRE(daemon.outcome("POST", "/v1/vms/bad/start") == "done");
  CHECK(has_ended(daemon));
  for (const char* const what : {"statistics", "console"}) {
    const ApiAnswer answer = daemon.ask("GET", std::string("/v1/vms/bad/") + what);
    CHECK(answer.status == 409);
    CHECK(error_code(answer) == "vm-stopped");
  }
  remove_vm(daemon, place);
}

TEST_CASE("VMs whose processes hang or send without end hold up no other VM") {
  for (const std::string word : {"hang-api", "endless"}) {
    INFO(word);
    const DaemonPlace place;
    ManagerSettings settings = settings_of(place);
    settings.start_patience = std::chrono::seconds(60);
    settings.call_patience = std::chrono::seconds(60);
    Served daemon(settings);
    create_vm(daemon, "bad", "fake=" + word);
    create_vm(daemon, "good", "");
    REQUIRE(daemon.ask("POST", "/v1/vms/bad/start").status == 202);
    REQUIRE(daemon.until([&] { return place.processes().size() == 1; }));
    for (const char* const kind : {"start", "pause", "resume", "restart"})
      CHECK(daemon.outcome("POST", std::string("/v1/vms/good/") + kind) == "done");
    CHECK(daemon.ask("GET", "/v1/vms/good/statistics").status == 200);
    CHECK(daemon.outcome("POST", "/v1/vms/good/stop") == "done");
    CHECK(daemon.outcome("DELETE", "/v1/vms/good") == "done");
    CHECK(daemon.state_of("bad") == "starting");
  }
}

}  // namespace hum
