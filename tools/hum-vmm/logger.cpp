// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/logger.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cstdio>
#include <ctime>

namespace hum {
namespace {

std::string now() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  tm parts{};
  ::gmtime_r(&time.tv_sec, &parts);
  std::array<char, 40> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text.data() + length, text.size() - length, ".%09ld", time.tv_nsec);
  return text.data();
}

std::string upper(std::string_view word) {
  std::string text;
  for (const char each : word) text += static_cast<char>(std::toupper(static_cast<unsigned char>(each)));
  return text;
}

}  // namespace

std::optional<LogLevel> log_level_from(std::string_view word) {
  switch (word.empty() ? 'i' : std::tolower(static_cast<unsigned char>(word.front()))) {
    case 'o':
      return {};
    case 'e':
      return LogLevel::error;
    case 'w':
      return LogLevel::warning;
    case 'i':
      return LogLevel::info;
    default:
      return LogLevel::debug;
  }
}

void Logger::configure(const std::string& path, const Settings& settings) {
  std::optional<LineFile> file;
  if (!path.empty()) file.emplace(path);
  const std::lock_guard lock(mutex_);
  settings_ = settings;
  if (!file) return;
  descriptor_.store(file->fd());
  file_ = std::move(file);
}

void Logger::write(LogLevel level, std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (!settings_.most || level > *settings_.most) return;
  std::array<char, 16> thread{};
  ::pthread_getname_np(::pthread_self(), thread.data(), thread.size());
  const std::string line = now() + " [" + id_ + ":" + thread.data() +
                           (settings_.show_level ? ":" + upper(to_string(level)) : "") + "] " +
                           std::string(text);
  if (file_) return file_->write(line);
  pollfd room{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&room, 1, 0) == 1)
    std::fprintf(stderr, "%s\n", line.c_str());
  else
    ++lost_;
}

Logger::Settings Logger::settings() const {
  const std::lock_guard lock(mutex_);
  return settings_;
}

std::uint64_t Logger::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_ + (file_ ? file_->lost() : 0);
}

}  // namespace hum
