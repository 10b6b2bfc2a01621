// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "tools/hum-vmm/line_file.h"
#include "tools/hum-vmm/request_counts.h"
#include "vmm/base/console_hub.h"
#include "vmm/machine/end_record.h"

namespace hum {

// How long it took from a process's start until it served, as far as who started it has told its begin.
struct StartupTimes {
  std::optional<std::chrono::microseconds> took{};
  std::optional<std::chrono::microseconds> cpu_took{};
};

// What the metrics are made of.
struct MetricsSources {
  const RequestCounts& requests;
  std::uint64_t lost_log_lines = 0;
  EndRecord record{};  // as far as it is; nothing before the start
  ConsoleHub::Traffic console{};
  // The dialect's names of the devices: "block_rootfs" of disk0.
  std::map<std::string, std::string> names{};
  StartupTimes startup{};
  std::optional<std::chrono::microseconds> pause_took{};  // the latest
  std::optional<std::chrono::microseconds> resume_took{};
};

// All that was counted since the process's start, in the form and by the names of Firecracker's metrics: only
// what is counted, and what is nothing because it does not exist.
nlohmann::json metrics_totals(const MetricsSources& sources);

// The file or fifo of the metrics: a line tells what was counted since the line before. What a lost line told
// is in the next one. One thread.
class MetricsFile {
 public:
  // extra: fields of each line. Throws HostError.
  MetricsFile(const std::string& path, const nlohmann::json& extra);
  ~MetricsFile();

  void write(const MetricsSources& sources);
  // A device is gone with this report, the dialect's name of it as in the sources. What it has counted stays
  // in the sums of its kind, and one that comes in its place begins anew.
  void remove(const virtio::DeviceReport& report, const std::string& name);

 private:
  LineFile file_;
  std::unique_ptr<nlohmann::json> extra_;
  std::unique_ptr<nlohmann::json> gone_;  // what devices have counted that are gone
  std::unique_ptr<nlohmann::json> told_;  // the totals of the line before
};

}  // namespace hum
