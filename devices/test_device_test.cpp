// SPDX-License-Identifier: Apache-2.0
#include "devices/test_device.h"

#include <chrono>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "devices/testing.h"
#include "vmm/acpi/fixed_hardware.h"
#include "vmm/base/state.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

struct Fixture {
  FakeMachine machine;
  std::unique_ptr<PlatformDevice> device = make_platform_device(test_device_kind, machine);

  void say(std::string_view text) {
    for (const char letter : text) machine.out(0x8900, static_cast<unsigned char>(letter));
  }
};

}  // namespace

TEST_CASE("the latch gives back what was written at every width") {
  Fixture fixture;
  CHECK(fixture.machine.out(0xe0, 0x11223344, 4));
  CHECK(fixture.machine.in(0xe0, 4) == 0x11223344u);
  CHECK(fixture.machine.in(0xe0, 2) == 0x3344u);
  CHECK(fixture.machine.in(0xe0, 1) == 0x44u);
  CHECK(fixture.machine.in(0xe2, 2) == 0x1122u);
  fixture.machine.out(0xe0, 0xaa, 1);
  CHECK(fixture.machine.in(0xe0, 4) == 0x112233aau);
  fixture.machine.out(0xe2, 0xbbcc, 2);
  CHECK(fixture.machine.in(0xe0, 4) == 0xbbcc33aau);
}

TEST_CASE("the eight bytes at 0xe8 are their own, and end at 0xef") {
  Fixture fixture;
  for (unsigned i = 0; i < 8; ++i) CHECK(fixture.machine.out(0xe8 + i, 0x10 + i));
  for (unsigned i = 0; i < 8; ++i) CHECK(fixture.machine.in(0xe8 + i) == 0x10 + i);
  CHECK(fixture.machine.in(0xe0, 4) == 0u);
  CHECK_FALSE(fixture.machine.in(0xf0));
  CHECK_FALSE(fixture.machine.in(0xdf));
}

TEST_CASE("the memory keeps what is written, from its first byte to its last") {
  Fixture fixture;
  CHECK(fixture.machine.store(0xff000000, 0x1122334455667788, 8));
  CHECK(fixture.machine.store(0xff00fffc, 0x99aabbcc));
  CHECK(fixture.machine.load(0xff000000, 8) == 0x1122334455667788u);
  CHECK(fixture.machine.load(0xff000001, 2) == 0x6677u);
  CHECK(fixture.machine.load(0xff00ffff, 1) == 0x99u);
  CHECK(fixture.machine.load(0xff008000) == 0u);
  CHECK_FALSE(fixture.machine.load(0xfeffffff, 1));
  CHECK_FALSE(fixture.machine.load(0xff010000, 1));
}

TEST_CASE("an access across the end of the memory reaches what is in it only") {
  Fixture fixture;
  CHECK(fixture.machine.store(0xff00fffe, 0x11223344));
  CHECK(fixture.machine.load(0xff00fffe) == 0xffff3344u);
}

TEST_CASE("a line rises with any value but 0, at every width") {
  Fixture fixture;
  fixture.machine.out(0x2000, 1, 1);
  fixture.machine.out(0x2000, 0, 1);
  fixture.machine.out(0x200e, 0x0100, 2);
  fixture.machine.out(0x2017, 0x80000000, 4);
  fixture.machine.out(0x2017, 0, 4);
  CHECK_FALSE(fixture.machine.out(0x2018, 1));
  const std::vector<std::pair<std::uint32_t, bool>> expected = {
      {0, true}, {0, false}, {14, true}, {23, true}, {23, false}};
  CHECK(fixture.machine.pins.levels == expected);
  CHECK(fixture.machine.in(0x2000) == 0xffu);
}

TEST_CASE("the PM timer counts at its frequency and ignores writes") {
  Fixture fixture;
  using Clock = std::chrono::steady_clock;
  const auto before = Clock::now();
  const std::uint64_t first = fixture.machine.in(acpi::pm_timer_port, 4).value();
  const auto after_first = Clock::now();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  fixture.machine.out(acpi::pm_timer_port, 0, 4);
  const auto before_second = Clock::now();
  const std::uint64_t second = fixture.machine.in(acpi::pm_timer_port, 4).value();
  const auto after = Clock::now();
  const auto ticks = [](Clock::duration time) {
    return std::chrono::duration<double>(time).count() * 3579545;
  };
  CHECK(static_cast<double>(second - first) >= ticks(before_second - after_first) - 1);
  CHECK(static_cast<double>(second - first) <= ticks(after - before) + 1);
}

