// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/vhost_user_net_path.h"

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>

#include "devices/net/net_device.h"
#include "devices/net/net_wire.h"
#include "devices/vhost_user/testing.h"
#include "devices/vhost_user/vhost_user_net.h"
#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum::testing {
namespace {

using namespace net_wire;
using virtio::testing::FakeDriver;
using Behaviour = FakeVhostServer::Behaviour;

constexpr std::uint64_t offloads = feature_csum | feature_guest_csum | feature_guest_tso4 | feature_host_tso4;
constexpr std::uint64_t server_features = virtio::feature_version_1 | 1ull << 30 |
                                          virtio::feature_indirect_desc | virtio::feature_event_idx |
                                          feature_mrg_rxbuf | feature_mq | offloads;
constexpr std::uint32_t room = 2048;  // of a receive buffer

Behaviour net_server(std::uint64_t features = server_features) {
  Behaviour behaviour;
  behaviour.features = features;
  behaviour.protocol =
      vhost_user_wire::protocol_mq | vhost_user_wire::protocol_reply_ack | vhost_user_wire::protocol_net_mtu;
  behaviour.echoes = true;
  return behaviour;
}

// The queues of a path, as a device without a control queue.
class PathDevice final : public virtio::VirtioDevice {
 public:
  explicit PathDevice(NetPath& path) : path_(path), sizes_(std::size_t{2} * path.pairs(), 16) {}
  ~PathDevice() override { deactivate(); }
  std::uint32_t type() const override { return 1; }
  std::uint64_t features() const override { return path_.features() | feature_mq; }
  std::span<const std::uint16_t> queue_sizes() const override { return sizes_; }
  void read_config(std::uint32_t, std::span<std::byte>) const override {}
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override {
    path_.start(driver_features, std::move(queues), events);
  }
  std::vector<virtio::ActiveQueue> suspend() override { return path_.stop(); }

