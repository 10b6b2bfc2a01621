// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/console_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include "tools/hum-vmm/console_service.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

constexpr std::chrono::milliseconds write_delay{5};  // a guest puts out its text byte by byte

constexpr OptionSpec log_options[] = {
    {.key = "path", .help = "the file", .required = true},
    {.key = "size",
     .type = OptionType::size,
     .help = "when it has so many bytes it is renamed to FILE.1 and begun anew",
     .default_value = "1M",
     .minimum = 4 << 10,
     .maximum = 256 << 20},
};

Fd open_log(const std::string& path) {
  return open_file(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY, 0640,
                   "give a file that can be written");
}

}  // namespace

ConsoleLogSettings ConsoleLogSettings::parse(std::string_view text) {
  const OptionValues values = OptionValues::parse("--console-log", log_options, text);
  return {.path = values.text("path"), .size = values.number("size")};
}

ConsoleLog::ConsoleLog(ConsoleLogSettings settings, EventLoop& loop, Logger& logger)
    : settings_(std::move(settings)), loop_(loop), logger_(logger), file_(open_log(settings_.path)) {
  struct stat status{};
  if (::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw ConfigError("--console-log", settings_.path, "is not a regular file",
                      "name a file to be made or added to");
  size_ = static_cast<std::uint64_t>(status.st_size);
  loop_.watch(timer_.fd(), EventLoop::Interest::readable, [this] { write_waiting(); });
}

ConsoleLog::~ConsoleLog() {
  finish();
  loop_.unwatch(timer_.fd());
}

void ConsoleLog::read(ConsoleHub& hub) {
  subscription_ = hub.subscribe([this](std::span<const std::byte> output) { take(output); });
}

void ConsoleLog::finish() {
  subscription_ = {};
  write_waiting();
}

void ConsoleLog::take(std::span<const std::byte> output) {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty()) timer_.set(write_delay);
  waiting_.append(reinterpret_cast<const char*>(output.data()), output.size());
  // As much as both files hold: what is before that would be in neither of them.
  if (waiting_.size() > 3 * settings_.size) waiting_.erase(0, waiting_.size() - 2 * settings_.size);
}

void ConsoleLog::write_waiting() {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    timer_.stop();
    text.swap(waiting_);
  }
  if (lost_ != 0 && !text.empty()) {
    const std::string gap = console_gap(lost_);
    if (put(gap) == gap.size()) lost_ = 0;
  }
  lost_ += text.size() - put(text);
}

// How much of it is in the file now.
std::size_t ConsoleLog::put(std::string_view text) {
  std::size_t done = 0;
  while (done < text.size() && make_room()) {
    const std::size_t piece = std::min<std::size_t>(text.size() - done, settings_.size - size_);
    const ssize_t count = ::write(file_.get(), text.data() + done, piece);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      fail(count < 0 ? errno : ENOSPC);
      break;
    }
    done += static_cast<std::size_t>(count);
    size_ += static_cast<std::uint64_t>(count);
  }
  return done;
}

bool ConsoleLog::make_room() {
  if (size_ >= settings_.size) {
    if (::rename(settings_.path.c_str(), (settings_.path + ".1").c_str()) != 0) {
      fail(errno);
      return false;
    }
    file_.reset();
    size_ = 0;
  }
  if (file_) return true;
  try {
    file_ = open_log(settings_.path);
    return true;
  } catch (const HostError& error) {
    fail(error.code().value());
    return false;
  }
}

void ConsoleLog::fail(int error) {
  if (std::exchange(failed_, true)) return;
  logger_.write(LogLevel::error, "the guest's output finds no room in " + settings_.path + ": " +
                                     std::generic_category().message(error));
}

}  // namespace hum
