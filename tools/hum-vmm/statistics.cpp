// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/statistics.h"

#include <cstdio>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "vmm/base/latency_histogram.h"

namespace hum {
namespace {

using nlohmann::json;
using virtio::DeviceReport;

// The most that a bucket's requests took, in microseconds; of the last there is no such time.
std::uint64_t bound_of(std::size_t bucket) {
  return std::uint64_t{1} << bucket;
}

std::uint64_t count_of(const DeviceReport::Latency& latency) {
  std::uint64_t count = 0;
  for (const std::uint64_t each : latency.buckets) count += each;
  return count;
}

json latency_json(const DeviceReport::Latency& latency) {
  json buckets = json::array();
  for (std::size_t i = 0; i < latency.buckets.size(); ++i) {
    if (latency.buckets[i] == 0) continue;
    const bool is_last = i + 1 == latency.buckets.size();
    buckets.push_back({{"up_to_us", is_last ? json() : json(bound_of(i))}, {"count", latency.buckets[i]}});
  }
  return {{"request", latency.name},
          {"queue", latency.queue},
          {"count", count_of(latency)},
          {"sum_us", latency.nanoseconds / 1000},
          {"buckets", buckets}};
}

json device_json(const DeviceReport& device) {
  json queues = json::array();
  for (const DeviceReport::Queue& each : device.queues)
    queues.push_back({{"index", each.index},
                      {"requests", each.requests},
                      {"bytes_from_guest", each.bytes_from_guest},
                      {"bytes_to_guest", each.bytes_to_guest},
                      {"notifications", each.notifications},
                      {"interrupts", each.interrupts}});
  json counters = json::object();
  for (const DeviceReport::Own& each : device.counters) counters[std::string(each.name)] = each.value;
  json latencies = json::array();
  for (const DeviceReport::Latency& each : device.latencies) latencies.push_back(latency_json(each));
  return {{"name", device.own_name}, {"kind", device.name},  {"broken_rings", device.broken_rings},
          {"queues", queues},        {"counters", counters}, {"latencies", latencies}};
}

// Prometheus' text: each metric's samples together, behind what it is.
class Text {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  void begin(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    text_ +=
        "# HELP " + name_ + " " + std::string(help) + "\n# TYPE " + name_ + " " + std::string(type) + "\n";
  }
  void add(Labels labels, std::string_view value, std::string_view suffix = {}) {
    text_ += name_ + std::string(suffix);
    char separator = '{';
    for (const auto& [key, label] : labels) {
      text_ += separator + std::string(key) + "=\"" + escaped(label) + "\"";
      separator = ',';
    }
    text_ += (separator == ',' ? "} " : " ") + std::string(value) + "\n";
  }
  void add(Labels labels, std::uint64_t value, std::string_view suffix = {}) {
    add(labels, std::to_string(value), suffix);
  }
  std::string take() { return std::move(text_); }

 private:
  static std::string escaped(std::string_view label) {
    std::string text;
    for (const char each : label)
      text += each == '\\' ? "\\\\" : each == '"' ? "\\\"" : each == '\n' ? "\\n" : std::string(1, each);
    return text;
  }

