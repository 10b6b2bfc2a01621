// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/metrics.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace hum {
namespace {

using nlohmann::json;
using virtio::DeviceReport;

std::uint64_t counter(const DeviceReport& report, std::string_view name) {
  for (const DeviceReport::Own& each : report.counters)
    if (each.name == name) return each.value;
  return 0;
}

// A queue that was not used has done nothing.
DeviceReport::Queue queue(const DeviceReport& report, std::uint16_t index) {
  for (const DeviceReport::Queue& each : report.queues)
    if (each.index == index) return each;
  return {.index = index};
}

std::uint64_t notifications(const DeviceReport& report) {
  std::uint64_t sum = 0;
  for (const DeviceReport::Queue& each : report.queues) sum += each.notifications;
  return sum;
}

// How many of a kind succeeded, and how long they took together.
std::pair<std::uint64_t, std::uint64_t> successes(const DeviceReport& report, std::string_view name) {
  std::uint64_t count = 0;
  std::uint64_t nanoseconds = 0;
  for (const DeviceReport::Latency& each : report.latencies) {
    if (each.name != name) continue;
    for (const std::uint64_t bucket : each.buckets) count += bucket;
    nanoseconds += each.nanoseconds;
  }
  return {count, nanoseconds / 1000};
}

json block_metrics(const DeviceReport& report) {
  const auto [reads, read_us] = successes(report, "read");
  const auto [writes, write_us] = successes(report, "write");
  return {{"execute_fails", counter(report, "errors")},
          {"flush_count", counter(report, "flushes")},
          {"queue_event_count", notifications(report)},
          {"rate_limiter_throttled_events", counter(report, "throttled")},
          {"read_agg", {{"sum_us", read_us}}},
          {"read_bytes", counter(report, "bytes_read")},
          {"read_count", reads},
          {"write_agg", {{"sum_us", write_us}}},
          {"write_bytes", counter(report, "bytes_written")},
          {"write_count", writes}};
}

// Of several pairs of queues the receiving ones are even.
json net_metrics(const DeviceReport& report) {
  std::uint64_t rx_events = 0;
  std::uint64_t tx_events = 0;
  for (const DeviceReport::Queue& each : report.queues)
    (each.index % 2 == 0 ? rx_events : tx_events) += each.notifications;
  return {{"no_rx_avail_buffer", counter(report, "rx_dropped_no_room")},
          {"rx_bytes_count", counter(report, "rx_bytes")},
          {"rx_count", counter(report, "rx_frames")},
          {"rx_packets_count", counter(report, "rx_frames")},
          {"rx_queue_event_count", rx_events},
          {"tx_bytes_count", counter(report, "tx_bytes")},
          {"tx_count", counter(report, "tx_frames")},
          {"tx_malformed_frames", counter(report, "tx_dropped_malformed")},
          {"tx_packets_count", counter(report, "tx_frames")},
          {"tx_queue_event_count", tx_events}};
}

json vsock_metrics(const DeviceReport& report) {
  return {{"conns_added", counter(report, "opened")},
          {"rx_bytes_count", counter(report, "bytes_to_guest")},
          {"rx_packets_count", queue(report, 0).requests},
          {"rx_queue_event_count", queue(report, 0).notifications},
          {"tx_bytes_count", counter(report, "bytes_from_guest")},
          {"tx_packets_count", queue(report, 1).requests},
          {"tx_queue_event_count", queue(report, 1).notifications}};
}

json entropy_metrics(const DeviceReport& report) {
  return {{"entropy_bytes", queue(report, 0).bytes_to_guest},
          {"entropy_event_count", queue(report, 0).requests},
          {"entropy_rate_limiter_throttled", counter(report, "throttled")}};
}

json balloon_metrics(const DeviceReport& report) {
  return {{"inflate_count", queue(report, 0).requests},
          {"deflate_count", queue(report, 1).requests},
          {"statistics_updates_count", counter(report, "statistics_updates")}};
}

void add(json& sum, const json& more) {
  for (const auto& [name, value] : more.items()) {
    json& part = sum[name];
    if (value.is_object())
      add(part, value);
    else
      part = (part.is_null() ? 0 : part.get<std::uint64_t>()) + value.get<std::uint64_t>();
  }
}

std::uint64_t interrupts_of(const DeviceReport& report) {
  std::uint64_t sum = 0;
  for (const DeviceReport::Queue& each : report.queues) sum += each.interrupts;
  return sum;
}

struct Kind {
  std::string_view kind;  // of our devices
  const char* name;       // of all of them together
  json (*metrics)(const DeviceReport& report);
};

constexpr Kind kinds[] = {
    {"disk", "block", block_metrics},        {"net", "net", net_metrics},
    {"vsock", "vsock", vsock_metrics},       {"rng", "entropy", entropy_metrics},
    {"balloon", "balloon", balloon_metrics},
};

// Null: one that is told nothing of.
const Kind* kind_of(const DeviceReport& report) {
  const auto* const kind = std::find_if(std::begin(kinds), std::end(kinds),
                                        [&](const Kind& each) { return each.kind == report.name; });
  return kind == std::end(kinds) ? nullptr : kind;
}

json window(const EndRecord& record, const std::string& name) {
  const auto found = record.windows.find(name);
  const EndRecord::Window counted = found == record.windows.end() ? EndRecord::Window{} : found->second;
  return {{"read_count", counted.reads}, {"write_count", counted.writes}};
}

std::uint64_t exits(const EndRecord& record, const std::string& name) {
  const auto found = record.exits.find(name);
  return found == record.exits.end() ? 0 : found->second;
}

json difference(const json& now, const json& before) {
  if (!now.is_object())
    return now.get<std::uint64_t>() - (before.is_null() ? 0 : before.get<std::uint64_t>());
  json result = json::object();
  for (const auto& [name, value] : now.items())
    result[name] = difference(value, before.is_object() && before.contains(name) ? before[name] : json());
  return result;
}

}  // namespace

