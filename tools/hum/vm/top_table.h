// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace hum {

// What was known of a VM at a moment: counters grow as long as its process lives.
struct VmSample {
  std::int64_t id = 0;
  std::int64_t pid = 0;  // 0: it does not run
  std::string name;
  std::string state;
  double at = 0;  // seconds of a clock that is never set
  std::optional<double> cpu_seconds{};
  std::optional<double> resident_bytes{};
  double limit_bytes = 0;  // that its process may have, or its guest's memory where it has no limit
  struct Counters {
    double read_bytes = 0;
    double written_bytes = 0;
    double received_bytes = 0;
    double sent_bytes = 0;
    double exits = 0;
  };
  std::optional<Counters> counters{};
};

// vm and statistics are as the daemon answers; of a VM without statistics they are null. What is not there,
// or is no number, is as if nobody knew it.
VmSample vm_sample(const nlohmann::json& vm, const nlohmann::json& statistics, double at);

// A sample as objects of a list: its rates per second since the sample before, which are null where there is
// none of the same process.
nlohmann::json top_json(const std::vector<VmSample>& before, const std::vector<VmSample>& now);

// Such a list as a table for people.
std::string top_table(const nlohmann::json& rows);

// The first lines and columns of a text that has to fit.
std::vector<std::string> fitting_lines(const std::string& text, std::size_t rows, std::size_t columns);

}  // namespace hum
