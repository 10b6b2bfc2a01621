// SPDX-License-Identifier: Apache-2.0
//
// Many VMs: that all are there, each once, and what they cost in memory. How long they take: tools/bench
// daemon.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/humd/served_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;
using std::chrono::steady_clock;

#ifdef HUM_SANITIZED
constexpr unsigned part = 5;
#else
constexpr unsigned part = 1;
#endif

unsigned scaled(unsigned usual, unsigned whole) {
  return std::getenv("HUM_LONG") != nullptr ? whole : usual / part;
}

std::string name_of(unsigned number) {
  return "vm" + std::to_string(number);
}

// By several clients.
void create_all(Served& daemon, unsigned count, const std::string& query) {
  constexpr unsigned clients = 8;
  for (unsigned done = 0; done < count; done += clients) {
    std::vector<Served::Answer> answers;
    for (unsigned number = done; number < std::min(done + clients, count); ++number)
      answers.push_back(
          daemon.send(api_request("POST", "/v1/vms?wait_s=20" + query, fake_vm(name_of(number)).text())));
    for (const Served::Answer& answer : answers)
      REQUIRE(json::parse(daemon.wait(answer).body)["state"] == "done");
  }
}

// Names, in the order of the list, page by page.
std::vector<std::string> listed(Served& daemon, unsigned page) {
  std::vector<std::string> names;
  std::string after;
  do {
    const json answer =
        json::parse(daemon.ask("GET", "/v1/vms?limit=" + std::to_string(page) + "&after=" + after).body);
    REQUIRE(answer["vms"].size() <= page);
    for (const json& vm : answer["vms"]) names.push_back(vm["name"]);
    after = answer["next"].is_null() ? "" : answer["next"];
  } while (!after.empty());
  return names;
}

ManagerSettings roomy(const DaemonPlace& place) {
  ManagerSettings settings = place.settings();
  settings.share = {.memory_percent = 1'000'000, .cpus_per_processor = 1'000'000};
  return settings;
}

std::size_t heap_in_use() {
  return ::mallinfo2().uordblks;
}

}  // namespace

TEST_CASE("of many VMs each is in the list once, and the daemon has at most a KiB for each") {
  const unsigned count = scaled(2'000, 20'000);
  const DaemonPlace place;
  std::set<std::string> names;
  for (unsigned number = 0; number < count; ++number) names.insert(name_of(number));
  {
    Served daemon(roomy(place));
    create_all(daemon, count, "");
  }
  const std::size_t before = heap_in_use();
  Served daemon(roomy(place));
  const std::vector<std::string> all = listed(daemon, 1000);
  CHECK(std::is_sorted(all.begin(), all.end()));
  CHECK(all.size() == count);
  CHECK(std::set<std::string>(all.begin(), all.end()) == names);
  CHECK(daemon.state_of(name_of(count / 2)) == "stopped");
  const std::size_t used = heap_in_use() - std::min(before, heap_in_use());
#ifndef HUM_SANITIZED
  CHECK(used / count <= 1024);
#endif
  std::printf("count: %u VMs in the store, %zu bytes of heap for each\n", count, used / count);
}

TEST_CASE("many VMs that live are all found by the next daemon, each with its own process") {
  const unsigned count = scaled(100, 500);
  const DaemonPlace place;
  std::map<std::string, std::int64_t> before;
  {
    Served daemon(roomy(place));
    create_all(daemon, count, "&start=true");
    for (const VmRow& vm : daemon.manager().vms().list({}))
      if (vm.process) before[vm.name] = vm.process->pid;
  }
  CHECK(before.size() == count);
  CHECK(place.processes().size() == count);
  const auto begun = steady_clock::now();
  Served daemon(roomy(place));
  const std::chrono::duration<double, std::milli> time = steady_clock::now() - begun;
  std::set<std::int64_t> ids;
  std::map<std::string, std::int64_t> after;
  for (const VmRow& vm : daemon.manager().vms().list({})) {
    ids.insert(vm.id);
    if (vm.state == VmState::running && vm.process) after[vm.name] = vm.process->pid;
  }
  CHECK(after == before);
  CHECK(daemon.manager().live().size() == count);
  CHECK(place.untidy(ids, ids) == "");
  std::printf("count: %u VMs that live found again after %.0f ms\n", count, time.count());
}

}  // namespace hum
