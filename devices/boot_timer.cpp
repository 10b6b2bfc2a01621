// SPDX-License-Identifier: Apache-2.0
#include "devices/boot_timer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <ctime>

#include "vmm/base/endian.h"

namespace hum {
namespace {

constexpr std::uint64_t address = 0xc0000000;
constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t started = 123;

constexpr std::uint64_t latest = std::uint64_t{1} << 53;

constexpr OptionSpec options[] = {
    {.key = "since-us",
     .type = OptionType::integer,
     .help = "when the start began, CLOCK_MONOTONIC in microseconds (default: now)",
     .maximum = latest},
    {.key = "since-cpu-us",
     .type = OptionType::integer,
     .help = "the process's CPU time then, in microseconds (default: now)",
     .maximum = latest},
};

std::chrono::microseconds time_of(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::seconds(time.tv_sec) +
                                                               std::chrono::nanoseconds(time.tv_nsec));
}

// Any number of vCPUs may write at once; the first one counts.
class BootTimer : public PlatformDevice, private RegisterWindow {
 public:
  BootTimer(const OptionValues& values, DeviceContext& context)
      : log_(context.log), mapping_(context.mmio.map("boot-timer", address, page, *this)) {
    if (values.has("since-us")) since_.wall = std::chrono::microseconds(values.number("since-us"));
    if (values.has("since-cpu-us")) since_.cpu = std::chrono::microseconds(values.number("since-cpu-us"));
  }

  void fields(StateVisitor& visitor) override { visitor.flag("done", done_); }

 private:
  void read(std::uint64_t /*offset*/, std::span<std::byte> /*data*/) override {}
  void write(std::uint64_t offset, std::span<const std::byte> data) override {
    if (offset != 0 || data.size() != 1 || load_le(data) != started || done_.exchange(true)) return;
    const BootMoment now = BootMoment::now();
    const auto since = [](auto from, auto to) {
      return static_cast<long long>(std::max(to - from, std::chrono::microseconds(0)).count());
    };
    const long long wall = since(since_.wall, now.wall);
    const long long cpu = since(since_.cpu, now.cpu);
    std::array<char, 160> text{};
    std::snprintf(text.data(), text.size(), "Guest-boot-time = %6lld us %lld ms, %6lld CPU us %lld CPU ms",
                  wall, wall / 1000, cpu, cpu / 1000);
    log_.info(text.data());
  }

  const Log& log_;
  BootMoment since_ = BootMoment::now();
  std::atomic<bool> done_ = false;
  AddressDecoder::Mapping mapping_;
};

std::unique_ptr<PlatformDevice> make(const OptionValues& values, DeviceContext& context) {
  return std::make_unique<BootTimer>(values, context);
}

}  // namespace

BootMoment BootMoment::now() {
  return {time_of(CLOCK_MONOTONIC), time_of(CLOCK_PROCESS_CPUTIME_ID)};
}

constinit const DeviceKind boot_timer_kind{
    .name = "boot-timer",
    .help =
        "memory at 0xc0000000: the guest writes the byte 123 when it has started, and the log says how long "
        "it took",
    .options = options,
    .create = make,
};

}  // namespace hum
