// SPDX-License-Identifier: Apache-2.0
#include "devices/mem/mem_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <optional>
#include <string>
#include <thread>

#include "devices/mem/mem_wire.h"
#include "devices/virtio_testing.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum::testing {
namespace {

using namespace mem_wire;
using virtio::testing::FakeDriver;
using virtio::testing::wait_for;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t gib = 1 << 30;
constexpr std::uint64_t block = 2 * mib;
constexpr std::uint16_t ack = 0;
constexpr std::uint16_t nack = 1;
constexpr std::uint16_t busy = 2;
constexpr std::uint16_t error = 3;

// Of 1 GiB in slots of 128 MiB, unless options say otherwise.
struct Bench {
  explicit Bench(const std::string& options = "1G,requested=256M")
      : device(machine.create(mem_kind, options)), driver(machine.memory, *device) {
    driver.activate();
  }

  // The answer's type, and what it says of the state.
  std::pair<std::uint16_t, std::uint16_t> ask(std::uint16_t type, std::uint64_t address,
                                              std::uint16_t blocks) {
    Request request{};
    request.type = type;
    request.address = address;
    request.blocks = blocks;
    request.padding.fill(0xff);  // to be ignored
    request.more_padding.fill(0xff);
    const auto reply = driver.request(0, std::as_bytes(std::span(&request, 1)), sizeof(Response));
    REQUIRE(reply);
    CHECK(reply->written == sizeof(Response));
    return {static_cast<std::uint16_t>(load_le(std::span(reply->data).first(2))),
            static_cast<std::uint16_t>(load_le(std::span(reply->data).subspan(8, 2)))};
  }
  // Places are bytes from the region's beginning on.
  std::uint16_t plug(std::uint64_t at, std::uint16_t blocks) {
    return ask(type_plug, begin().value + at, blocks).first;
  }
  std::uint16_t unplug(std::uint64_t at, std::uint16_t blocks) {
    return ask(type_unplug, begin().value + at, blocks).first;
  }
  std::uint16_t state(std::uint64_t at, std::uint16_t blocks) {
    const auto [type, state] = ask(type_state, begin().value + at, blocks);
    CHECK(type == ack);
    return state;
  }
  std::uint64_t config(std::uint32_t offset) const {
    std::array<std::byte, 8> bytes{};
    device->read_config(offset, bytes);
    return load_le(bytes);
  }
  GuestAddress begin() const { return {config(16)}; }
  std::uint64_t usable() const { return config(32); }
  std::uint64_t plugged() const { return config(40); }
  std::uint64_t requested() const { return config(48); }
  void request(const std::string& size) {
    device->apply(OptionValues::parse("mem", mem_kind.options, "1G").changed("mem0", "requested=" + size));
  }
  bool has(std::uint64_t at) const { return machine.memory.contains({begin() + at, 1}); }
  std::byte* host(std::uint64_t at) const { return machine.memory.device_regions()[0].host + at; }
  // Whether the host has memory for a page.
  bool takes_memory(std::uint64_t at) const {
    unsigned char resident = 0;
    return ::mincore(host(at), 4096, &resident) == 0 && (resident & 1) != 0;
  }

  VirtioMachine machine;
  std::unique_ptr<virtio::VirtioDevice> device;
  FakeDriver driver;
};

std::string error_of(const std::string& options) {
  VirtioMachine machine;
  return config_error_of([&] { machine.create(mem_kind, options); });
}

}  // namespace

TEST_CASE("the guest sees a region at a multiple of 2 GiB above its RAM, of which nothing is plugged") {
  Bench bench;
  CHECK(bench.device->type() == 24);
  CHECK(bench.device->features() == feature_unplugged_inaccessible);
  CHECK(bench.config(0) == block);
  CHECK(bench.config(8) == 0);
  CHECK(bench.begin().value % (2 * gib) == 0);
  CHECK(bench.begin().value >= 4 * gib);
  CHECK(bench.config(24) == gib);
  CHECK(bench.usable() == 512 * mib);
  CHECK(bench.plugged() == 0);
  CHECK(bench.requested() == 256 * mib);
  CHECK(bench.config(56) == 0);
  CHECK(bench.machine.slots.all().empty());
  CHECK_FALSE(bench.has(0));
}

