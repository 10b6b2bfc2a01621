// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/vhost_user_block.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "devices/vhost_user/testing.h"
#include "devices/virtio_testing.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum::testing {
namespace {

using namespace block_wire;
using virtio::testing::FakeDriver;
using virtio::testing::wait_for;
using Behaviour = FakeVhostServer::Behaviour;
using Fault = FakeVhostServer::Fault;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t no_inflight = ~vhost_user_wire::protocol_inflight;

struct Folder {
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hum-test-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

// A machine with shared memory in two pieces, a server, and a disk of both.
struct World {
  explicit World(Behaviour given = {}, std::chrono::milliseconds patience = std::chrono::seconds(5))
      : behaviour(std::move(given)) {
    settings.path = (folder.path / "socket").string();
    settings.queue_size = 16;
    settings.patience = patience;
    start();
  }

  FakeVhostServer& start() { return server.emplace(settings.path, content, behaviour); }
  VhostUserBlock& make() {
    return *(device = std::make_unique<VhostUserBlock>(settings, machine_memory, machine.log));
  }
  // A disk with a running driver.
  FakeDriver& run() {
    FakeDriver& running = driver.emplace(machine_memory, make());
    running.activate();
    return running;
  }

  void offer(std::uint32_t type, std::uint64_t sector, std::byte fill = {}) {
    std::vector<std::byte> request(sizeof(Header) + (type == type_out ? sector_size : 0), fill);
    const Header header{type, 0, sector};
    std::memcpy(request.data(), &header, sizeof header);
    const GuestAddress readable = driver->place(request);
    const std::uint32_t room = type == type_in ? 513 : 1;
    const GuestAddress writable = driver->allocate(room, 16);
    machine_memory.write(writable + (room - 1), std::uint8_t{0xff});
    driver->queue(0).add({{readable, static_cast<std::uint32_t>(request.size())}, {writable, room, true}});
    driver->kick(0);
    answers.push_back(writable);
  }
  std::byte answer(std::size_t request, std::uint64_t offset = 0) const {
    return machine_memory.read<std::byte>(answers.at(request) + offset);
  }
  // The first byte of a sector, after all that the server has answered.
  std::byte stored(std::uint64_t sector) const {
    return server->answered != 0 ? content[sector * sector_size] : std::byte{0};
  }
  template <class Condition>
  bool soon(Condition&& condition) const {
    for (int i = 0; i < 5000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  std::uint64_t reconnections() const { return device->report().at(0).value; }
  bool says(const std::string& text) const { return contains(machine.logged(), text); }

  Folder folder;
  VirtioMachine machine;
  GuestMemory machine_memory{
      std::array{GuestRange{GuestAddress{0}, 4 << 20}, GuestRange{GuestAddress{8 << 20}, 4 << 20}},
      MemoryBacking{.shared = true}};
  std::vector<std::byte> content = std::vector<std::byte>(64 * sector_size, std::byte{7});
  Behaviour behaviour;
  VhostUserBlock::Settings settings;
  std::optional<FakeVhostServer> server;
  std::unique_ptr<VhostUserBlock> device;
  std::optional<FakeDriver> driver;
  std::vector<GuestAddress> answers;
};

// Only silence is found out by waiting.
std::chrono::milliseconds patience_for(Fault fault) {
  return fault == Fault::silence ? std::chrono::milliseconds(150) : std::chrono::seconds(30);
}

bool is_reason(const std::string& error, Fault fault) {
  switch (fault) {
    case Fault::close:
      return contains(error, "closed the connection") || contains(error, "connection is lost");
    case Fault::silence:
      return contains(error, "does not answer");
    case Fault::short_answer:
      return contains(error, "has a wrong size");
    case Fault::wrong_answer:
    case Fault::no_flag:
      return contains(error, "but something else");
    case Fault::refusal:
      return contains(error, "it refuses");
    case Fault::none:
      break;
  }
  return false;
}

// The messages up to a running ring, with every protocol feature. Those of the connection: features, owner,
// protocol features (read and set), queues, channel, configuration.
constexpr unsigned connect_messages = 7;
// Configuration (read, and the write cache), features, memory, list of requests (read and set), and of the
// ring size, base, addresses, call, enable, kick.
constexpr unsigned all_messages = connect_messages + 12;

}  // namespace

TEST_CASE("a disk of another process is read and written, also in the second piece of memory") {
  World world;
  FakeDriver& driver = world.run();
  world.offer(type_in, 3);
  REQUIRE(driver.wait_used(0) == virtio::testing::UsedElement{0, 513});
  CHECK(world.answer(0) == std::byte{7});
  CHECK(world.answer(0, 512) == std::byte{0});
  const Header header{type_out, 0, 5};
  std::vector<std::byte> request(sizeof header + sector_size, std::byte{9});
  std::memcpy(request.data(), &header, sizeof header);
  world.machine_memory.write_bytes({10 << 20}, request);
  driver.queue(0).add({{{10 << 20}, static_cast<std::uint32_t>(request.size())}, {{11 << 20}, 1, true}});
  driver.kick(0);
  REQUIRE(driver.wait_used(0));
  CHECK(world.stored(5) == std::byte{9});
  CHECK(world.stored(6) == std::byte{7});
  CHECK(world.server->clients == 1);
  CHECK(world.reconnections() == 0);
  CHECK(world.machine.logged().empty());
}

TEST_CASE("a server reaches memory that a device has brought, if that is a file it may write to") {
  World world;
  const auto brought = [](bool shared) { return HostMemory::zeroes(1 << 20, {.shared = shared}); };
  world.machine_memory.add({{16 << 20}, 1 << 20}, brought(true), true);
  world.machine_memory.add({{20 << 20}, 1 << 20}, brought(false), true);
  world.machine_memory.add({{24 << 20}, 1 << 20}, brought(true), false);
  FakeDriver& driver = world.run();
  const Header header{type_in, 0, 3};
  const GuestAddress at{16 << 20};
  driver.queue(0).add({{driver.place(bytes_of(header)), sizeof header}, {at, 513, true}});
  driver.kick(0);
  REQUIRE(driver.wait_used(0) == virtio::testing::UsedElement{0, 513});
  CHECK(world.machine_memory.read<std::byte>(at + 511) == std::byte{7});
  CHECK(world.server->regions == 3);
}

TEST_CASE("configuration space is the server's, and what it offers that is unknown here is not passed on") {
  Behaviour behaviour;
  behaviour.features |= 1ull << 33 | 1ull << 40 | 1ull << 16;
  behaviour.features &= ~(1ull << 29);
  World world(behaviour);
  VhostUserBlock& device = world.make();
  CHECK(device.features() == (feature_config_wce | feature_flush | feature_blk_size));
  CHECK(device.ring_features() == virtio::feature_indirect_desc);
  ConfigSpace space{};
  device.read_config(0, writable_bytes_of(space));
  CHECK(space.capacity == 64);
  CHECK(space.blk_size == 512);
  CHECK(space.num_queues == 1);
  CHECK(space.writeback == 1);
}

TEST_CASE("several queues are offered if the server has them") {
  World world;
  world.settings.queues = 2;
  CHECK((world.make().features() & feature_mq) != 0);
  world.device.reset();
  world.settings.queues = 3;
  CHECK(contains(config_error_of([&] { world.make(); }),
                 "queues '3': is more than the server has; give at most 2"));
  world.behaviour.features &= ~feature_mq;
  world.start();
  world.settings.queues = 2;
  CHECK(contains(config_error_of([&] { world.make(); }), "give at most 1"));
}

TEST_CASE("a disk is refused at the start with its socket and what to do") {
  World world;
  SECTION("nobody is there") {
    world.server->die();
    const std::string error = config_error_of([&] { world.make(); });
    CHECK(contains(error, world.settings.path));
    CHECK(contains(error, "qemu-storage-daemon"));
  }
  SECTION("the server has no configuration space") {
    world.behaviour.protocol &= ~vhost_user_wire::protocol_config;
    world.start();
    CHECK(contains(config_error_of([&] { world.make(); }), "does not tell the disk's size"));
  }
  SECTION("the server is of before virtio 1") {
    world.behaviour.features &= ~virtio::feature_version_1;
    world.start();
    CHECK(contains(config_error_of([&] { world.make(); }), "too old"));
  }
  SECTION("the blocks have no size that a driver could use") {
    world.behaviour.block_size = 513;
    world.start();
    CHECK(contains(config_error_of([&] { world.make(); }), "size of its blocks"));
  }
  SECTION("the disk has more than 2^64 bytes") {
    world.behaviour.capacity = 1ull << 55;
    world.start();
    CHECK(contains(config_error_of([&] { world.make(); }), "that many sectors"));
  }
  SECTION("memory is not shared") {
    CHECK(contains(config_error_of([&] { world.machine.create(vhost_user_block_kind, world.settings.path); }),
                   "--shared-memory"));
  }
  SECTION("the path is no path of a socket") {
    world.settings.path = std::string(200, 'x');
    CHECK(contains(config_error_of([&] { world.make(); }), "107 bytes"));
  }
}

TEST_CASE("whatever goes wrong with any message of the connection is an error at the start") {
  for (const Fault fault : {Fault::close, Fault::silence, Fault::short_answer, Fault::wrong_answer,
                            Fault::no_flag, Fault::refusal})
    for (unsigned at = 1; at <= connect_messages; ++at) {
      const bool answered = at != 2 && at != 4;
      const bool acknowledged = at == 6;
      if (fault == Fault::refusal ? !acknowledged : fault != Fault::close && !answered) continue;
      World world({.fault = fault, .fault_at = at}, patience_for(fault));
      INFO("fault " << static_cast<int>(fault) << " at " << at);
      const std::string error = config_error_of([&] { world.make(); });
      INFO(error);
      CHECK(contains(error, "no disk is served there"));
      CHECK(is_reason(error, fault));
    }
}

TEST_CASE("whatever goes wrong as the driver starts is tried again until it works, and no request is lost") {
  for (const Fault fault :
       {Fault::close, Fault::silence, Fault::short_answer, Fault::wrong_answer, Fault::refusal})
    for (unsigned at = connect_messages + 1; at <= all_messages; ++at) {
      const bool acknowledged = at != 8 && at != 12;
      if (fault == Fault::refusal && !acknowledged) continue;
      World world({.fault = fault, .fault_at = at, .faulty_clients = 1}, patience_for(fault));
      INFO("fault " << static_cast<int>(fault) << " at " << at);
      FakeDriver& driver = world.run();
      world.offer(type_in, 1);
      REQUIRE(driver.wait_used(0) == virtio::testing::UsedElement{0, 513});
      CHECK(world.answer(0) == std::byte{7});
      CHECK(world.server->clients >= 2);
      if (fault != Fault::silence) CHECK(world.server->clients == 2);
      CHECK(driver.events().resets == 0);
    }
}

TEST_CASE("a server with no more protocol than needed works, and its successor too") {
  World world({.protocol = vhost_user_wire::protocol_config});
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(driver.wait_used(0));
  world.start();
  REQUIRE(world.soon([&] { return world.reconnections() == 1; }));
  world.offer(type_in, 2);
  REQUIRE(driver.wait_used(0));
  CHECK(world.answer(1) == std::byte{7});
  CHECK(driver.events().resets == 0);
}

TEST_CASE("answers that a server gave and did not live to tell of are told") {
  World world({.mute = true});
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(world.soon([&] { return world.server->answered == 1; }));
  CHECK_FALSE(wait_for(driver.interrupt(0), std::chrono::milliseconds(20)));
  world.server->die();
  CHECK(wait_for(driver.interrupt(0)));
  CHECK(driver.wait_used(0));
}

TEST_CASE("a server that asks nonsense loses its connection") {
  World world;
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(driver.wait_used(0));
  world.server->talk({2, 3, 0});  // a version that does not exist
  REQUIRE(world.soon([&] { return world.reconnections() == 1; }));
  world.server->talk({2, 1, 1 << 20});  // longer than any message
  REQUIRE(world.soon([&] { return world.reconnections() == 2; }));
  world.server->talk({77, 1, 0});  // a request unknown here does no harm
  world.offer(type_in, 2);
  REQUIRE(driver.wait_used(0));
  CHECK(world.server->clients == 3);
}

TEST_CASE("a driver that breaks its ring does not hold up its own reset") {
  World world({}, std::chrono::seconds(60));
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(driver.wait_used(0));
  driver.queue(0).set_available_index(1 + 17);
  const auto begin = Clock::now();
  driver.reset();
  CHECK(Clock::now() - begin < std::chrono::seconds(2));
  driver.activate();
  world.offer(type_in, 2);
  CHECK(driver.wait_used(0));
}

TEST_CASE("requests in flight at a server's death are answered by its successor, once each") {
  World world({.held = {2, 3}});
  FakeDriver& driver = world.run();
  for (std::uint64_t sector = 0; sector < 4; ++sector) world.offer(type_out, sector, std::byte{5});
  REQUIRE(driver.wait_used(0));
  REQUIRE(driver.wait_used(0));
  REQUIRE(world.soon([&] { return world.server->taken == 4; }));
  world.server->die();
  REQUIRE(world.soon([&] { return world.says("the server is away"); }));
  world.offer(type_out, 4, std::byte{5});
  CHECK_FALSE(driver.wait_used(0, std::chrono::milliseconds(150)));
  world.behaviour.held.clear();
  world.start();
  for (int i = 0; i < 3; ++i) REQUIRE(driver.wait_used(0));
  CHECK_FALSE(driver.wait_used(0, std::chrono::milliseconds(20)));
  for (std::uint64_t sector = 0; sector < 5; ++sector) {
    CHECK(world.answer(sector) == std::byte{0});
    CHECK(world.stored(sector) == std::byte{5});
  }
  CHECK(world.server->taken == 3);
  CHECK(world.reconnections() == 1);
  CHECK(world.soon([&] { return world.says("the server is back"); }));
  CHECK(driver.events().resets == 0);
}

TEST_CASE("a request that later ones have overtaken is not lost at a server's death") {
  World world({.held = {0}});
  FakeDriver& driver = world.run();
  for (std::uint64_t sector = 0; sector < 3; ++sector) world.offer(type_out, sector, std::byte{5});
  REQUIRE(driver.wait_used(0));
  REQUIRE(driver.wait_used(0));
  world.server->die();
  world.behaviour.held.clear();
  world.start();
  REQUIRE(driver.wait_used(0) == virtio::testing::UsedElement{0, 1});
  CHECK(world.server->taken == 1);
  CHECK(world.stored(0) == std::byte{5});
}

TEST_CASE("an overtaken request is not lost either where the server kept no list") {
  Behaviour behaviour{.held = {0}};
  behaviour.protocol &= no_inflight;
  World world(behaviour, std::chrono::milliseconds(500));
  FakeDriver& driver = world.run();
  for (std::uint64_t sector = 0; sector < 3; ++sector) world.offer(type_out, sector, std::byte{5});
  REQUIRE(driver.wait_used(0));
  REQUIRE(driver.wait_used(0));
  world.behaviour.held.clear();
  SECTION("as its successor comes") {
    world.server->die();
    world.start();
  }
  SECTION("after a pause in which it did not answer") {
    driver.pause();
    world.start();
    driver.resume();
  }
  REQUIRE(driver.wait_used(0) == virtio::testing::UsedElement{0, 1});
  CHECK(world.server->taken == 1);
  CHECK(world.stored(0) == std::byte{5});
  CHECK(driver.events().resets == 0);
}

TEST_CASE("where the rings do not tell what was in flight the driver has to reset its disk") {
  Behaviour behaviour{.held = {0}};
  behaviour.protocol &= no_inflight;
  World world(behaviour, std::chrono::milliseconds(500));
  FakeDriver& driver = world.run();
  world.offer(type_in, 0);
  REQUIRE(world.soon([&] { return world.server->taken == 1; }));
  driver.queue(0).offer(0);  // which is with the server
  driver.queue(0).offer(0);
  SECTION("as its successor comes") {
    world.server->die();
    world.behaviour.held.clear();
    world.start();
  }
  SECTION("at a pause") {
    CHECK(world.device->suspend().size() == 1);
  }
  REQUIRE(wait_for(driver.events().broken));
  CHECK(contains(driver.events().reason(), "kept no list"));
  driver.reset();
  driver.activate();
  world.offer(type_in, 9);
  CHECK(driver.wait_used(0));
}

TEST_CASE("a reset, a pause and the end take no time while the server is away or silent") {
  World world({}, std::chrono::seconds(60));
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(driver.wait_used(0));
  SECTION("away") {
    world.server->die();
    REQUIRE(world.soon([&] { return world.says("away"); }));
  }
  SECTION("silent at its return") {
    world.server->die();
    world.behaviour.fault = Fault::silence;
    world.start();
    REQUIRE(world.soon([&] { return world.server->messages == 1; }));
  }
  world.offer(type_in, 2);
  const auto begin = Clock::now();
  driver.reset();
  CHECK(Clock::now() - begin < std::chrono::seconds(2));
  world.behaviour.fault = Fault::none;
  world.start();
  driver.activate();
  world.offer(type_in, 3);
  CHECK(driver.wait_used(0));
}

TEST_CASE("a server that does not finish its requests holds up a reset only as long as its patience") {
  World world({.held = {0}}, std::chrono::milliseconds(200));
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(world.soon([&] { return world.server->taken == 1; }));
  const auto begin = Clock::now();
  driver.reset();
  CHECK(Clock::now() - begin >= std::chrono::milliseconds(200));
  CHECK(Clock::now() - begin < std::chrono::seconds(3));
  driver.activate();
  world.offer(type_in, 2);
  CHECK(driver.wait_used(0));
  CHECK(world.server->taken == 2);  // that of before the reset is gone
}

TEST_CASE("over a pause the server keeps its connection, and the queues their place") {
  World world;
  FakeDriver& driver = world.run();
  for (std::uint64_t sector = 0; sector < 3; ++sector) world.offer(type_in, sector);
  for (int i = 0; i < 3; ++i) REQUIRE(driver.wait_used(0));
  auto queues = world.device->suspend();
  REQUIRE(queues.size() == 1);
  CHECK(queues[0].queue->next_available() == 3);
  CHECK(queues[0].queue->next_used() == 3);
  world.device->activate(~0ull, std::move(queues), driver.events());
  world.offer(type_in, 3);
  REQUIRE(driver.wait_used(0));
  CHECK(world.server->clients == 1);
  CHECK(world.server->taken == 4);
}

TEST_CASE("a pause waits for a request that was offered and not told of yet") {
  World world({}, std::chrono::seconds(60));
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(driver.wait_used(0));
  driver.queue(0).add({{driver.place(bytes_of(Header{type_in, 0, 2})), sizeof(Header)},
                       {driver.allocate(513, 16), 513, true}});
  const auto begin = Clock::now();
  const auto queues = world.device->suspend();
  CHECK(Clock::now() - begin < std::chrono::seconds(20));
  REQUIRE(queues.size() == 1);
  CHECK(queues[0].queue->next_used() == 2);
  CHECK(world.server->clients == 1);
}

TEST_CASE("a pause does not wait for a server that dies meanwhile") {
  World world({.held = {0}}, std::chrono::seconds(60));
  world.run();
  world.offer(type_in, 1);
  REQUIRE(world.soon([&] { return world.server->taken == 1; }));
  const auto begin = Clock::now();
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    world.server->die();
  });
  const auto queues = world.device->suspend();
  killer.join();
  CHECK(Clock::now() - begin < std::chrono::seconds(20));
  REQUIRE(queues.size() == 1);
  CHECK(queues[0].queue->next_available() == 0);
}

TEST_CASE("requests in flight at a pause without a server go on in another machine") {
  World world({.held = {0, 2}});
  FakeDriver& driver = world.run();
  for (std::uint64_t sector = 0; sector < 3; ++sector) world.offer(type_out, sector, std::byte{4});
  REQUIRE(driver.wait_used(0));
  REQUIRE(world.soon([&] { return world.server->taken == 3; }));
  world.server->die();
  auto queues = world.device->suspend();
  REQUIRE(queues.size() == 1);
  CHECK(queues[0].queue->next_available() == 1);
  world.behaviour.held.clear();
  world.start();
  VhostUserBlock other(world.settings, world.machine_memory, world.machine.log);
  CHECK(mistakes_in_fields(*world.device, other) == "");
  const auto state = state_of(*world.device);
  CHECK(state_of(other) == state);
  other.activate(~0ull, std::move(queues), driver.events());
  REQUIRE(driver.wait_used(0) == virtio::testing::UsedElement{0, 1});
  REQUIRE(driver.wait_used(0));
  CHECK(world.server->taken == 2);
  CHECK(world.stored(2) == std::byte{4});
}

TEST_CASE("the server's change of size reaches the driver, also while it was away") {
  World world;
  FakeDriver& driver = world.run();
  const auto capacity = [&] {
    le64 sectors{};
    world.device->read_config(0, writable_bytes_of(sectors));
    return std::uint64_t{sectors};
  };
  world.offer(type_in, 1);
  REQUIRE(driver.wait_used(0));
  world.server->resize(100);
  REQUIRE(wait_for(driver.events().changed));
  CHECK(capacity() == 100);
  world.server->die();
  world.behaviour.capacity = 200;
  world.start();
  REQUIRE(wait_for(driver.events().changed));
  CHECK(capacity() == 200);
}

TEST_CASE(
    "a server that comes back with another disk, or with less than it promised, does not get the guest's "
    "requests") {
  World world;
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(driver.wait_used(0));
  world.server->die();
  const std::uint64_t features = world.behaviour.features;
  SECTION("blocks of another size") {
    world.behaviour.block_size = 4096;
  }
  SECTION("no flush") {
    world.behaviour.features &= ~feature_flush;
  }
  SECTION("no list of requests in flight") {
    world.behaviour.protocol &= no_inflight;
  }
  world.start();
  world.offer(type_in, 2);
  CHECK_FALSE(driver.wait_used(0, std::chrono::milliseconds(500)));
  CHECK(world.server->clients > 0);
  CHECK(world.server->taken == 0);
  world.behaviour = {};
  REQUIRE(world.behaviour.features == features);
  world.start();
  CHECK(driver.wait_used(0));
}

TEST_CASE("the driver's choice of write cache reaches the server, a new one too, and a reset forgets it") {
  World world;
  FakeDriver& driver = world.run();
  world.offer(type_in, 1);
  REQUIRE(driver.wait_used(0));
  CHECK(world.server->writeback == 1);
  const std::byte off{0};
  world.device->write_config(offsetof(ConfigSpace, writeback), {&off, 1});
  CHECK(world.server->writeback == 0);
  world.start();
  REQUIRE(world.soon([&] { return world.server->writeback == 0; }));
  driver.reset();
  std::byte now{};
  world.device->read_config(offsetof(ConfigSpace, writeback), {&now, 1});
  CHECK(now == std::byte{1});
}

}  // namespace hum::testing
