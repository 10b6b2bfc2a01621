// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/progress.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>

#include "tools/hum/test/text.h"

namespace hum {

std::string result_text(const TestResult& result) {
  const std::string status(to_string(result.status));
  std::array<char, 64> time{};
  std::snprintf(time.data(), time.size(), "  %.0f ms", result.seconds * 1000);
  std::string text = status + std::string(status.size() < 12 ? 12 - status.size() : 0, ' ') + "  " +
                     clean_text(result.test.name) + (result.seconds > 0 ? time.data() : "");
  if (result.status == Ending::pass) return text + "\n";
  if (const std::string reason = result.reason(); !reason.empty()) text += ": " + reason;
  text += "\n";
  for (const std::string& line : result.last_lines) text += "    | " + line + "\n";
  return text;
}

Progress::Progress(int fd, std::size_t planned, unsigned columns, bool quiet)
    : fd_(fd), planned_(planned), columns_(columns), quiet_(quiet) {}

void Progress::started(const TestCase& test) {
  running_.push_back(test.name);
  draw();
}

void Progress::finished(const TestResult& result) {
  ++done_;
  if (result.failed()) ++failed_;
  const auto found = std::find(running_.begin(), running_.end(), result.test.name);
  if (found != running_.end()) running_.erase(found);
  const bool on_terminal = columns_ != 0;
  if (result.failed() || (!on_terminal && !quiet_)) {
    clear();
    write(result_text(result));
  }
  draw();
}

void Progress::draw() {
  if (columns_ == 0 || quiet_) return;
  std::string line = "[" + std::to_string(done_) + "/" + std::to_string(planned_) + "] ";
  if (failed_ != 0) line += std::to_string(failed_) + " failed, ";
  line += "running:";
  for (const std::string& name : running_) line += " " + clean_text(name);
  if (line.size() >= columns_) line.resize(columns_ - 1);
  write("\r\x1b[K" + line);
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) write("\r\x1b[K");
  drawn_ = false;
}

void Progress::write(const std::string& text) const {
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t count = ::write(fd_, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return;  // nobody looks
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace hum