TEST_CASE("blocks are plugged, used and unplugged, their memory comes from the host and goes back") {
  Bench bench;
  CHECK(bench.plug(4 * mib, 2) == ack);
  CHECK(bench.plugged() == 4 * mib);
  CHECK_FALSE(bench.has(4 * mib - 1));
  CHECK(bench.machine.memory.contains({bench.begin() + 4 * mib, 4 * mib}));
  CHECK_FALSE(bench.has(8 * mib));
  CHECK_FALSE(bench.takes_memory(4 * mib));
  bench.machine.memory.write(bench.begin() + 4 * mib, le32(7));
  CHECK(bench.takes_memory(4 * mib));
  CHECK(bench.unplug(4 * mib, 1) == ack);
  CHECK_FALSE(bench.takes_memory(4 * mib));
  CHECK_THROWS_AS(bench.machine.memory.read<le32>(bench.begin() + 4 * mib), GuestError);
  CHECK(bench.has(6 * mib));
  CHECK(bench.plugged() == 2 * mib);
  CHECK(bench.plug(4 * mib, 1) == ack);
  CHECK(bench.machine.memory.read<le32>(bench.begin() + 4 * mib) == 0);
  CHECK(bench.driver.events().config_changes == 0);
}

TEST_CASE("the processors have the slots with at least one plugged block, and no others") {
  Bench bench("1G,requested=512M,slot-size=128M");
  const auto slots = [&] {
    std::vector<std::uint64_t> at;
    for (const auto& slot : bench.machine.slots.all()) {
      CHECK(slot.range.size == 128 * mib);
      CHECK_FALSE(slot.read_only);
      CHECK(slot.host == bench.host(slot.range.begin.value - bench.begin().value));
      at.push_back((slot.range.begin.value - bench.begin().value) / (128 * mib));
    }
    std::sort(at.begin(), at.end());
    return at;
  };
  CHECK(bench.plug(126 * mib, 2) == ack);  // the last of one and the first of the next
  CHECK(slots() == std::vector<std::uint64_t>{0, 1});
  CHECK(bench.plug(256 * mib, 64) == ack);
  CHECK(slots() == std::vector<std::uint64_t>{0, 1, 2});
  CHECK(bench.unplug(126 * mib, 1) == ack);
  CHECK(slots() == std::vector<std::uint64_t>{1, 2});
  CHECK(bench.unplug(256 * mib, 63) == ack);
  CHECK(slots() == std::vector<std::uint64_t>{1, 2});
  CHECK(bench.unplug(382 * mib, 1) == ack);
  CHECK(slots() == std::vector<std::uint64_t>{1});
  CHECK(bench.ask(type_unplug_all, 0, 0).first == ack);
  CHECK(slots().empty());
}

TEST_CASE("what the processors have touched beside the plugged blocks goes with the slot") {
  Bench bench;
  CHECK(bench.plug(0, 1) == ack);
  *bench.host(100 * mib) = std::byte{1};
  CHECK(bench.takes_memory(100 * mib));
  CHECK(bench.unplug(0, 1) == ack);
  CHECK_FALSE(bench.takes_memory(100 * mib));
}

TEST_CASE("never more is plugged than was requested, to the block") {
  Bench bench("1G,requested=6M");
  CHECK(bench.plug(0, 4) == nack);
  CHECK(bench.plug(0, 3) == ack);
  CHECK(bench.plug(6 * mib, 1) == nack);
  bench.request("8M");
  CHECK(bench.plug(6 * mib, 2) == nack);
  CHECK(bench.plug(6 * mib, 1) == ack);
  bench.request("2M");
  CHECK(bench.plugged() == 8 * mib);  // the guest's business
  CHECK(bench.unplug(0, 3) == ack);
  CHECK(bench.plug(0, 1) == nack);
  CHECK(bench.device->report()[4].value == 4);
}

