// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/end_latch.h"

#include <array>

#include "vmm/base/endian.h"
#include "vmm/base/testing.h"
#include "vmm/machine/layout.h"

namespace hum {
namespace {

struct Latch {
  GuestMemory memory{std::array{GuestRange{{0}, 0x1000}}};
  int stops = 0;
  EndLatch latch{memory, [this] { ++stops; }};
};

}  // namespace

TEST_CASE("the first end counts and stops the vCPUs once") {
  Latch it;
  CHECK(it.latch.get().cause == EndCause::running);
  it.latch.debug_exit(5);
  it.latch.power_off();
  CHECK_FALSE(it.latch.end({.cause = EndCause::killed}));
  CHECK(it.latch.get().cause == EndCause::debug_exit);
  CHECK(it.latch.get().guest_exit_code == 5u);
  CHECK(it.stops == 1);
}

TEST_CASE("what devices have suffered waits for the owner, and no more of it than a few") {
  Latch it;
  it.latch.device_broke("disk1", "a loop of descriptors");
  it.latch.device_broke("net0", "no room");
  const std::vector<DeviceError> told = it.latch.take_device_errors();
  REQUIRE(told.size() == 2);
  CHECK(told[0].device == "disk1");
  CHECK(told[0].reason == "a loop of descriptors");
  CHECK(told[1].device == "net0");
  CHECK(it.latch.take_device_errors().empty());
  for (int i = 0; i < 1000; ++i) it.latch.device_broke("disk0", "again");
  CHECK(it.latch.take_device_errors().size() == 64);
  CHECK(it.stops == 0);
}

TEST_CASE("a reset is a reboot, unless the kernel left the word that it leaves after a panic") {
  for (const auto& [word, cause] :
       {std::pair(std::uint16_t{0}, EndCause::reboot), std::pair(std::uint16_t{0x1234}, EndCause::panic),
        std::pair(std::uint16_t{0x1235}, EndCause::reboot)}) {
    Latch it;
    it.memory.write(layout::reset_flag, le16(word));
    it.latch.reset();
    CHECK(it.latch.get().cause == cause);
  }
}

TEST_CASE("a triple fault is one, unless it ended a panic") {
  Latch plain;
  plain.latch.triple_fault();
  CHECK(plain.latch.get().cause == EndCause::triple_fault);
  Latch panicked;
  panicked.memory.write(layout::reset_flag, le16(layout::reset_flag_warm));
  panicked.latch.triple_fault();
  CHECK(panicked.latch.get().cause == EndCause::panic);
}

TEST_CASE("RAM above 3 GiB moves behind the hole") {
  using layout::gib;
  CHECK(layout::ram_ranges(3 * gib).size() == 1);
  const auto ranges = layout::ram_ranges(3 * gib + 4096);
  REQUIRE(ranges.size() == 2);
  CHECK(ranges[0] == GuestRange{{0}, 3 * gib});
  CHECK(ranges[1] == GuestRange{{4 * gib}, 4096});
  CHECK(layout::memory_map(5 * gib, true).size() == 5);
  CHECK(layout::memory_map(gib, false).size() == 3);
}

TEST_CASE("a record is one JSON document, whatever the guest printed") {
  EndRecord record;
  record.cause = EndCause::debug_exit;
  record.guest_exit_code = 7;
  record.console = {"plain", "\xff\xfe broken"};
  const std::string json = record.to_json();
  CHECK(json.find("\"cause\": \"debug-exit\"") != std::string::npos);
  CHECK(json.find("\"guest_exit_code\": 7") != std::string::npos);
  CHECK(json.find('\xff') == std::string::npos);
}

}  // namespace hum