TEST_CASE("the PM timer has four bytes and no more") {
  Fixture fixture;
  const std::uint64_t whole = fixture.machine.in(acpi::pm_timer_port, 4).value();
  CHECK(fixture.machine.in(acpi::pm_timer_port + 3, 2).value() >> 8 == 0xffu);
  CHECK(fixture.machine.in(acpi::pm_timer_port + 3, 1).value() == whole >> 24);
  CHECK_FALSE(fixture.machine.in(acpi::pm_timer_port + 4));
}

TEST_CASE("the text Shutdown switches off, and nothing that only looks like it") {
  Fixture fixture;
  for (const std::string_view text : {"shutdown", "Shutdow", "Shutdo wn", "hutdown", "SShutdow"}) {
    fixture.say(text);
    fixture.say(".");
    CHECK(fixture.machine.control.power_offs == 0);
  }
  fixture.say("Shutdown");
  CHECK(fixture.machine.control.power_offs == 1);
  fixture.say("ShutShutdown");
  CHECK(fixture.machine.control.power_offs == 2);
  CHECK(fixture.machine.in(0x8900) == 0xffu);
}

TEST_CASE("a page that is flushed keeps its content and stays in use, any other address is ignored") {
  Fixture fixture;
  const GuestMemory& memory = fixture.machine.memory;
  memory.write<std::uint64_t>(GuestAddress{0x5ff8}, 0x1122334455667788);
  for (const std::uint64_t address :
       {std::uint64_t{0}, std::uint64_t{0x5000}, std::uint64_t{0x5fff}, memory.size() - 1, memory.size(),
        std::uint64_t{0xfee00000}, std::uint64_t{0xfffff000}, std::uint64_t{0xffffffff}})
    CHECK(fixture.machine.out(0xe4, address, 4));
  CHECK(memory.read<std::uint64_t>(GuestAddress{0x5ff8}) == 0x1122334455667788u);
  memory.write<std::uint8_t>(GuestAddress{0x5000}, 1);
  CHECK(memory.read<std::uint8_t>(GuestAddress{0x5000}) == 1);
}

TEST_CASE("a guest that hammers every port of the test device breaks nothing") {
  Fixture fixture;
  std::vector<std::thread> vcpus;
  for (int i = 0; i < 2; ++i)
    vcpus.emplace_back([&] {
      for (int round = 0; round < 20; ++round)
        for (const std::uint64_t base :
             {std::uint64_t{0xe0}, std::uint64_t{acpi::pm_timer_port}, std::uint64_t{0x8900}})
          access_everything(fixture.machine, base, base == 0xe0 ? 16 : 4);
    });
  for (std::thread& vcpu : vcpus) vcpu.join();
  access_everything(fixture.machine, 0x2000, 24);
  for (const std::size_t width : {1u, 2u, 4u, 8u}) {
    fixture.machine.store(0xff00ffff, UINT64_MAX, width);
    CHECK(fixture.machine.load(0xff00ffff, width).has_value());
  }
  CHECK(fixture.machine.control.power_offs == 0);
  CHECK(fixture.machine.control.exit_codes.empty());
}

TEST_CASE("the state of the test device goes over to another, its timer goes on from there") {
  Fixture source;
  Fixture target;
  source.machine.out(0xe0, 0x11223344, 4);
  source.machine.out(0xef, 0x55);
  source.machine.store(0xff00fffc, 0x66778899);
  source.say("Shut");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::uint64_t ticks = source.machine.in(acpi::pm_timer_port, 4).value();
  StateWriter writer;
  source.device->fields(writer);
  const std::vector<std::byte> state = std::move(writer).finish();
  StateReader reader(state);
  target.device->fields(reader);
  reader.finish();
  CHECK(target.machine.in(0xe0, 4) == 0x11223344u);
  CHECK(target.machine.in(0xef) == 0x55u);
  CHECK(target.machine.load(0xff00fffc) == 0x66778899u);
  CHECK(target.machine.in(acpi::pm_timer_port, 4).value() >= ticks);
  target.say("down");
  CHECK(target.machine.control.power_offs == 1);
}

TEST_CASE("the guest is not told of the test device by a node") {
  Fixture fixture;
  CHECK(fixture.device->acpi_node().empty());
}

}  // namespace hum::testing