TEST_CASE("requests that are wrong are answered with an error, and change nothing") {
  Bench bench("1G,requested=256M");
  REQUIRE(bench.plug(64 * mib, 2) == ack);
  const std::uint64_t begin = bench.begin().value;
  const std::uint64_t end = begin + bench.usable();
  struct Wrong {
    std::uint64_t address;
    std::uint16_t blocks;
  };
  for (const auto& [address, blocks] :
       {Wrong{begin, 0}, Wrong{begin + 1, 1}, Wrong{begin + mib, 1}, Wrong{begin - block, 1}, Wrong{0, 1},
        Wrong{end, 1}, Wrong{end - block, 2}, Wrong{begin, 0xffff}, Wrong{UINT64_MAX - block + 1, 1},
        Wrong{UINT64_MAX - block + 1, 0xffff}, Wrong{UINT64_MAX, 1}, Wrong{begin + gib, 1}})
    for (const std::uint16_t type : {type_plug, type_unplug, type_state})
      CHECK(bench.ask(type, address, blocks).first == error);
  CHECK(bench.plug(66 * mib, 1) == error);  // is plugged
  CHECK(bench.plug(62 * mib, 2) == error);  // the second is
  CHECK(bench.unplug(62 * mib, 2) == error);
  CHECK(bench.unplug(66 * mib, 2) == error);
  CHECK(bench.unplug(0, 1) == error);
  for (const std::uint16_t type : {std::uint16_t{4}, std::uint16_t{0x100}, std::uint16_t{0xffff}})
    CHECK(bench.ask(type, begin + 64 * mib, 1).first == error);
  CHECK(bench.plugged() == 4 * mib);
  CHECK(bench.state(64 * mib, 2) == 0);
  CHECK(bench.machine.slots.all().size() == 1);
  CHECK(bench.unplug(64 * mib, 2) == ack);
}

TEST_CASE("a request that is too short is wrong, one without room for its answer breaks the ring") {
  Bench bench;
  const std::array<std::byte, sizeof(Request) - 1> little{};
  const auto reply = bench.driver.request(0, little, sizeof(Response));
  CHECK(load_le(std::span(reply->data).first(2)) == error);
  CHECK(load_le(std::span(bench.driver.request(0, {}, 64)->data).first(2)) == error);
  Request request{};
  bench.driver.queue(0).add({{bench.driver.place(std::as_bytes(std::span(&request, 1))), sizeof request},
                             {bench.driver.allocate(16, 16), sizeof(Response) - 1, true}});
  bench.driver.kick(0);
  CHECK(wait_for(bench.driver.events().broken));
  bench.driver.reset();
  bench.driver.activate();
  CHECK(bench.plug(0, 1) == ack);
}

TEST_CASE("the state of blocks is told: plugged, unplugged, or some of both") {
  Bench bench;
  REQUIRE(bench.plug(2 * mib, 2) == ack);
  CHECK(bench.state(2 * mib, 2) == 0);
  CHECK(bench.state(0, 1) == 1);
  CHECK(bench.state(6 * mib, 5) == 1);
  CHECK(bench.state(0, 2) == 2);
  CHECK(bench.state(4 * mib, 2) == 2);
  CHECK(bench.state(0, 128) == 2);
}

TEST_CASE("another requested size is told of, the usable region grows with it and shrinks by unplug-all") {
  Bench bench("1G");
  CHECK(bench.usable() == 256 * mib);
  bench.request("512M");
  CHECK(bench.driver.events().config_changes == 1);
  CHECK(bench.requested() == 512 * mib);
  CHECK(bench.usable() == 768 * mib);
  bench.request("512M");
  CHECK(bench.driver.events().config_changes == 1);
  REQUIRE(bench.plug(766 * mib, 1) == ack);
  bench.request("0");
  CHECK(bench.driver.events().config_changes == 2);
  CHECK(bench.usable() == 768 * mib);
  CHECK(bench.ask(type_unplug_all, 0, 0).first == ack);
  CHECK(bench.usable() == 256 * mib);
  CHECK(bench.plugged() == 0);
  CHECK(bench.driver.events().config_changes == 2);
  bench.request("1G");
  CHECK(bench.usable() == gib);
}

TEST_CASE("a size that is requested in a pause is told of at its end, and before a driver to nobody") {
  Bench bench("1G");
  bench.driver.pause();
  bench.request("2M");
  CHECK(bench.driver.events().config_changes == 1);  // the interrupt waits in the transport
  bench.driver.resume();
  CHECK(bench.driver.events().config_changes == 1);
  bench.driver.reset();
  bench.request("4M");
  CHECK(bench.driver.events().config_changes == 1);
  bench.driver.activate();
  CHECK(bench.driver.events().config_changes == 2);
}