 private:
  NetPath& path_;
  std::vector<std::uint16_t> sizes_;
};

// A machine with shared memory, a server, a path to it, and a driver.
struct World {
  explicit World(Behaviour given = net_server()) : behaviour(std::move(given)) {
    std::string pattern = (std::filesystem::temp_directory_path() / "hum-test-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    settings.path = (folder / "socket").string();
    start();
  }
  ~World() {
    driver.reset();
    device.reset();
    path.reset();
    server.reset();
    std::filesystem::remove_all(folder);
  }

  FakeVhostServer& start() { return server.emplace(settings.path, nothing, behaviour); }
  VhostUserNetPath& make() {
    return *(path = std::make_unique<VhostUserNetPath>(settings, memory, machine.log));
  }
  // A path with a running driver that has receive buffers in all of its queues.
  FakeDriver& run(std::uint64_t features = ~0ull) {
    device.emplace(make());
    path->set_offloads(features & offloads);
    FakeDriver& running = driver.emplace(memory, *device);
    activate(features);
    return running;
  }
  void activate(std::uint64_t features = ~0ull) {
    driver->activate(features);
    for (std::uint16_t pair = 0; pair < path->pairs(); ++pair) {
      buffers[pair].clear();
      for (int i = 0; i < 8; ++i) offer_buffer(pair);
    }
  }
  void offer_buffer(std::uint16_t pair) {
    const GuestAddress at = driver->allocate(room, 16);
    const std::uint16_t head = driver->queue(2u * pair).add({{at, room, true}});
    buffers[pair][head] = at;
    driver->kick(2u * pair);
  }
  void send(std::uint8_t fill, std::uint16_t pair = 0) {
    const GuestAddress at = driver->place(std::vector<std::byte>(112, std::byte{fill}));
    driver->queue(2u * pair + 1).add({{at, 12}, {at + 12, 100}});
    driver->kick(2u * pair + 1);
  }
  // The fill of the next frame that came back, 0 if none does.
  unsigned received(std::uint16_t pair = 0, std::chrono::milliseconds wait = virtio::testing::patience) {
    const auto element = driver->wait_used(2u * pair, wait);
    if (!element || element->written != 112) return 0;
    const unsigned fill =
        memory.read<std::uint8_t>(buffers[pair].at(static_cast<std::uint16_t>(element->head)) + 111);
    offer_buffer(pair);
    return fill;
  }
  bool comes_back(std::uint8_t fill, std::uint16_t pair = 0) {
    send(fill, pair);
    return received(pair) == fill && driver->wait_used(2u * pair + 1).has_value();
  }
  template <class Condition>
  bool soon(Condition&& condition) const {
    for (int i = 0; i < 5000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  std::uint64_t reconnections() const { return path->report().at(0).value; }
  std::string error() {
    return config_error_of([&] { make(); });
  }

  std::filesystem::path folder;
  VirtioMachine machine;
  GuestMemory memory{std::array{GuestRange{GuestAddress{0}, 8 << 20}}, MemoryBacking{.shared = true}};
  std::vector<std::byte> nothing;
  Behaviour behaviour;
  VhostUserNetPath::Settings settings;
  std::optional<FakeVhostServer> server;
  std::unique_ptr<VhostUserNetPath> path;
  std::optional<PathDevice> device;
  std::optional<FakeDriver> driver;
  std::map<std::uint16_t, std::map<std::uint16_t, GuestAddress>> buffers;  // by pair and head
};

}  // namespace

TEST_CASE("frames go to another process and come back from it") {
  World world;
  FakeDriver& driver = world.run();
  for (unsigned i = 1; i <= 40; ++i) REQUIRE(world.comes_back(static_cast<std::uint8_t>(i)));
  CHECK(world.server->clients == 1);
  CHECK(world.path->link());
  CHECK(driver.events().resets == 0);
  CHECK(world.machine.logged().empty());
}

TEST_CASE("what the server offers of an interface's features is offered, and nothing else") {
  World world(net_server(server_features | 1ull << 33 | 1ull << 40 | feature_ctrl_vq | feature_ctrl_rx |
                         feature_mac | feature_status));
  CHECK(world.make().features() == (offloads | feature_mrg_rxbuf));
  CHECK(world.path->ring_features() == (virtio::feature_indirect_desc | virtio::feature_event_idx));
  CHECK(world.path->pairs() == 1);
  CHECK_FALSE(world.path->mtu().has_value());
}

TEST_CASE("the server learns of the features that the driver took, and of those it switches off later") {
  World world;
  FakeDriver& driver = world.run(virtio::feature_version_1 | offloads | feature_mq);
  REQUIRE(world.comes_back(1));
  const std::uint64_t all = virtio::feature_version_1 | 1ull << 30 | offloads;
  CHECK(world.server->driver_features == all);
  world.path->set_offloads(feature_guest_csum);
  REQUIRE(world.comes_back(2));
  CHECK(world.server->driver_features == (all & ~feature_guest_tso4));
  const unsigned messages = world.server->messages;
  world.path->set_offloads(feature_guest_csum);
  CHECK(world.server->messages == messages);
  world.path->set_offloads(offloads);
  REQUIRE(world.comes_back(3));
  CHECK(world.server->driver_features == all);
  CHECK(world.server->clients == 1);
  CHECK(driver.events().resets == 0);
}

TEST_CASE("pairs of queues are used as far as the driver says") {
  World world;
  world.settings.pairs = 2;
  FakeDriver& driver = world.run();
  REQUIRE(world.comes_back(1));
  world.send(2, 1);  // dropped, given back
  REQUIRE(driver.wait_used(3));
  CHECK(world.server->dropped == 1);
  world.path->use_pairs(2);
  REQUIRE(world.comes_back(3, 1));
  REQUIRE(world.comes_back(4, 0));
  world.path->use_pairs(1);
  world.send(5, 1);
  REQUIRE(driver.wait_used(3));
  CHECK(world.server->dropped == 2);
  CHECK(world.comes_back(6));
}

TEST_CASE("without a carrier frames are dropped both ways") {
  World world;
  FakeDriver& driver = world.run();
  world.path->set_carrier(false);
  world.send(1);
  REQUIRE(driver.wait_used(1));
  CHECK(world.server->dropped == 1);
  world.path->set_carrier(true);
  CHECK(world.comes_back(2));
}

TEST_CASE("more pairs than the server has are refused") {
  World world;
  world.settings.pairs = 3;
  CHECK(contains(world.error(), "vhost-user-net.queues '3': is more than the server has; give at most 2"));
  world.behaviour.features &= ~feature_mq;
  world.start();
  world.settings.pairs = 2;
  CHECK(contains(world.error(), "give at most 1"));
}

TEST_CASE("an interface is refused at the start with its socket and what to do") {
  World world;
  SECTION("nobody is there") {
    world.server->die();
    CHECK(contains(world.error(), world.settings.path));
    CHECK(contains(world.error(), "start the server"));
  }
  SECTION("the server is of before virtio 1") {
    world.behaviour.features &= ~virtio::feature_version_1;
    world.start();
    CHECK(contains(world.error(), "too old"));
  }
  SECTION("the server has no protocol features, so that no queue can be held") {
    world.behaviour.features &= ~(1ull << 30);
    world.start();
    CHECK(contains(world.error(), "cannot hold a queue"));
  }
  SECTION("memory is not shared") {
    CHECK(contains(
        config_error_of([&] { VhostUserNetPath(world.settings, world.machine.memory, world.machine.log); }),
        "--shared-memory"));
  }
}

TEST_CASE("the MTU is told to a server that wants to know") {
  World world;
  world.settings.mtu = 9000;
  world.run();
  REQUIRE(world.comes_back(1));
  CHECK(world.path->mtu() == 9000);
  CHECK(world.server->mtu == 9000);
  world.driver.reset();
  world.device.reset();
  world.behaviour.protocol &= ~vhost_user_wire::protocol_net_mtu;
  world.start();
  world.run();
  REQUIRE(world.comes_back(1));
  CHECK(world.server->mtu == 0);
}

TEST_CASE("the link is down while the server is away, and frames go on with its successor") {
  World world;
  FakeDriver& driver = world.run();
  std::atomic<unsigned> changes = 0;
  world.path->on_link_change([&] { ++changes; });
  for (unsigned i = 1; i <= 20; ++i) REQUIRE(world.comes_back(static_cast<std::uint8_t>(i)));
  world.server->die();
  REQUIRE(world.soon([&] { return !world.path->link(); }));
  CHECK(changes == 1);
  world.send(21);
  CHECK(world.received(0, std::chrono::milliseconds(30)) == 0);
  world.start();
  REQUIRE(world.soon([&] { return world.path->link(); }));
  CHECK(changes == 2);
  CHECK(world.received() == 21);
  REQUIRE(driver.wait_used(1));
  for (unsigned i = 22; i <= 60; ++i) REQUIRE(world.comes_back(static_cast<std::uint8_t>(i)));
  CHECK(world.reconnections() == 1);
  CHECK(driver.events().resets == 0);
  CHECK(contains(world.machine.logged(), "the server is away"));
  CHECK(contains(world.machine.logged(), "the server is back"));
  world.path->on_link_change({});
}

TEST_CASE("a successor is told which pairs are used, and whether there is a carrier") {
  World world;
  world.settings.pairs = 2;
  FakeDriver& driver = world.run();
  world.path->use_pairs(2);
  REQUIRE(world.comes_back(1, 1));
  world.start();
  REQUIRE(world.soon([&] { return world.reconnections() == 1; }));
  REQUIRE(world.comes_back(2, 1));
  world.server->die();
  REQUIRE(world.soon([&] { return !world.path->link(); }));
  world.path->set_carrier(false);
  world.start();
  REQUIRE(world.soon([&] { return world.path->link(); }));
  world.send(3, 1);
  REQUIRE(driver.wait_used(3));
  CHECK(world.server->dropped == 1);
}

TEST_CASE("a frame that a server took and did not live to give back is taken by its successor") {
  World world;
  world.behaviour.held = {1};
  world.start();
  FakeDriver& driver = world.run();
  REQUIRE(world.comes_back(1));
  world.send(2);
  REQUIRE(world.soon([&] { return world.server->taken == 2; }));
  world.behaviour.held.clear();
  world.start();
  CHECK(world.received() == 2);
  CHECK(driver.wait_used(1));
  CHECK(world.comes_back(3));
}

TEST_CASE("a driver that was not told of many frames goes on with a successor, too") {
  World world;
  world.behaviour.mute = true;  // more answers than the rings have places, which nobody has looked at
  world.start();
  FakeDriver& driver = world.run();
  for (std::uint16_t i = 1; i <= 40; ++i) {
    world.send(static_cast<std::uint8_t>(i));
    REQUIRE(
        world.soon([&] { return driver.queue(0).used_index() == i && driver.queue(1).used_index() == i; }));
    REQUIRE(world.received() == i);
    REQUIRE(driver.wait_used(1));
  }
  world.behaviour.mute = false;
  world.start();
  for (unsigned i = 1; i <= 20; ++i) REQUIRE(world.comes_back(static_cast<std::uint8_t>(i)));
  CHECK(driver.events().resets == 0);
}

TEST_CASE("a successor that can do less than the driver was promised is not taken") {
  World world;
  world.run();
  REQUIRE(world.comes_back(1));
  world.server->die();
  world.behaviour.features &= ~feature_guest_csum;
  world.start();
  REQUIRE(world.soon([&] { return world.server->clients >= 2; }));
  CHECK_FALSE(world.path->link());
  world.behaviour.features |= feature_guest_csum;
  world.start();
  REQUIRE(world.soon([&] { return world.path->link(); }));
  CHECK(world.comes_back(2));
}

TEST_CASE("a pause keeps receive buffers, whether the server lives through it or not") {
  World world;
  FakeDriver& driver = world.run();
  for (unsigned i = 1; i <= 5; ++i) REQUIRE(world.comes_back(static_cast<std::uint8_t>(i)));
  const auto begin = std::chrono::steady_clock::now();
  driver.pause();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(2));  // buffers are not waited for
  driver.resume();
  for (unsigned i = 6; i <= 10; ++i) REQUIRE(world.comes_back(static_cast<std::uint8_t>(i)));
  CHECK(world.server->clients == 1);
  driver.pause();
  world.start();
  driver.resume();
  for (unsigned i = 11; i <= 20; ++i) REQUIRE(world.comes_back(static_cast<std::uint8_t>(i)));
  CHECK(driver.events().resets == 0);
}

TEST_CASE("a reset leaves the server, and a driver that comes back finds it") {
  World world;
  FakeDriver& driver = world.run();
  REQUIRE(world.comes_back(1));
  driver.reset();
  world.activate();
  REQUIRE(world.comes_back(2));
  CHECK(world.server->clients == 1);
}

TEST_CASE("a driver sees that the server of its interface is away, and is to announce itself afterwards") {
  World world;
  NetDevice device(std::make_unique<VhostUserNetPath>(world.settings, world.memory, world.machine.log),
                   {.mac = {{0x52, 0x54, 0, 0x12, 0x34, 0x56}}});
  const auto status = [&] {
    le16 value;
    device.read_config(offsetof(ConfigSpace, status), writable_bytes_of(value));
    return value;
  };
  FakeDriver driver(world.memory, device);
  driver.activate();
  CHECK(status() == status_link_up);
  REQUIRE(world.soon([&] { return (world.server->driver_features & feature_csum) != 0; }));
  const unsigned before = driver.events().config_changes;
  world.server->die();
  REQUIRE(world.soon([&] { return status() == 0; }));
  CHECK(world.soon([&] { return driver.events().config_changes > before; }));
  world.start();
  CHECK(world.soon([&] { return status() == (status_link_up | status_announce); }));
}

TEST_CASE("the device vhost-user-net has no options for frames that pass through this process") {
  World world;
  for (const char* option : {"pcap=x", "rx-bandwidth=1M", "anti-spoof=on"}) {
    const std::string error = config_error_of(
        [&] { world.machine.create(vhost_user_net_kind, world.settings.path + "," + option); });
    const std::string key(option, std::strcspn(option, "="));
    CHECK(contains(error, "vhost-user-net '" + key + "': unknown option key"));
  }
  CHECK(contains(config_error_of([&] { world.machine.create(vhost_user_net_kind, world.settings.path); }),
                 "--shared-memory"));
}

}  // namespace hum::testing
