// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/disk/common.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "tools/hum/exit_codes.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {

std::uint64_t parse_disk_size(const std::string& text) {
  const std::uint64_t size = parse_size("size", text);
  if (size % 512 != 0)
    throw ConfigError("size", text, "not a multiple of 512 bytes",
                      "give bytes or a number with K, M, G or T, like 10G");
  return size;
}

unsigned parse_cluster_bits(const std::string& text) {
  const std::uint64_t size = parse_size("--cluster-size", text);
  if (!std::has_single_bit(size) || size < 512 || size > 2 << 20)
    throw ConfigError("--cluster-size", text, "not accepted", "give a power of two from 512 to 2M");
  return static_cast<unsigned>(std::countr_zero(size));
}

ImageFormat parse_format(const std::string& text) {
  return text == "qcow2" ? ImageFormat::qcow2 : ImageFormat::raw;
}

std::string with_bytes(std::uint64_t size) {
  const std::string shown = format_size(size);
  return shown + (shown == std::to_string(size) ? " bytes" : " (" + std::to_string(size) + " bytes)");
}

void print_json(const nlohmann::ordered_json& json) {
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

void expect_ok(BlockResult result, const Tried& tried) {
  switch (result) {
    case BlockResult::ok:
      return;
    case BlockResult::unsupported:
      throw ConfigError(tried.key, tried.value, tried.unsupported, tried.fix);
    case BlockResult::no_space:
      throw HostError(ENOSPC, tried.what, "make room on its file system");
    case BlockResult::io_error:
      throw HostError(EIO, tried.what, "see the host's log, and for qcow2 'hum disk check'");
  }
}

LongWork::LongWork(std::string name) : name_(std::move(name)), terminal_(::isatty(STDERR_FILENO) == 1) {
  ::sigemptyset(&stops_);
  // What is ignored from the start (nohup) stays so.
  for (const int each : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now{};
    ::sigaction(each, nullptr, &now);
    if (now.sa_handler != SIG_IGN) ::sigaddset(&stops_, each);
  }
  ::pthread_sigmask(SIG_BLOCK, &stops_, &before_);
}

LongWork::~LongWork() {
  clear();
  // What came too late to stop anything must not end the program now: the work is complete.
  const timespec at_once{};
  while (::sigtimedwait(&stops_, nullptr, &at_once) > 0) {
  }
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

bool LongWork::run(const Tried& tried, const std::function<CopyResult(const CopyProgress&)>& work) {
  const CopyResult result =
      work([this](std::uint64_t done, std::uint64_t whole) { return progress(done, whole); });
  clear();
  if (!result) return false;
  Tried at_side = tried;
  at_side.what += result->of_source ? " (at the source)" : " (at the target)";
  expect_ok(result->result, at_side);
  return true;
}

int LongWork::exit_code() const {
  return exit_signal + signal_;
}

bool LongWork::progress(std::uint64_t done, std::uint64_t whole) {
  const timespec at_once{};
  if (const int arrived = ::sigtimedwait(&stops_, nullptr, &at_once); arrived > 0) {
    signal_ = arrived;
    return false;
  }
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - last_ < std::chrono::milliseconds(100)) return true;
  last_ = now;
  drawn_ = true;
  std::fprintf(stderr, "\r\x1b[K%s: %u %% of %s", name_.c_str(),
               static_cast<unsigned>(static_cast<double>(done) * 100 /
                                     static_cast<double>(std::max<std::uint64_t>(whole, 1))),
               format_size(whole).c_str());
  std::fflush(stderr);
  return true;
}

void LongWork::clear() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

}  // namespace hum