TEST_CASE("sizes that cannot be requested are refused by name") {
  Bench bench("1G,requested=2M");
  for (const char* const size : {"1025M", "3M", "1"})
    CHECK(contains(config_error_of([&] { bench.request(size); }), ".requested"));
  CHECK(bench.requested() == 2 * mib);
  bench.request("1G");
  const auto options = OptionValues::parse("mem", mem_kind.options, "1G");
  for (const char* const fixed : {"total=2G", "slot-size=256M", "block-size=4M"})
    CHECK_THROWS_AS(options.changed("mem0", fixed), ConfigError);
}

TEST_CASE("layouts that do not fit together are refused by name") {
  CHECK(contains(error_of("1G,block-size=3M"), "mem.block-size"));
  CHECK(contains(error_of("1G,block-size=1M"), "block-size"));
  CHECK(contains(error_of("1G,block-size=256M"), "mem.slot-size"));
  CHECK(contains(error_of("1G,slot-size=129M"), "mem.slot-size"));
  CHECK(contains(error_of("1000M"), "mem.total"));
  CHECK(contains(error_of("1G,requested=2G"), "mem.requested"));
  CHECK(contains(error_of("1G,requested=1M"), "mem.requested"));
  CHECK(contains(error_of(""), "total"));
  VirtioMachine machine;
  machine.device_memory.limit(33);
  CHECK(contains(config_error_of([&] { machine.create(mem_kind, "8G"); }), "mem.total"));
  CHECK_NOTHROW(machine.create(mem_kind, "4G"));
  CHECK(machine.memory.device_regions().empty());
  CHECK_NOTHROW(VirtioMachine().create(mem_kind, "128M,slot-size=128M,block-size=128M"));
}

TEST_CASE("a slot that the host refuses makes the device busy, and no block is plugged") {
  Bench bench("1G,requested=512M");
  REQUIRE(bench.plug(126 * mib, 1) == ack);
  bench.machine.slots.refused = true;
  CHECK(bench.plug(124 * mib, 3) == error);
  CHECK(bench.plug(128 * mib, 65) == busy);
  CHECK(bench.plug(128 * mib, 65) == busy);
  CHECK(bench.plugged() == 2 * mib);
  CHECK(bench.machine.slots.all().size() == 1);
  const std::string logged = bench.machine.logged();
  CHECK(logged.find("cannot") == logged.rfind("cannot"));
  CHECK(bench.plug(0, 63) == ack);  // needs no new one
  bench.machine.slots.refused = false;
  CHECK(bench.plug(128 * mib, 65) == ack);
  CHECK(bench.machine.slots.all().size() == 3);
}

TEST_CASE("memory that the host does not take back is unplugged all the same, and told of once") {
  Bench bench;
  REQUIRE(bench.plug(0, 4) == ack);
  if (::mlock2(bench.host(0), 8 * mib, 0) != 0) {
    WARN("skipped: this user may not lock 8 MiB");
    return;
  }
  CHECK(bench.unplug(0, 1) == ack);
  CHECK(bench.unplug(2 * mib, 1) == ack);
  CHECK(bench.plugged() == 4 * mib);
  CHECK_FALSE(bench.has(0));
  const std::string logged = bench.machine.logged();
  CHECK(contains(logged, "does not take memory back"));
  CHECK(logged.find("take memory") == logged.rfind("take memory"));
}

TEST_CASE("a reset of the device changes no block, its end leaves no slot and no memory") {
  Bench bench;
  REQUIRE(bench.plug(0, 3) == ack);
  bench.machine.memory.write(bench.begin(), le32(7));
  bench.driver.reset();
  CHECK(bench.plugged() == 6 * mib);
  bench.driver.activate();
  CHECK(bench.state(0, 3) == 0);
  CHECK(bench.machine.memory.read<le32>(bench.begin()) == 7);
  VirtioMachine machine;
  {
    const auto device = machine.create(mem_kind, "1G");
    CHECK(machine.memory.device_regions().size() == 1);
  }
  CHECK(machine.memory.device_regions().empty());
  CHECK(machine.slots.all().empty());
}

