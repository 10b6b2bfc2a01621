// SPDX-License-Identifier: Apache-2.0
#include "devices/net/vhost_net_path.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "devices/net/tap_testing.h"
#include "devices/net/vhost_wire.h"
#include "devices/virtio_testing.h"
#include "vmm/base/errors.h"
#include "vmm/virtio/fake_driver.h"

namespace hum {
namespace {

using namespace testing;
using namespace net_wire;
using virtio::testing::FakeEvents;
using virtio::testing::FakeQueue;
using virtio::testing::wait_for;
using State = FrameEndpoint::State;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t driver_features = virtio::feature_version_1 | feature_mrg_rxbuf | feature_csum |
                                          virtio::feature_event_idx | virtio::feature_indirect_desc;

template <class T>
T read_as(const void* argument) {
  T value;
  std::memcpy(&value, argument, sizeof value);
  return value;
}

// vhost-net as the path sees it: keeps what it was told, and does nothing by itself.
class FakeVhost {
 public:
  struct Ring {
    std::uint32_t size = 0;
    std::uint32_t base = 0;
    vhost_wire::RingAddress address;
    int kick = -1;
    int call = -1;
    int error = -1;
    int tap = -1;
  };

  VhostNetKernel kernel() {
    VhostNetKernel kernel;
    kernel.device = "/dev/null";
    kernel.control = [this](int fd, unsigned long request, void* argument) {
      const std::lock_guard lock(mutex_);
      return control(fd, request, argument);
    };
    return kernel;
  }

  // By number of the pair's device in the order of their opening, and of the ring in the pair.
  Ring ring(std::size_t pair, unsigned index) {
    const std::lock_guard lock(mutex_);
    return rings_[{order_.at(pair), index}];
  }
  std::vector<vhost_wire::Region> regions() {
    const std::lock_guard lock(mutex_);
    return regions_;
  }
  std::uint64_t accepted() {
    const std::lock_guard lock(mutex_);
    return accepted_;
  }
  std::size_t calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  void fail_at(std::size_t call) {
    const std::lock_guard lock(mutex_);
    fail_at_ = call;
  }
  bool keeps_rings = false;             // refuses to let go
  std::function<void()> on_letting_go;  // of a ring, on the path's own thread

  std::uint64_t features = 1ull << 15 | 1ull << 26 | 1ull << 27 | 1ull << 28 | 1ull << 29 | 1ull << 32;

 private:
  int control(int fd, unsigned long request, void* argument) {
    if (++calls_ == fail_at_) return EIO;
    if (request == vhost_wire::set_owner) {
      order_.push_back(fd);
    } else if (request == vhost_wire::get_features) {
      std::memcpy(argument, &features, sizeof features);
    } else if (request == vhost_wire::set_features) {
      accepted_ = read_as<std::uint64_t>(argument);
    } else if (request == vhost_wire::set_memory) {
      regions_.resize(read_as<vhost_wire::MemoryTable>(argument).regions);
      std::memcpy(regions_.data(), static_cast<const std::byte*>(argument) + sizeof(vhost_wire::MemoryTable),
                  regions_.size() * sizeof(vhost_wire::Region));
    } else {
      return control_ring(rings_[{fd, read_as<std::uint32_t>(argument)}], request, argument);
    }
    return 0;
  }
  int control_ring(Ring& ring, unsigned long request, const void* argument) const {
    const auto state = read_as<vhost_wire::RingState>(argument);
    const auto file = read_as<vhost_wire::RingFile>(argument);
    // As the kernel: not while it serves the ring.
    const bool while_idle = request == vhost_wire::set_ring_size || request == vhost_wire::set_ring_base;
    if (while_idle && ring.tap >= 0) return EBUSY;
    if (request == vhost_wire::set_ring_size) ring.size = state.number;
    if (request == vhost_wire::set_ring_base) ring.base = state.number;
    if (request == vhost_wire::set_ring_address) ring.address = read_as<vhost_wire::RingAddress>(argument);
    if (request == vhost_wire::set_ring_kick) ring.kick = file.fd;
    if (request == vhost_wire::set_ring_call) ring.call = file.fd;
    if (request == vhost_wire::set_ring_error) ring.error = file.fd;
    if (request == vhost_wire::net_set_backend) {
      if (ring.address.used == 0 || (keeps_rings && file.fd < 0)) return EFAULT;
      ring.tap = file.fd;
      if (file.fd < 0 && on_letting_go) on_letting_go();
    }
    return 0;
  }