  std::string name_;
  std::string text_;
};

std::string decimal(double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.9g", value);
  return text.data();
}

struct QueueMetric {
  const char* name;
  const char* help;
  std::uint64_t DeviceReport::Queue::* value;
};

constexpr QueueMetric queue_metrics[] = {
    {"hum_queue_requests_total", "Requests that the device has given back.", &DeviceReport::Queue::requests},
    {"hum_queue_bytes_from_guest_total", "Bytes of the guest's in them.",
     &DeviceReport::Queue::bytes_from_guest},
    {"hum_queue_bytes_to_guest_total", "Bytes for the guest in them.", &DeviceReport::Queue::bytes_to_guest},
    {"hum_queue_notifications_total", "Notifications by the guest's driver.",
     &DeviceReport::Queue::notifications},
    {"hum_queue_interrupts_total", "Interrupts for the guest's driver.", &DeviceReport::Queue::interrupts},
};

void add_latency(Text& text, const DeviceReport& device, const DeviceReport::Latency& latency) {
  constexpr double microsecond = 1e-6;
  const std::string queue = std::to_string(latency.queue);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < latency.buckets.size(); ++i) {
    sum += latency.buckets[i];
    const bool is_last = i + 1 == latency.buckets.size();
    const std::string bound = is_last ? "+Inf" : decimal(static_cast<double>(bound_of(i)) * microsecond);
    text.add({{"device", device.own_name}, {"queue", queue}, {"request", latency.name}, {"le", bound}}, sum,
             "_bucket");
  }
  const Text::Labels labels = {{"device", device.own_name}, {"queue", queue}, {"request", latency.name}};
  text.add(labels, decimal(static_cast<double>(latency.nanoseconds) * 1e-9), "_sum");
  text.add(labels, sum, "_count");
}

}  // namespace

json statistics_json(const EndRecord& record, const ConsoleHub::Traffic& console) {
  json windows = json::object();
  for (const auto& [name, window] : record.windows)
    windows[name] = {{"reads", window.reads}, {"writes", window.writes}};
  json devices = json::array();
  for (const DeviceReport& each : record.devices) devices.push_back(device_json(each));
  return {{"uptime_seconds", record.duration_seconds},
          {"exits", record.exits},
          {"collected_writes", record.collected_writes},
          {"windows", windows},
          {"devices", devices},
          {"console",
           {{"output_bytes", console.output},
            {"input_bytes", console.input},
            {"dropped_output_bytes", console.dropped}}}};
}

std::string statistics_text(const EndRecord& record, const ConsoleHub::Traffic& console) {
  Text text;
  text.begin("hum_uptime_seconds", "gauge", "Since the VM's start.");
  text.add({}, decimal(record.duration_seconds));
  text.begin("hum_exits_total", "counter", "Exits of the vCPUs to the program, by KVM's reason.");
  for (const auto& [reason, count] : record.exits) text.add({{"reason", reason}}, count);
  text.begin("hum_collected_writes_total", "counter", "Accesses that came along with the exit of another.");
  text.add({}, record.collected_writes);
  text.begin("hum_register_accesses_total", "counter", "Accesses of the guest to a device's registers.");
  for (const auto& [name, window] : record.windows) {
    text.add({{"window", name}, {"access", "read"}}, window.reads);
    text.add({{"window", name}, {"access", "write"}}, window.writes);
  }
  text.begin("hum_console_bytes_total", "counter", "The guest's console.");
  text.add({{"direction", "output"}}, console.output);
  text.add({{"direction", "input"}}, console.input);
  text.add({{"direction", "dropped"}}, console.dropped);
  text.begin("hum_device_broken_rings_total", "counter", "How often the guest broke the device's queues.");
  for (const DeviceReport& each : record.devices) text.add({{"device", each.own_name}}, each.broken_rings);
  for (const QueueMetric& metric : queue_metrics) {
    text.begin(metric.name, "counter", metric.help);
    for (const DeviceReport& device : record.devices)
      for (const DeviceReport::Queue& queue : device.queues)
        text.add({{"device", device.own_name}, {"queue", std::to_string(queue.index)}}, queue.*metric.value);
  }
  text.begin("hum_device_count_total", "counter", "What only this kind of device counts.");
  for (const DeviceReport& device : record.devices)
    for (const DeviceReport::Own& each : device.counters)
      text.add({{"device", device.own_name}, {"what", each.name}}, each.value);
  text.begin("hum_request_seconds", "histogram", "How long requests took that succeeded.");
  for (const DeviceReport& device : record.devices)
    for (const DeviceReport::Latency& each : device.latencies) add_latency(text, device, each);
  return text.take();
}

}  // namespace hum