TEST_CASE("requests and rings may lie in plugged memory, even in what they unplug") {
  Bench bench;
  REQUIRE(bench.plug(0, 1) == ack);
  Request request{};
  request.type = type_unplug;
  request.address = bench.begin().value;
  request.blocks = 1;
  bench.machine.memory.write_bytes(bench.begin(), std::as_bytes(std::span(&request, 1)));
  bench.driver.queue(0).add({{bench.begin(), sizeof request, false}, {bench.begin() + 64, 10, true}});
  bench.driver.kick(0);
  REQUIRE(bench.driver.wait_used(0));
  CHECK(bench.plugged() == 0);
  bench.driver.queue(0).add({{bench.begin(), sizeof request, false}, {bench.begin() + 64, 10, true}});
  bench.driver.kick(0);
  CHECK(wait_for(bench.driver.events().broken));  // unplugged now
}

TEST_CASE("sizes are read and requested while blocks come and go") {
  Bench bench("1G,requested=64M");
  std::atomic<bool> done = false;
  std::thread owner([&] {
    while (!done) {
      CHECK(bench.plugged() <= 64 * mib);
      CHECK(bench.usable() >= bench.requested());
      bench.request("64M");
    }
  });
  for (int i = 0; i < 200; ++i) {
    CHECK(bench.plug(128 * mib, 32) == ack);
    CHECK(bench.plug(0, 1) == nack);
    CHECK(bench.unplug(128 * mib, 32) == ack);
  }
  done = true;
  owner.join();
}

TEST_CASE("the blocks go on in another machine, with their memory and slots") {
  Bench source("1G,requested=64M,slot-size=2M");
  REQUIRE(source.plug(4 * mib, 2) == ack);
  source.machine.memory.write(source.begin() + 4 * mib, le32(9));
  source.driver.pause();
  const GuestAddress begin = source.begin();
  const auto state = state_of(*source.device);
  GuestMemory memory = std::move(source.machine.memory);
  FakeSlots slots;
  DeviceMemory places(memory, slots, {4 * gib});
  VirtioMachine next;
  DeviceContext context{memory,       next.ports,   next.mmio, next.pins,
                        next.control, next.console, next.log,  places};
  const auto device = std::get<DeviceKind::VirtioFactory>(mem_kind.create)(
      OptionValues::parse("mem", mem_kind.options, "1G,slot-size=2M"), context);
  restore(*device, state);
  CHECK(state_of(*device) == state);
  CHECK(slots.all().size() == 2);
  CHECK(memory.read<le32>(begin + 4 * mib) == 9);
  CHECK_FALSE(memory.contains({begin, 1}));
  CHECK(device->report()[0].value == 4 * mib);
  CHECK(device->report()[1].value == 64 * mib);
}

TEST_CASE("a guest whose driver is gone has its blocks still") {
  Bench bench("16M,requested=8M,slot-size=4M");
  CHECK_FALSE(bench.device->holds_memory());
  REQUIRE(bench.plug(0, 1) == ack);
  bench.driver.reset();
  CHECK(bench.device->holds_memory());
  bench.driver.activate();
  REQUIRE(bench.unplug(0, 1) == ack);
  CHECK_FALSE(bench.device->holds_memory());
}

TEST_CASE("a size that was requested while there was nobody to tell is told of by another machine") {
  Bench source("16M,slot-size=4M");
  source.driver.reset();
  source.device->apply(
      OptionValues::parse("mem", mem_kind.options, "16M,slot-size=4M").changed("mem0", "requested=4M"));
  VirtioMachine machine;
  const auto next = machine.create(mem_kind, "16M,slot-size=4M");
  restore(*next, state_of(*source.device));
  FakeDriver driver(machine.memory, *next);
  driver.activate();
  CHECK(driver.events().config_changes == 1);
}

TEST_CASE("a state that was damaged is refused as a whole, or taken as it is") {
  Bench source("16M,requested=8M,slot-size=4M");
  REQUIRE(source.plug(2 * mib, 3) == ack);
  source.driver.pause();
  VirtioMachine machine;
  const auto fresh = machine.create(mem_kind, "16M,slot-size=4M");
  CHECK(mistakes_in_fields(*source.device, *fresh) == "");
  CHECK(machine.slots.all().size() == 2);
  CHECK(machine.memory.contains({source.begin() + 2 * mib, 6 * mib}));
  const auto state = state_of(*source.device);
  for (const char* const other : {"32M,slot-size=4M", "16M,slot-size=8M", "16M,slot-size=4M,block-size=4M"})
    CHECK_THROWS_AS(restore(*machine.create(mem_kind, other), state), ConfigError);
}

}  // namespace hum::testing
