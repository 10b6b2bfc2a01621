// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/metrics.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using virtio::DeviceReport;

DeviceReport disk(const std::string& own_name, std::uint64_t bytes) {
  DeviceReport report{.name = "disk",
                      .queues = {{.index = 0, .requests = 9, .notifications = 4, .interrupts = 3},
                                 {.index = 1, .notifications = 1}},
                      .counters = {{"bytes_read", bytes}, {"flushes", 2}, {"errors", 1}, {"throttled", 5}},
                      .own_name = own_name};
  report.latencies.resize(2);
  report.latencies[0] = {.name = "read", .nanoseconds = 7'999};
  report.latencies[0].buckets[3] = 2;
  report.latencies[0].buckets[4] = 1;
  report.latencies[1] = {.name = "write", .queue = 1};
  return report;
}

MetricsSources sources_of(const RequestCounts& requests) {
  MetricsSources sources{.requests = requests, .console = {.output = 1, .dropped = 11}};
  sources.record.exits = {{"port-in", 5}, {"port-out", 6}, {"mmio-read", 7}, {"mmio-write", 8}};
  sources.record.windows["serial"] = {20, 21};
  return sources;
}

std::vector<json> lines_of(const std::string& path) {
  std::vector<json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
  return lines;
}

}  // namespace

TEST_CASE("disks are told one by one by the dialect's names, and all together") {
  const RequestCounts requests;
  MetricsSources sources = sources_of(requests);
  sources.record.devices = {disk("disk0", 100), disk("disk1", 50)};
  sources.names = {{"disk0", "block_rootfs"}};
  const json totals = metrics_totals(sources);
  CHECK(totals["block_rootfs"] == json{{"execute_fails", 1},
                                       {"flush_count", 2},
                                       {"queue_event_count", 5},
                                       {"rate_limiter_throttled_events", 5},
                                       {"read_agg", {{"sum_us", 7}}},
                                       {"read_bytes", 100},
                                       {"read_count", 3},
                                       {"write_agg", {{"sum_us", 0}}},
                                       {"write_bytes", 0},
                                       {"write_count", 0}});
  CHECK(totals["block"]["read_bytes"] == 150);
  CHECK(totals["block"]["read_count"] == 6);
  CHECK(totals["block"]["read_agg"]["sum_us"] == 14);
  CHECK(totals["interrupts"]["triggers"] == 6);
  CHECK_FALSE(totals.contains("block_"));
}

TEST_CASE("interfaces, sockets and random numbers are told in the words of the dialect") {
  const RequestCounts requests;
  MetricsSources sources = sources_of(requests);
  sources.record.devices = {
      {.name = "net",
       .queues = {{.index = 0, .notifications = 1},
                  {.index = 1, .notifications = 2},
                  {.index = 3, .notifications = 4}},
       .counters = {{"rx_frames", 3},
                    {"rx_bytes", 30},
                    {"tx_frames", 4},
                    {"tx_bytes", 40},
                    {"rx_dropped_no_room", 6}},
       .own_name = "net0"},
      {.name = "vsock",
       .queues = {{.index = 0, .requests = 5, .notifications = 6}, {.index = 1, .requests = 7}},
       .counters = {{"opened", 2}, {"bytes_from_guest", 8}, {"bytes_to_guest", 9}}},
      {.name = "rng",
       .queues = {{.index = 0, .requests = 3, .bytes_to_guest = 96}},
       .counters = {{"throttled", 1}}}};
  sources.names = {{"net0", "net_eth0"}};
  const json totals = metrics_totals(sources);
  CHECK(totals["net_eth0"] == totals["net"]);
  CHECK(totals["net"]["rx_bytes_count"] == 30);
  CHECK(totals["net"]["rx_packets_count"] == 3);
  CHECK(totals["net"]["tx_bytes_count"] == 40);
  CHECK(totals["net"]["rx_queue_event_count"] == 1);
  CHECK(totals["net"]["tx_queue_event_count"] == 6);
  CHECK(totals["net"]["no_rx_avail_buffer"] == 6);
  CHECK(totals["vsock"]["conns_added"] == 2);
  CHECK(totals["vsock"]["tx_bytes_count"] == 8);
  CHECK(totals["vsock"]["rx_packets_count"] == 5);
  CHECK(totals["entropy"] ==
        json{{"entropy_bytes", 96}, {"entropy_event_count", 3}, {"entropy_rate_limiter_throttled", 1}});
}

TEST_CASE("exits, ports and requests are told, and of what there is not, nothing") {
  RequestCounts requests;
  requests.add("PUT", "actions", true);
  requests.add_deprecated();
  MetricsSources sources = sources_of(requests);
  sources.lost_log_lines = 4;
  const json totals = metrics_totals(sources);
  CHECK(totals["vcpu"] == json{{"exit_io_in", 5},
                               {"exit_io_out", 6},
                               {"exit_mmio_read", 7},
                               {"exit_mmio_write", 8},
                               {"failures", 0}});
  CHECK(totals["uart"] == json{{"read_count", 20}, {"write_count", 21}, {"rate_limiter_dropped_bytes", 11}});
  CHECK(totals["put_api_requests"]["actions_count"] == 1);
  CHECK(totals["put_api_requests"]["actions_fails"] == 1);
  CHECK(totals["put_api_requests"]["drive_count"] == 0);
  CHECK(totals["get_api_requests"]["instance_info_count"] == 0);
  CHECK_FALSE(totals["get_api_requests"].contains("instance_info_fails"));
  CHECK(totals["deprecated_api"]["deprecated_http_api_calls"] == 1);
  CHECK(totals["logger"]["missed_log_count"] == 4);
  CHECK(totals["block"]["read_bytes"] == 0);
  CHECK_FALSE(totals.contains("mmds"));
}

