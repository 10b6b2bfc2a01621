// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hum::doctor {

// What was found out about one thing that a VM needs or can use.
struct Check {
  enum class State : std::uint8_t { yes, limited, no, unknown };
  // What another state than yes means as a whole.
  enum class Weight : std::uint8_t {
    remark,  // VMs run as well as ever
    speed,   // they run, but so slowly or wrongly that it matters
    vital,   // a no: none runs at all; limited: as for speed
  };

  std::string name;
  State state = State::unknown;
  std::string found;
  std::string costs;  // in words of a user; empty where nothing is missing
  std::string fix;    // a command, or what to do; empty where there is none
  Weight weight = Weight::remark;
};

enum class Verdict : std::uint8_t { good, limited, none };

std::string_view to_string(Check::State state);
Verdict verdict_of(const std::vector<Check>& checks);
// 0, 1 or 3.
int exit_code_of(Verdict verdict);

// How a set of checks calls its verdicts.
struct VerdictWords {
  std::string_view good;
  std::string_view limited;
  std::string_view none;
};

// Plain text in columns, in colours if asked for; what a check costs and how to mend it are below it.
std::string as_text(const std::vector<Check>& checks, const VerdictWords& words, bool colours);
// {"checks":[{"name","state","found","costs","fix"}],"verdict":...}
std::string as_json(const std::vector<Check>& checks);

}  // namespace hum::doctor
