// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/reports.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/hum/test/text.h"

namespace hum {
namespace {

std::string seconds_text(double seconds, int digits) {
  std::array<char, 40> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, seconds);
  return text.data();
}

std::string counted(std::size_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

// A scalar of YAML, in double quotes.
std::string yaml_quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c == '\n' || c == '\t' ? ' ' : c;
  }
  return quoted + "\"";
}

// "#" would begin a directive in the description of a TAP point, a backslash escapes it.
std::string tap_escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '#' || c == '\\') escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  return escaped;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace

std::size_t RunSummary::count(Ending status) const {
  return static_cast<std::size_t>(std::count_if(
      results.begin(), results.end(), [&](const TestResult& result) { return result.status == status; }));
}

std::size_t RunSummary::failed() const {
  return static_cast<std::size_t>(std::count_if(results.begin(), results.end(),
                                                [](const TestResult& result) { return result.failed(); }));
}

std::string summary_line(const RunSummary& run) {
  std::string text =
      counted(run.planned, "test") + ": " + std::to_string(run.count(Ending::pass)) + " passed";
  const std::size_t failed = run.failed() - run.count(Ending::interrupted);
  if (failed != 0) {
    text += ", " + std::to_string(failed) + " failed";
    std::string kinds;
    for (const Ending status :
         {Ending::timeout, Ending::triple_fault, Ending::kvm_error, Ending::vmm_error, Ending::invalid})
      if (const std::size_t count = run.count(status); count != 0)
        kinds += (kinds.empty() ? "" : ", ") + std::to_string(count) + " " + std::string(to_string(status));
    if (!kinds.empty()) text += " (" + kinds + ")";
  }
  if (const std::size_t skipped = run.count(Ending::skip); skipped != 0)
    text += ", " + std::to_string(skipped) + " skipped";
  if (run.interrupted) text += ", " + std::to_string(run.count(Ending::interrupted)) + " interrupted";
  if (const std::size_t left = run.planned - run.results.size(); left != 0)
    text += ", " + std::to_string(left) + " not run";
  text += " in " + seconds_text(run.seconds, 2) + " s";
  if (run.slow_left_out != 0) text += "; " + std::to_string(run.slow_left_out) + " slow left out (--all)";
  return text;
}

std::string tap_head(std::size_t planned) {
  return "TAP version 14\n1.." + std::to_string(planned) + "\n";
}

std::string tap_point(const TestResult& result, std::size_t number) {
  std::string text =
      (result.failed() ? "not ok " : "ok ") + std::to_string(number) + " - " + tap_escaped(result.test.name);
  if (result.status == Ending::skip) return text + " # SKIP " + tap_escaped(result.reason()) + "\n";
  text += "\n  ---\n";
  const auto line = [&](const std::string& key, const std::string& value) {
    text += "  " + key + ": " + value + "\n";
  };
  line("status", std::string(to_string(result.status)));
  if (result.failed() && !result.reason().empty()) line("message", yaml_quoted(result.reason()));
  line("duration_ms", seconds_text(result.seconds * 1000, 1));
  line("image", yaml_quoted(clean_text(result.test.image)));
  if (!result.outcome.cause.empty()) line("cause", yaml_quoted(clean_text(result.outcome.cause)));
  if (result.outcome.exit_code) line("exit_code", std::to_string(*result.outcome.exit_code));
  if (!result.last_lines.empty()) {
    text += "  output:\n";
    for (const std::string& each : result.last_lines) text += "    - " + yaml_quoted(each) + "\n";
  }
  return text + "  ...\n";
}

std::string tap_end(const RunSummary& run) {
  if (run.interrupted) return "Bail out! interrupted\n";
  if (run.results.size() < run.planned) return "Bail out! stopped at the first failure\n";
  return {};
}

std::string xml_escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string junit_report(const RunSummary& run) {
  const auto attribute = [](const std::string& name, const std::string& value) {
    return " " + name + "=\"" + xml_escaped(clean_text(value)) + "\"";
  };
  const std::size_t errors =
      run.count(Ending::vmm_error) + run.count(Ending::kvm_error) + run.count(Ending::interrupted);
  const std::string counts = attribute("tests", std::to_string(run.results.size())) +
                             attribute("failures", std::to_string(run.failed() - errors)) +
                             attribute("errors", std::to_string(errors)) +
                             attribute("skipped", std::to_string(run.count(Ending::skip))) +
                             attribute("time", seconds_text(run.seconds, 3));
  std::string text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + counts + ">\n  <testsuite" +
                     attribute("name", "hum test") + counts + ">\n";
  for (const TestResult& result : run.results) {
    text += "    <testcase" +
            attribute("classname", result.test.groups.empty() ? "images" : result.test.groups.front()) +
            attribute("name", result.test.name) + attribute("time", seconds_text(result.seconds, 3));
    if (result.status == Ending::pass) {
      text += "/>\n";
      continue;
    }
    text += ">\n";
    if (result.status == Ending::skip) {
      text += "      <skipped" + attribute("message", result.reason()) + "/>\n";
    } else {
      const bool error = result.status == Ending::vmm_error || result.status == Ending::kvm_error ||
                         result.status == Ending::interrupted;
      const std::string element = error ? "error" : "failure";
      text += "      <" + element + attribute("type", std::string(to_string(result.status))) +
              attribute("message", result.reason()) + "/>\n";
    }
    if (!result.last_lines.empty())
      text += "      <system-out>" + xml_escaped(joined(result.last_lines)) + "</system-out>\n";
    text += "    </testcase>\n";
  }
  return text + "  </testsuite>\n</testsuites>\n";
}

std::string json_report(const RunSummary& run) {
  const auto milliseconds = [](double seconds) { return std::round(seconds * 1e6) / 1e3; };
  nlohmann::ordered_json json;
  json["version"] = 1;
  json["interrupted"] = run.interrupted;
  json["jobs"] = run.jobs;
  json["duration_ms"] = milliseconds(run.seconds);
  json["planned"] = run.planned;
  json["passed"] = run.count(Ending::pass);
  json["failed"] = run.failed();
  json["skipped"] = run.count(Ending::skip);
  json["slow_left_out"] = run.slow_left_out;
  json["tests"] = nlohmann::ordered_json::array();
  for (const TestResult& result : run.results) {
    const bool ran = result.status != Ending::skip || result.test.skip.empty();
    nlohmann::ordered_json test;
    test["name"] = result.test.name;
    test["image"] = result.test.image;
    test["groups"] = result.test.groups;
    test["status"] = to_string(result.status);
    test["expected"] = to_string(result.test.expect);
    if (ran) test["ended"] = to_string(result.outcome.ending);
    if (const std::string reason = result.reason(); !reason.empty()) test["reason"] = reason;
    if (!result.outcome.cause.empty()) test["cause"] = result.outcome.cause;
    if (result.outcome.exit_code) test["exit_code"] = *result.outcome.exit_code;
    test["duration_ms"] = milliseconds(result.seconds);
    if (!result.last_lines.empty()) test["output"] = result.last_lines;
    json["tests"].push_back(std::move(test));
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace hum