TEST_CASE("each line tells what came since the line before, and the latest times as they are") {
  const testing::TemporaryFolder folder;
  RequestCounts requests;
  MetricsSources sources = sources_of(requests);
  MetricsFile file(folder / "metrics", {{"id", "vm"}, {"properties", {{"owner", "me"}}}});
  file.write(sources);
  requests.add("GET", "version", false);
  sources.record.exits["port-in"] = 9;
  sources.record.devices = {disk("disk0", 10)};
  sources.pause_took = std::chrono::microseconds(33);
  file.write(sources);
  file.write(sources);
  const std::vector<json> lines = lines_of(folder / "metrics");
  REQUIRE(lines.size() == 3);
  for (const json& line : lines) {
    CHECK(line["id"] == "vm");
    CHECK(line["properties"] == json{{"owner", "me"}});
    CHECK(line["utc_timestamp_ms"].get<std::uint64_t>() > 1'000'000'000'000);
  }
  CHECK(lines[0]["vcpu"]["exit_io_in"] == 5);
  CHECK(lines[1]["vcpu"]["exit_io_in"] == 4);
  CHECK(lines[2]["vcpu"]["exit_io_in"] == 0);
  CHECK(lines[1]["get_api_requests"]["vmm_version_count"] == 1);
  CHECK(lines[2]["get_api_requests"]["vmm_version_count"] == 0);
  CHECK(lines[1]["block"]["read_bytes"] == 10);
  CHECK(lines[2]["block"]["read_bytes"] == 0);
  CHECK(lines[0]["latencies_us"] == json::object());
  CHECK(lines[0]["api_server"] == json::object());
  CHECK(lines[2]["latencies_us"] == json{{"vmm_pause_vm", 33}});
}

TEST_CASE("what a device has counted that is gone stays told, and one of its name begins anew") {
  const testing::TemporaryFolder folder;
  const RequestCounts requests;
  MetricsSources sources = sources_of(requests);
  MetricsFile file(folder / "metrics", json::object());
  sources.record.devices = {disk("disk0", 100), disk("disk1", 50)};
  sources.names = {{"disk0", "block_a"}, {"disk1", "block_b"}};
  file.write(sources);
  file.remove(disk("disk0", 130), "block_a");
  sources.record.devices = {disk("disk1", 60)};
  sources.names = {{"disk1", "block_b"}};
  file.write(sources);
  sources.record.devices = {disk("disk1", 60), disk("disk0", 7)};
  sources.names = {{"disk0", "block_a"}, {"disk1", "block_b"}};
  file.write(sources);
  file.remove(disk("disk0", 9), "block_a");
  sources.record.devices = {disk("disk1", 60), disk("disk0", 8)};
  file.write(sources);
  const std::vector<json> lines = lines_of(folder / "metrics");
  REQUIRE(lines.size() == 4);
  CHECK(lines[1]["block"]["read_bytes"] == 40);
  CHECK(lines[1]["block_b"]["read_bytes"] == 10);
  CHECK_FALSE(lines[1].contains("block_a"));
  CHECK(lines[1]["interrupts"]["triggers"] == 0);
  CHECK(lines[2]["block"]["read_bytes"] == 7);
  CHECK(lines[2]["block_a"]["read_bytes"] == 7);
  CHECK(lines[2]["interrupts"]["triggers"] == 3);
  CHECK(lines[3]["block"]["read_bytes"] == 10);
  CHECK(lines[3]["block_a"]["read_bytes"] == 8);
  CHECK(lines[3]["interrupts"]["triggers"] == 3);
}

TEST_CASE("what a lost line would have told is in the next one") {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const Fd both(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  const std::string filler(4096, ' ');
  while (::write(both.get(), filler.data(), filler.size()) > 0) {
  }
  const RequestCounts requests;
  MetricsSources sources = sources_of(requests);
  MetricsFile file(path, json::object());
  file.write(sources);
  sources.record.exits["port-in"] = 9;
  std::string text(1 << 20, '\0');
  REQUIRE(::read(both.get(), text.data(), text.size()) > 0);
  file.write(sources);
  const ssize_t count = ::read(both.get(), text.data(), text.size());
  REQUIRE(count > 0);
  const json line = json::parse(text.substr(0, static_cast<std::size_t>(count)));
  CHECK(line["vcpu"]["exit_io_in"] == 9);
  CHECK(line["logger"]["missed_metrics_count"] == 1);
}

}  // namespace hum