json metrics_totals(const MetricsSources& sources) {
  const EndRecord& record = sources.record;
  json totals = json::object();
  for (const auto& [method, names] : sources.requests.all()) {
    json& counts = totals[std::string(method) + "_api_requests"];
    for (const auto& [name, count] : names) {
      counts[std::string(name) + "_count"] = count.all;
      if (method != "get") counts[std::string(name) + "_fails"] = count.failed;
    }
  }
  totals["deprecated_api"] = {{"deprecated_http_api_calls", sources.requests.deprecated()}};

  std::uint64_t interrupts = 0;
  for (const Kind& kind : kinds) totals[kind.name] = kind.metrics({});
  for (const DeviceReport& report : record.devices) {
    interrupts += interrupts_of(report);
    const Kind* const kind = kind_of(report);
    if (kind == nullptr) continue;
    const json metrics = kind->metrics(report);
    add(totals[kind->name], metrics);
    if (const auto name = sources.names.find(report.own_name); name != sources.names.end())
      totals[name->second] = metrics;
  }
  totals["interrupts"] = {{"triggers", interrupts}};
  totals["i8042"] = window(record, "i8042");
  totals["uart"] = window(record, "serial");
  totals["uart"]["rate_limiter_dropped_bytes"] = sources.console.dropped;
  totals["vcpu"] = {{"exit_io_in", exits(record, "port-in")},
                    {"exit_io_out", exits(record, "port-out")},
                    {"exit_mmio_read", exits(record, "mmio-read")},
                    {"exit_mmio_write", exits(record, "mmio-write")},
                    {"failures", record.cause == EndCause::internal_error ? 1 : 0}};
  // No filter and no handler: they have met nothing.
  totals["seccomp"] = {{"num_faults", 0}};
  totals["signals"] = {{"sigbus", 0},  {"sigill", 0},  {"sigpipe", 0},
                       {"sigsegv", 0}, {"sigxcpu", 0}, {"sigxfsz", 0}};
  totals["vmm"] = {{"panic_count", 0}};
  totals["logger"] = {{"missed_log_count", sources.lost_log_lines}};
  return totals;
}

MetricsFile::MetricsFile(const std::string& path, const json& extra)
    : file_(path),
      extra_(std::make_unique<json>(extra)),
      gone_(std::make_unique<json>(json::object())),
      told_(std::make_unique<json>(json::object())) {}

MetricsFile::~MetricsFile() = default;

void MetricsFile::remove(const DeviceReport& report, const std::string& name) {
  add(*gone_, {{"interrupts", {{"triggers", interrupts_of(report)}}}});
  if (const Kind* const kind = kind_of(report)) add(*gone_, {{kind->name, kind->metrics(report)}});
  told_->erase(name);
}

void MetricsFile::write(const MetricsSources& sources) {
  using namespace std::chrono;
  json totals = metrics_totals(sources);
  add(totals, *gone_);
  totals["logger"]["missed_metrics_count"] = file_.lost();
  json line = difference(totals, *told_);
  line.update(*extra_);
  line["utc_timestamp_ms"] = duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
  json& server = line["api_server"] = json::object();
  if (sources.startup.took) server["process_startup_time_us"] = sources.startup.took->count();
  if (sources.startup.cpu_took) server["process_startup_time_cpu_us"] = sources.startup.cpu_took->count();
  json& latencies = line["latencies_us"] = json::object();
  if (sources.pause_took) latencies["vmm_pause_vm"] = sources.pause_took->count();
  if (sources.resume_took) latencies["vmm_resume_vm"] = sources.resume_took->count();
  const std::uint64_t lost = file_.lost();
  file_.write(line.dump(-1, ' ', false, json::error_handler_t::replace));
  if (file_.lost() == lost) *told_ = std::move(totals);
}

}  // namespace hum
