// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/top_command.h"

#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "tools/hum/exit_codes.h"
#include "tools/hum/terminal.h"

namespace hum {
namespace {

using nlohmann::json;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Whether it was asked to end before that time was over.
bool is_left_within(double seconds) {
  const double late = seconds_now() + seconds;
  for (;;) {
    const double left = late - seconds_now();
    pollfd entry{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (left <= 0 || ::poll(&entry, 1, static_cast<int>(left * 1000) + 1) == 0) return false;
    char key = 0;
    constexpr char control_c = 3;
    const ssize_t count = ::read(STDIN_FILENO, &key, 1);
    if (count <= 0 || key == 'q' || key == control_c) return true;
  }
}

// In place of as many lines as were drawn before.
void draw(const std::vector<std::string>& lines, std::size_t before) {
  std::string text = "\r";
  if (before > 0) text += "\033[" + std::to_string(before) + "A";
  text += "\033[J";
  for (const std::string& line : lines) text += line + "\r\n";
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

TopCommand::TopCommand(CLI::App& app, const DaemonAddress& daemon, int& exit_code) : daemon_(daemon) {
  app.add_option("VM", names_, "names or numbers (default: all)");
  app.add_option("--interval", interval_, "seconds between two samples")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  app.add_flag("--once", once_, "print the use over one interval, and end; so without a terminal");
  add_json_option(app, is_json_, "the same as JSON");
  app.footer(
      "Bytes are per second, as the guest reads, writes, receives (RX) and sends (TX); CPU% is of one\n"
      "processor. On a terminal q or Ctrl-C ends it.\n"
      "Examples:\n  hum vm top\n  hum vm top --interval 5 web db\n  hum vm top --json | jq "
      "'.[].cpu_percent'");
  app.callback([this, &exit_code] { exit_code = run(); });
}

std::vector<VmSample> TopCommand::sample(DaemonClient& client, bool must_be) const {
  json vms = json::array();
  if (names_.empty()) vms = client.list("/v1/vms", "vms");
  for (const std::string& name : names_) try {
      vms.push_back(client.call("GET", "/v1/vms/" + escaped(name)));
    } catch (const DaemonError& error) {
      if (must_be || error.code() != "vm-not-found") throw;
    }
  std::vector<VmSample> samples;
  for (const json& vm : vms) {
    json statistics;
    double at = seconds_now();
    if (!vm["pid"].is_null()) try {
        statistics =
            client.call("GET", "/v1/vms/" + std::to_string(vm["id"].get<std::int64_t>()) + "/statistics");
        at = seconds_now();
      } catch (const DaemonError&) {
        // It has ended meanwhile, or its process does not answer: a row without numbers.
      }
    samples.push_back(vm_sample(vm, statistics, at));
  }
  return samples;
}

int TopCommand::run() {
  DaemonClient client(daemon_);
  const bool is_live = !once_ && !is_json_ && ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
  if (is_live) return watch(client);
  const std::vector<VmSample> before = sample(client, true);
  std::this_thread::sleep_for(std::chrono::duration<double>(interval_));
  const json rows = top_json(before, sample(client, false));
  std::fputs((is_json_ ? rows.dump(2) + "\n" : top_table(rows)).c_str(), stdout);
  return exit_ok;
}

int TopCommand::watch(DaemonClient& client) {
  std::vector<VmSample> before = sample(client, true);
  const RawTerminal terminal(STDIN_FILENO);
  // The first rates come soon.
  double pause = std::min(interval_, 0.5);
  std::size_t drawn = 0;
  for (std::vector<VmSample> now = before;; now = sample(client, false)) {
    const auto [rows, columns] = terminal_size(STDOUT_FILENO).value_or(std::pair(24U, 80U));
    const std::vector<std::string> lines =
        fitting_lines(top_table(top_json(before, now)), rows > 1 ? rows - 1 : 1, columns);
    draw(lines, std::min<std::size_t>(drawn, rows > 1 ? rows - 1 : 1));
    drawn = lines.size();
    before = std::move(now);
    if (std::ferror(stdout) != 0 || is_left_within(pause)) return exit_ok;
    pause = interval_;
  }
}

}  // namespace hum
