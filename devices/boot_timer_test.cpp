// SPDX-License-Identifier: Apache-2.0
#include "devices/boot_timer.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "devices/testing.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

// A machine with a timer, and what that has logged.
struct Bench {
  explicit Bench(const std::string& options = {}) {
    machine.log = Log(
        [this](LogLevel level, std::string_view text) {
          CHECK(level == LogLevel::info);
          lines.emplace_back(text);
        },
        LogLevel::info);
    device = make_platform_device(boot_timer_kind, machine, options);
  }
  bool write(std::uint64_t offset, std::uint64_t value, std::size_t width = 1) {
    return machine.store(0xc0000000 + offset, value, width);
  }

  FakeMachine machine;
  std::vector<std::string> lines;
  std::unique_ptr<PlatformDevice> device;
};

}  // namespace

TEST_CASE("a guest that writes 123 has started, and the log says in how long, once") {
  const BootMoment now = BootMoment::now();
  Bench bench("since-us=" + std::to_string(now.wall.count() - 12'345'678) + ",since-cpu-us=0");
  CHECK(bench.write(0, 123));
  REQUIRE(bench.lines.size() == 1);
  long long wall_us = 0;
  long long wall_ms = 0;
  long long cpu_us = 0;
  long long cpu_ms = 0;
  REQUIRE(std::sscanf(bench.lines[0].c_str(), "Guest-boot-time = %lld us %lld ms, %lld CPU us %lld CPU ms",
                      &wall_us, &wall_ms, &cpu_us, &cpu_ms) == 4);
  CHECK(wall_us >= 12'345'678);
  CHECK(wall_us < 72'345'678);
  CHECK(wall_ms == wall_us / 1000);
  CHECK(cpu_us >= now.cpu.count());
  CHECK(cpu_ms == cpu_us / 1000);
  CHECK(bench.write(0, 123));
  CHECK(bench.lines.size() == 1);
}

TEST_CASE("without a moment given a boot timer counts from when it was made, and one in the future is now") {
  const std::string options = GENERATE("", "since-us=9007199254740992,since-cpu-us=9007199254740992");
  Bench bench(options);
  bench.write(0, 123);
  REQUIRE(bench.lines.size() == 1);
  long long wall_us = -1;
  REQUIRE(std::sscanf(bench.lines[0].c_str(), "Guest-boot-time = %lld us", &wall_us) == 1);
  CHECK(wall_us >= 0);
  CHECK(wall_us < 60'000'000);
}

TEST_CASE("nothing but the byte 123 at the timer's first address is a start") {
  Bench bench;
  for (const std::uint64_t value : {0u, 122u, 124u, 255u}) bench.write(0, value);
  for (const std::size_t width : {2u, 4u, 8u}) bench.write(0, 123, width);
  for (const std::uint64_t offset : {1u, 4u, 0xfffu}) bench.write(offset, 123);
  CHECK(bench.machine.load(0xc0000000, 1) == 0xffu);
  CHECK_FALSE(bench.write(0x1000, 123));
  CHECK_FALSE(bench.machine.store(0xbfffffff, 123, 1));
  CHECK(bench.lines.empty());
  CHECK(bench.device->acpi_node().empty());
}

TEST_CASE("a boot timer that has told stays silent after its state was read back") {
  Bench first;
  first.write(0, 123);
  Bench second;
  CHECK(mistakes_in_fields(*first.device, *second.device).empty());
  second.write(0, 123);
  CHECK(second.lines.empty());
}

}  // namespace hum::testing
