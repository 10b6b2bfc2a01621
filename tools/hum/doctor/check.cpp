// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/check.h"
#include "vmm/base/printable.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace hum::doctor {
namespace {

constexpr std::size_t state_width = 9;
constexpr std::string_view plain = "\x1b[0m";

std::string_view colour_of(Check::State state) {
  switch (state) {
    case Check::State::yes:
      return "\x1b[32m";
    case Check::State::limited:
      return "\x1b[33m";
    case Check::State::no:
      return "\x1b[31m";
    case Check::State::unknown:
      return "\x1b[36m";
  }
  return plain;
}

std::string padded(std::string_view text, std::size_t width) {
  std::string result(text);
  result.resize(std::max(width, text.size() + 1), ' ');
  return result;
}

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::good:
      return "good";
    case Verdict::limited:
      return "limited";
    case Verdict::none:
      return "none";
  }
  return "none";
}

}  // namespace

std::string_view to_string(Check::State state) {
  switch (state) {
    case Check::State::yes:
      return "yes";
    case Check::State::limited:
      return "limited";
    case Check::State::no:
      return "no";
    case Check::State::unknown:
      return "unknown";
  }
  return "unknown";
}

Verdict verdict_of(const std::vector<Check>& checks) {
  Verdict verdict = Verdict::good;
  for (const Check& check : checks) {
    const bool fails = check.state == Check::State::no || check.state == Check::State::limited;
    if (!fails || check.weight == Check::Weight::remark) continue;
    const bool vital = check.weight == Check::Weight::vital && check.state == Check::State::no;
    verdict = std::max(verdict, vital ? Verdict::none : Verdict::limited);
  }
  return verdict;
}

int exit_code_of(Verdict verdict) {
  return verdict == Verdict::good ? 0 : verdict == Verdict::limited ? 1 : 3;
}

std::string as_text(const std::vector<Check>& checks, const VerdictWords& words, bool colours) {
  std::size_t width = 0;
  for (const Check& check : checks) width = std::max(width, check.name.size());
  width += 2;
  const std::string indent(state_width + width, ' ');
  std::string text;
  for (const Check& check : checks) {
    const std::string state = padded(to_string(check.state), state_width);
    text += colours ? std::string(colour_of(check.state)) + state + std::string(plain) : state;
    text += padded(printable(check.name), width) + printable(check.found) + "\n";
    if (check.state == Check::State::yes) continue;
    if (!check.costs.empty()) text += indent + "costs: " + printable(check.costs) + "\n";
    if (!check.fix.empty()) text += indent + "fix:   " + printable(check.fix) + "\n";
  }
  const Verdict verdict = verdict_of(checks);
  const std::string_view said = verdict == Verdict::good      ? words.good
                                : verdict == Verdict::limited ? words.limited
                                                              : words.none;
  return text + "\n" + std::string(said) + "\n";
}

std::string as_json(const std::vector<Check>& checks) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Check& check : checks)
    all.push_back({{"name", check.name},
                   {"state", to_string(check.state)},
                   {"found", check.found},
                   {"costs", check.state == Check::State::yes ? "" : check.costs},
                   {"fix", check.state == Check::State::yes ? "" : check.fix}});
  const nlohmann::ordered_json document = {{"checks", all}, {"verdict", verdict_name(verdict_of(checks))}};
  // Labels and versions of foreign files need not be UTF-8.
  return document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace hum::doctor
