// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/statistics.h"

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;

EndRecord record() {
  EndRecord record;
  record.duration_seconds = 1.5;
  record.exits = {{"port-in", 7}};
  record.windows["a \"window\"\\"] = {1, 2};
  virtio::DeviceReport device{.name = "disk",
                              .broken_rings = 1,
                              .queues = {{.index = 2, .requests = 3, .bytes_to_guest = 4}},
                              .counters = {{"flushes", 5}},
                              .own_name = "disk1"};
  device.latencies.push_back({.name = "read", .queue = 2, .nanoseconds = 5'500'000});
  device.latencies[0].buckets[0] = 1;
  device.latencies[0].buckets[3] = 2;
  device.latencies[0].buckets.back() = 4;
  record.devices.push_back(device);
  return record;
}

}  // namespace

TEST_CASE("statistics tell exits, queues, counters, latencies and the console") {
  const json all = statistics_json(record(), {.output = 10, .input = 20, .dropped = 30});
  CHECK(all["uptime_seconds"] == 1.5);
  CHECK(all["exits"] == json{{"port-in", 7}});
  CHECK(all["console"] == json{{"output_bytes", 10}, {"input_bytes", 20}, {"dropped_output_bytes", 30}});
  const json& device = all["devices"][0];
  CHECK(device["name"] == "disk1");
  CHECK(device["kind"] == "disk");
  CHECK(device["broken_rings"] == 1);
  CHECK(device["queues"][0]["requests"] == 3);
  CHECK(device["counters"] == json{{"flushes", 5}});
  CHECK(device["latencies"][0] == json{{"request", "read"},
                                       {"queue", 2},
                                       {"count", 7},
                                       {"sum_us", 5500},
                                       {"buckets",
                                        {{{"up_to_us", 1}, {"count", 1}},
                                         {{"up_to_us", 8}, {"count", 2}},
                                         {{"up_to_us", nullptr}, {"count", 4}}}}});
}

TEST_CASE("Prometheus' text has each metric once, its samples behind it, and buckets that add up") {
  const std::string text = statistics_text(record(), {.output = 10, .input = 20, .dropped = 30});
  for (const char* const line :
       {"hum_uptime_seconds 1.5\n", "hum_exits_total{reason=\"port-in\"} 7\n",
        "hum_register_accesses_total{window=\"a \\\"window\\\"\\\\\",access=\"write\"} 2\n",
        "hum_console_bytes_total{direction=\"dropped\"} 30\n",
        "hum_queue_requests_total{device=\"disk1\",queue=\"2\"} 3\n",
        "hum_device_count_total{device=\"disk1\",what=\"flushes\"} 5\n",
        "hum_request_seconds_bucket{device=\"disk1\",queue=\"2\",request=\"read\",le=\"1e-06\"} 1\n",
        "hum_request_seconds_bucket{device=\"disk1\",queue=\"2\",request=\"read\",le=\"4e-06\"} 1\n",
        "hum_request_seconds_bucket{device=\"disk1\",queue=\"2\",request=\"read\",le=\"8e-06\"} 3\n",
        "hum_request_seconds_bucket{device=\"disk1\",queue=\"2\",request=\"read\",le=\"+Inf\"} 7\n",
        "hum_request_seconds_sum{device=\"disk1\",queue=\"2\",request=\"read\"} 0.0055\n",
        "hum_request_seconds_count{device=\"disk1\",queue=\"2\",request=\"read\"} 7\n"}) {
    INFO(line);
    CHECK(text.find(line) != std::string::npos);
  }
  std::istringstream lines(text);
  std::string current;
  std::set<std::string> begun;
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    if (line.starts_with("# TYPE ")) {
      current = line.substr(7, line.find(' ', 7) - 7);
      CHECK(begun.insert(current).second);
    } else if (!line.starts_with("# HELP ")) {
      CHECK(line.starts_with(current));
    }
  }
}

}  // namespace hum
