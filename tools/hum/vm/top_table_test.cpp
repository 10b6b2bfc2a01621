// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/top_table.h"

#include <nlohmann/json.hpp>

#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;

json vm_of(const std::string& name, int pid) {
  json vm = {{"id", 1}, {"name", name}, {"state", "running"}, {"pid", pid}};
  vm["spec"] = {{"memory_mib", 256}};
  return vm;
}

json statistics_of(double cpu_seconds, int count) {
  json disk = {{"name", "disk0"}, {"counters", {{"bytes_read", count * 2048}, {"bytes_written", count}}}};
  json net = {{"name", "net0"}, {"counters", {{"rx_bytes", count * 10}, {"tx_bytes", count * 20}}}};
  return {{"exits", {{"port-out", count}, {"hlt", count}}},
          {"devices", {disk, net, disk}},
          {"process", {{"cpu_seconds", cpu_seconds}, {"resident_bytes", 3U << 20U}}}};
}

}  // namespace

TEST_CASE("rates are what came between two samples of a process, by the seconds between them") {
  const VmSample before = vm_sample(vm_of("web", 7), statistics_of(1, 1000), 100);
  const VmSample now = vm_sample(vm_of("web", 7), statistics_of(2, 3000), 102);
  const json rows = top_json({before}, {now});
  REQUIRE(rows.size() == 1);
  CHECK(rows[0]["name"] == "web");
  CHECK(rows[0]["cpu_percent"] == 50.0);
  CHECK(rows[0]["resident_bytes"] == 3U << 20U);
  CHECK(rows[0]["limit_bytes"] == 256U << 20U);
  CHECK(rows[0]["read_bytes_s"] == 2 * 2048 * 1000.0);  // of both disks
  CHECK(rows[0]["written_bytes_s"] == 2 * 1000.0);
  CHECK(rows[0]["received_bytes_s"] == 10 * 1000.0);
  CHECK(rows[0]["sent_bytes_s"] == 20 * 1000.0);
  CHECK(rows[0]["exits_s"] == 2 * 1000.0);
  CHECK(top_table(rows) ==
        "NAME  STATE    CPU%  MEMORY  LIMIT  READ/S  WRITE/S  RX/S  TX/S  EXITS/S\n"
        "web   running  50.0  3.0M    256M   3.9M    2.0K     9.8K  20K   2000\n");
}

TEST_CASE("there are no rates of a VM that was not there before, runs anew, or is sampled once") {
  const VmSample before = vm_sample(vm_of("web", 7), statistics_of(9, 9000), 100);
  const VmSample restarted = vm_sample(vm_of("web", 8), statistics_of(1, 10), 101);
  for (const json& rows :
       {top_json({before}, {restarted}), top_json({}, {restarted}), top_json({restarted}, {restarted})}) {
    REQUIRE(rows.size() == 1);
    for (const char* const rate :
         {"cpu_percent", "read_bytes_s", "written_bytes_s", "received_bytes_s", "sent_bytes_s", "exits_s"})
      CHECK(rows[0][rate].is_null());
    CHECK(rows[0]["resident_bytes"] == 3U << 20U);
    CHECK(top_table(rows).ends_with("web   running  -     3.0M    256M   -       -        -     -     -\n"));
  }
}

TEST_CASE("counters that go back, as of a disk that was taken out, are no rate below nothing") {
  const VmSample before = vm_sample(vm_of("web", 7), statistics_of(1, 1000), 100);
  const json rows = top_json({before}, {vm_sample(vm_of("web", 7), statistics_of(1, 10), 101)});
  CHECK(rows[0]["read_bytes_s"] == 0.0);
  CHECK(rows[0]["cpu_percent"] == 0.0);
}

TEST_CASE("a VM that does not run, or whose process talks nonsense, has a row without numbers") {
  json stopped = vm_of("web", 0);
  stopped["pid"] = nullptr;
  stopped["state"] = "stopped";
  stopped["spec"]["limits"]["memory_mib"] = 300;
  const json nonsense = {{"exits", {{"hlt", "many"}}},
                         {"devices", {1, {{"counters", "none"}}, {{"counters", {{"rx_bytes", true}}}}}},
                         {"process", {{"cpu_seconds", "all"}}}};
  for (const json& statistics : {json(), json::array({1}), nonsense, json{{"process", 3}, {"devices", 4}}}) {
    const VmSample sample = vm_sample(stopped, statistics, 1);
    const json rows = top_json({sample}, {vm_sample(stopped, statistics, 2)});
    CHECK(rows[0]["cpu_percent"].is_null());
    CHECK(rows[0]["exits_s"].is_null());
    CHECK(rows[0]["limit_bytes"] == 300U << 20U);
    CHECK(top_table(rows).ends_with("web   stopped  -     -       300M   -       -        -     -     -\n"));
  }
}

TEST_CASE("sizes are short: units at 1024, and a point below ten") {
  const auto read_of = [](double bytes) {
    json rows = top_json({}, {vm_sample(vm_of("web", 7), json(), 1)});
    rows[0]["read_bytes_s"] = bytes;
    const std::string row = top_table(rows);
    const std::string last = row.substr(row.rfind("256M   ") + 7);
    return last.substr(0, last.find(' '));
  };
  CHECK(read_of(0) == "0");
  CHECK(read_of(1023) == "1023");
  CHECK(read_of(1024) == "1.0K");
  CHECK(read_of(9.9 * 1024) == "9.9K");
  CHECK(read_of(10 * 1024) == "10K");
  CHECK(read_of(1023 * 1024.0) == "1023K");
  CHECK(read_of(1024 * 1024.0) == "1.0M");
  CHECK(read_of(5e15) == "4547T");
}

TEST_CASE("a table fits a terminal: as many lines and columns as there are") {
  const std::vector<std::string> lines = fitting_lines("one\ntwo\nthree\n", 2, 2);
  CHECK(lines == std::vector<std::string>{"on", "tw"});
  CHECK(fitting_lines("one\n", 5, 80) == std::vector<std::string>{"one"});
}

}  // namespace hum