  std::mutex mutex_;  // guards what is below
  std::vector<int> order_;
  std::map<std::pair<int, unsigned>, Ring> rings_;
  std::vector<vhost_wire::Region> regions_;
  std::uint64_t accepted_ = 0;
  std::size_t calls_ = 0;
  std::size_t fail_at_ = 0;
};

void signal(int fd) {
  const std::uint64_t one = 1;
  must(::write(fd, &one, sizeof one) == sizeof one, "signal an eventfd");
}

// A driver with its rings, and the path that carries their frames to a tap of the bridge "br".
struct Machine {
  explicit Machine(VhostNetKernel kernel, std::uint16_t pairs = 1, bool lend = false)
      : lends(lend), path(make_tap_backend(pairs), memory, log, std::move(kernel)) {
    for (std::uint64_t index = 0; index < 2u * pairs; ++index)
      queues.push_back(std::make_unique<Queue>(memory, GuestAddress{0x10000 * (index + 1)}));
  }
  static std::unique_ptr<TapBackend> make_tap_backend(std::uint16_t pairs) {
    return std::make_unique<TapBackend>(TapSettings{.bridge = "br", .pairs = pairs}, Log());
  }

  void start() {
    std::vector<virtio::ActiveQueue> active;
    for (std::uint16_t index = 0; index < queues.size(); ++index) {
      Queue& queue = *queues[index];
      const EventFd& interrupt = queue.interrupt;
      active.push_back(
          {index,
           std::make_unique<virtio::VirtQueue>(
               memory, queue.ring.layout(true), [&interrupt] { interrupt.signal(); }, queue.position),
           queue.kick.fd(), lends ? queue.lent.fd() : -1});
      active.back().queue->count_in(queue.counters);
    }
    path.start(driver_features, std::move(active), events);
  }
  void stop() {
    for (const virtio::ActiveQueue& each : path.stop()) {
      queues.at(each.index)->position = each.queue->next_available();
      CHECK(each.queue->with_device() == 0);
    }
  }
  std::uint64_t on_host(GuestAddress address) const {
    return reinterpret_cast<std::uint64_t>(memory.regions().front().host) + address.value;
  }

  struct Queue {
    Queue(const GuestMemory& memory, GuestAddress base) : ring(memory, base, 256) {}
    FakeQueue ring;
    EventFd kick;
    EventFd interrupt;
    EventFd lent;
    std::uint16_t position = 0;
    virtio::QueueCounters counters;
  };

  std::vector<std::string> logged;
  Log log{[this](LogLevel, std::string_view text) { logged.emplace_back(text); }};
  GuestMemory memory{std::vector<GuestRange>{{{0}, 4 * mib}, {{8 * mib}, mib}}};
  FakeEvents events;
  bool lends;
  std::vector<std::unique_ptr<Queue>> queues;
  VhostNetPath path;
};

TEST_CASE("vhost-net: where there is none, the tap stays with the caller") {
  in_own_network([] {
    make_bridge("br");
    const GuestMemory memory(std::vector<GuestRange>{{{0}, mib}});
    auto tap = Machine::make_tap_backend(1);
    const auto error_with = [&](const std::string& device, std::uint64_t features) {
      FakeVhost vhost;
      vhost.features = features;
      VhostNetKernel kernel = vhost.kernel();
      kernel.device = device;
      const Log log;
      try {
        const VhostNetPath path(std::move(tap), memory, log, std::move(kernel));
      } catch (const HostError& error) {
        return std::string(error.what());
      }
      return std::string();
    };
    CHECK(
        error_with("/nowhere/vhost-net", ~0ull) ==
        "cannot use vhost-net at '/nowhere/vhost-net' (load the module: modprobe vhost_net): No such file or "
        "directory");
    CHECK(error_with("/dev/null", 1ull << 15) ==
          "cannot use vhost-net for virtio 1 (take a newer kernel): Operation not supported");
    REQUIRE(tap);
    CHECK(tap->pairs() == 1);
    CHECK(error_with("/dev/null", ~0ull).empty());
    CHECK_FALSE(tap);
  });
}

TEST_CASE("vhost-net: the kernel learns of memory, rings and events as they are") {
  in_own_network([] {
    make_bridge("br");
    FakeVhost vhost;
    Machine machine(vhost.kernel(), 2);
    CHECK(machine.path.pairs() == 2);
    CHECK(machine.path.mtu() == 1500);
    CHECK((machine.path.features() & (feature_mrg_rxbuf | feature_csum | feature_ctrl_rx)) ==
          (feature_mrg_rxbuf | feature_csum));
    CHECK(machine.path.ring_features() == (virtio::feature_event_idx | virtio::feature_indirect_desc));
    machine.queues[1]->position = 7;
    machine.memory.add({{16 * mib}, mib}, HostMemory::zeroes(mib), true);
    machine.start();
    CHECK(vhost.accepted() == (driver_features & ~feature_csum));
    const auto regions = vhost.regions();
    REQUIRE(regions.size() == 3);
    CHECK(regions[1].guest_address == 8 * mib);
    CHECK(regions[1].bytes == mib);
    CHECK(regions[2].guest_address == 16 * mib);  // of a device
    CHECK(regions[0].user_address == machine.on_host({0}));
    std::set<int> errors;
    for (std::size_t pair = 0; pair < 2; ++pair) {
      for (unsigned index = 0; index < 2; ++index) {
        const FakeVhost::Ring ring = vhost.ring(pair, index);
        Machine::Queue& queue = *machine.queues[2 * pair + index];
        CHECK(ring.size == 256);
        CHECK(ring.base == queue.position);
        CHECK(ring.address.descriptors == machine.on_host(queue.ring.descriptors()));
        CHECK(ring.address.available == machine.on_host(queue.ring.available()));
        CHECK(ring.address.used == machine.on_host(queue.ring.used()));
        CHECK(ring.kick == queue.kick.fd());
        CHECK((ring.tap >= 0) == (pair == 0));  // one pair is in use at first
        CHECK(queue.kick.drain() == (pair == 0));
        errors.insert(ring.error);
      }
    }
    CHECK(errors.size() == 1);
    CHECK(vhost.ring(0, 0).tap == vhost.ring(0, 1).tap);
    machine.stop();
    for (unsigned index = 0; index < 2; ++index) {
      const FakeVhost::Ring ring = vhost.ring(0, index);
      CHECK(ring.tap == -1);
      CHECK(ring.kick == -1);
      CHECK(ring.call == -1);
      CHECK(ring.error == -1);
    }
  });
}

// What the kernel does when it gives a request back.
void give_back(Machine& machine, std::size_t queue, int call) {
  FakeQueue& ring = machine.queues[queue]->ring;
  machine.memory.store_release<std::uint16_t>(ring.used() + 2,
                                              static_cast<std::uint16_t>(ring.used_index() + 1));
  if (call >= 0) signal(call);
}

TEST_CASE(
    "vhost-net: an interrupt that is not lent is relayed, and queues go on behind what was given back") {
  in_own_network([] {
    make_bridge("br");
    FakeVhost vhost;
    Machine machine(vhost.kernel());
    machine.start();
    Machine::Queue& queue = *machine.queues[1];
    const int call = vhost.ring(0, 1).call;
    REQUIRE(call >= 0);
    queue.ring.add({{{mib}, 100}});
    give_back(machine, 1, call);
    CHECK(wait_for(queue.interrupt));
    CHECK(queue.counters.requests.get() == 1);
    CHECK(queue.counters.interrupts.get() == 1);
    // What was given back without a word is no reason for an interrupt, but for the place to go on.
    give_back(machine, 1, -1);
    machine.stop();
    CHECK_FALSE(queue.interrupt.pending());
    CHECK(queue.position == 2);
    CHECK(machine.queues[0]->position == 0);
    machine.start();
    CHECK(vhost.ring(0, 1).base == 2);
    // The last word: nobody else hears it any more.
    const int last_call = vhost.ring(0, 1).call;
    vhost.on_letting_go = [&] {
      if (queue.ring.used_index() == 2) give_back(machine, 1, last_call);
    };
    machine.stop();
    CHECK(queue.interrupt.pending());
    CHECK(queue.position == 3);
  });
}

TEST_CASE("vhost-net: an interrupt that is lent is the kernel's to raise") {
  in_own_network([] {
    make_bridge("br");
    FakeVhost vhost;
    Machine machine(vhost.kernel(), 1, true);
    machine.start();
    CHECK(vhost.ring(0, 0).call == machine.queues[0]->lent.fd());
    CHECK(vhost.ring(0, 1).call == machine.queues[1]->lent.fd());
    give_back(machine, 1, vhost.ring(0, 1).call);
    machine.stop();
    CHECK(machine.queues[1]->lent.pending());
    CHECK_FALSE(machine.queues[1]->interrupt.pending());
    CHECK(machine.queues[1]->position == 1);
    CHECK(machine.queues[1]->counters.requests.get() == 0);
  });
}

TEST_CASE("vhost-net: as many pairs carry frames as are in use") {
  in_own_network([] {
    make_bridge("br");
    FakeVhost vhost;
    Machine machine(vhost.kernel(), 3);
    machine.path.use_pairs(2);
    machine.start();
    const auto connected = [&] {
      std::string text;
      for (std::size_t pair = 0; pair < 3; ++pair)
        for (unsigned index = 0; index < 2; ++index) text += vhost.ring(pair, index).tap >= 0 ? '1' : '0';
      return text;
    };
    CHECK(connected() == "111100");
    CHECK(vhost.ring(0, 0).tap != vhost.ring(1, 0).tap);
    machine.path.use_pairs(3);
    CHECK(connected() == "111111");
    machine.path.use_pairs(1);
    CHECK(connected() == "110000");
    machine.stop();
    CHECK(connected() == "000000");
    machine.start();
    CHECK(connected() == "110000");
  });
}

TEST_CASE("vhost-net: without a carrier no frame is carried, and none is late") {
  in_own_network([] {
    make_bridge("br");
    TapBackend other({.bridge = "br"}, Log());
    FakeVhost vhost;
    Machine machine(vhost.kernel());
    machine.path.set_carrier(false);
    machine.start();
    CHECK(vhost.ring(0, 0).tap == -1);
    CHECK_FALSE(machine.queues[1]->kick.pending());
    machine.path.set_carrier(true);
    const int tap = vhost.ring(0, 0).tap;
    REQUIRE(tap >= 0);
    CHECK(machine.queues[1]->kick.pending());
    CHECK(vhost.ring(0, 1).tap == tap);

    FakeQueue& ring = machine.queues[1]->ring;
    ring.add({{{mib}, 100}});
    machine.memory.write(ring.used() + 8, le32(77));  // what the kernel gives back stays as it is
    give_back(machine, 1, -1);
    ring.set_used_event(1);
    machine.path.set_carrier(false);
    CHECK(vhost.ring(0, 0).tap == -1);
    CHECK(vhost.ring(0, 1).tap == -1);
    TapEndpoint end(tap);
    const auto until_carried = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    do {  // until the bridge carries frames
      REQUIRE(std::chrono::steady_clock::now() < until_carried);
      send_frame(other.endpoint(0), test_frame(100));
    } while (receive_frame(end, std::chrono::milliseconds(10)).empty());
    send_frame(other.endpoint(0), test_frame(100));
    ring.add({{{mib}, 100}});
    ring.add({{{mib}, 100}, {{2 * mib}, 100}});
    pollfd arrival{.fd = tap, .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&arrival, 1, 10000) == 1);
    machine.path.set_carrier(true);
    CHECK(receive_frame(end, std::chrono::milliseconds(0)).empty());
    CHECK(ring.used_index() == 3);
    CHECK(ring.take_used()->written == 77);
    CHECK(wait_for(machine.queues[1]->interrupt));
    CHECK(vhost.ring(0, 1).base == 3);
    CHECK(vhost.ring(0, 1).tap == tap);
    machine.path.set_carrier(true);

    // A ring that is broken meanwhile.
    machine.path.set_carrier(false);
    ring.set_available_index(1000);
    machine.path.set_carrier(true);
    CHECK(wait_for(machine.events.broken));
    CHECK(vhost.ring(0, 0).tap == -1);
    machine.stop();
  });
}

TEST_CASE("vhost-net: a ring that the kernel finds broken ends all service until the next start") {
  in_own_network([] {
    make_bridge("br");
    FakeVhost vhost;
    Machine machine(vhost.kernel());
    machine.start();
    signal(vhost.ring(0, 1).error);
    CHECK(wait_for(machine.events.broken));
    CHECK(contains(machine.events.reason(), "vhost-net"));
    CHECK(vhost.ring(0, 0).tap == -1);
    CHECK(vhost.ring(0, 1).tap == -1);
    machine.path.use_pairs(1);
    CHECK(vhost.ring(0, 0).tap == -1);
    machine.stop();
    machine.start();
    CHECK(vhost.ring(0, 0).tap >= 0);
    CHECK(machine.events.resets == 1);
  });
}

TEST_CASE("vhost-net: a start that fails half way leaves nothing behind") {
  in_own_network([] {
    make_bridge("br");
    FakeVhost vhost;
    Machine machine(vhost.kernel());
    const std::size_t before = vhost.calls();
    machine.start();
    const std::size_t calls = vhost.calls() - before;
    machine.stop();
    for (std::size_t call = 1; call <= calls; ++call) {
      vhost.fail_at(vhost.calls() + call);
      CHECK_THROWS_AS(machine.start(), HostError);
      for (unsigned index = 0; index < 2; ++index) {
        const FakeVhost::Ring ring = vhost.ring(0, index);
        CHECK(ring.tap == -1);
        CHECK(ring.kick == -1);
        CHECK(ring.call == -1);
      }
      CHECK(machine.path.stop().empty());
    }
    machine.start();
    CHECK(vhost.ring(0, 1).tap >= 0);
    CHECK(machine.logged.empty());
  });
}

TEST_CASE("vhost-net: a device that does not let go of a ring is closed") {
  in_own_network([] {
    make_bridge("br");
    FakeVhost vhost;
    Machine machine(vhost.kernel());
    machine.start();
    vhost.keeps_rings = true;
    machine.stop();
    REQUIRE_FALSE(machine.logged.empty());
    CHECK(contains(machine.logged.front(), "does not let go"));
  });
}

// With the kernel's own vhost-net, where there is one.
void carry_both_ways(bool lend) {
  make_bridge("br");
  TapBackend other({.bridge = "br"}, Log());
  Machine machine({}, 1, lend);
  Machine::Queue& receive = *machine.queues[0];
  Machine::Queue& transmit = *machine.queues[1];
  const std::vector<std::byte> frame = test_frame(200, everybody, test_receiver);
  machine.memory.write_bytes({mib}, frame);
  const auto answered = [&](Machine::Queue& queue) {
    const std::uint16_t before = queue.ring.used_index();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::optional<virtio::testing::UsedElement> element;
    queue.ring.set_used_event(before);
    while (!(element = queue.ring.take_used()) && std::chrono::steady_clock::now() < end)
      wait_for(lend ? queue.lent : queue.interrupt, std::chrono::milliseconds(100));
    return element;
  };
  for (int round = 0; round < 3; ++round) {
    machine.start();
    // The bridge may not carry frames yet.
    bool arrived = false;
    for (int attempt = 0; attempt < 50 && !arrived; ++attempt) {
      transmit.ring.add({{{mib}, static_cast<std::uint32_t>(frame.size())}});
      transmit.kick.signal();
      REQUIRE(answered(transmit));
      const auto got = receive_frame(other.endpoint(0), std::chrono::milliseconds(200), test_receiver);
      arrived = got.size() == frame.size() &&
                std::equal(got.begin() + sizeof(Header), got.end(), frame.begin() + sizeof(Header));
    }
    CHECK(arrived);

    receive.ring.add({{{2 * mib}, 2048, true}});
    receive.kick.signal();
    bool seen = false;
    for (int attempt = 0; attempt < 50 && !seen; ++attempt) {
      send_frame(other.endpoint(0), test_frame(100));
      const auto element = answered(receive);
      REQUIRE(element);
      std::vector<std::byte> got(element->written);
      machine.memory.read_bytes({2 * mib}, got);
      const auto expected = test_frame(100);
      seen = got.size() == expected.size() && header_of(got).num_buffers == 1 &&
             std::equal(got.begin() + sizeof(Header), got.end(), expected.begin() + sizeof(Header));
      if (!seen) {
        receive.ring.add({{{2 * mib}, 2048, true}});
        receive.kick.signal();
      }
    }
    CHECK(seen);
    machine.path.set_carrier(false);
    machine.path.set_carrier(true);
    machine.stop();
    CHECK(transmit.position == transmit.ring.used_index());
    CHECK(receive.position == receive.ring.used_index());
  }

  // A descriptor that leads nowhere.
  machine.start();
  transmit.ring.add({{{64 * mib}, 100}});
  transmit.kick.signal();
  CHECK(wait_for(machine.events.broken));
  machine.stop();
  CHECK(machine.logged.empty());
}

TEST_CASE("vhost-net: the kernel carries frames both ways, over a stop and a start") {
  if (::access("/dev/vhost-net", R_OK | W_OK) != 0) {
    WARN("skipped: no usable /dev/vhost-net");
    return;
  }
  in_own_network([] { carry_both_ways(false); });
  in_own_network([] { carry_both_ways(true); });
}

}  // namespace
}  // namespace hum
