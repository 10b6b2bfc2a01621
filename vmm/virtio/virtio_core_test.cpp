// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/virtio_core.h"

#include <poll.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <random>
#include <thread>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_guest.h"

// The rules that hold on both transports.

namespace hum::virtio {
namespace {

using testing::ecam;
using testing::FakeQueue;
using testing::good_features;
using testing::Guest;
using testing::guest_data;
using testing::mmio_base;
using testing::MmioGuest;
using testing::PciGuest;

std::unique_ptr<Guest> make_guest(bool pci) {
  if (pci) return std::make_unique<PciGuest>();
  return std::make_unique<MmioGuest>();
}

TEST_CASE("a driver negotiates, starts the device and a request goes there and back") {
  const auto guest = make_guest(GENERATE(false, true));
  CHECK(guest->status() == 0);
  CHECK(guest->offered() == good_features);
  guest->select(0);
  CHECK(guest->largest_size() == 256);
  guest->select(1);
  CHECK(guest->largest_size() == 64);
  guest->select(2);
  CHECK(guest->largest_size() == 0);
  guest->start();
  CHECK(guest->status() == 15);
  REQUIRE(guest->device.active);
  CHECK(guest->device.driver_features == good_features);
  REQUIRE(guest->device.queues.size() == 2);
  VirtQueue& queue = *guest->device.queues[0].queue;
  CHECK(queue.layout().size == 16);
  CHECK(queue.layout().event_idx);
  CHECK(queue.layout().indirect);
  CHECK(guest->device.queues[1].queue->layout().used == guest->rings[1].used());

  guest->rings[0].add({{guest_data, 64, true}});
  guest->notify(0);
  const int kick = guest->device.queues[0].kick_fd;
  pollfd entry{.fd = kick, .events = POLLIN, .revents = 0};
  CHECK(::poll(&entry, 1, 0) == 1);
  DescriptorChain chain;
  REQUIRE(queue.pop(chain));
  queue.push(chain.head, 64);
  CHECK_FALSE(guest->take_queue_interrupt(0));
  queue.publish();
  CHECK(guest->take_queue_interrupt(0));
  CHECK_FALSE(guest->take_queue_interrupt(0));
  CHECK_FALSE(guest->take_config_interrupt());
}

TEST_CASE(
    "a device is in use from its driver's first status to a reset, and as long as it has memory there") {
  const auto guest = make_guest(GENERATE(false, true));
  CHECK_FALSE(guest->transport().in_use());
  guest->set_status(1);
  CHECK(guest->transport().in_use());
  guest->device.holds_memory = true;
  guest->set_status(0);
  CHECK(guest->transport().in_use());
  guest->device.holds_memory = false;
  CHECK_FALSE(guest->transport().in_use());
}

TEST_CASE("FEATURES_OK stands only for a subset of what was offered, with VERSION_1") {
  const auto guest = make_guest(GENERATE(false, true));
  SECTION("without VERSION_1") {
    guest->negotiate(0x21);
    CHECK(guest->status() == 3);
    guest->set_status(15);  // nor can the device be started
    CHECK(guest->status() == 3);
    CHECK(guest->device.activations == 0);
    guest->accept(feature_version_1);  // the driver may think again
    guest->set_status(11);
    CHECK(guest->status() == 11);
  }
  SECTION("with a bit that was not offered") {
    guest->negotiate(good_features | 0x40);
    CHECK(guest->status() == 3);
  }
  SECTION("with a high bit that was not offered") {
    guest->negotiate(good_features | 1ull << 63);
    CHECK(guest->status() == 3);
  }
  SECTION("with a bit beyond the 64") {
    guest->set_status(3);
    guest->accept(good_features);
    guest->accept(2, 1);
    guest->set_status(11);
    CHECK(guest->status() == 3);
    guest->negotiate();
    CHECK(guest->status() == 11);
  }
  SECTION("with VERSION_1 alone, and features stay then") {
    guest->negotiate(feature_version_1);
    CHECK(guest->status() == 11);
    guest->accept(good_features);
    guest->set_status(15);
    CHECK(guest->device.driver_features == feature_version_1);
    CHECK(guest->device.queues.empty());
  }
}

TEST_CASE("status bits stay until a reset and the driver cannot set DEVICE_NEEDS_RESET") {
  const auto guest = make_guest(GENERATE(false, true));
  guest->set_status(1);
  guest->set_status(2);
  CHECK(guest->status() == 3);
  guest->set_status(0xff & ~status_features_ok & ~status_driver_ok);
  CHECK(guest->status() == (3 | status_failed));
  guest->set_status(0);
  CHECK(guest->status() == 0);
  guest->start();
  guest->set_status(15);
  guest->set_status(1);
  CHECK(guest->status() == 15);
  CHECK(guest->device.activations == 1);
}

TEST_CASE("bad queue sizes are ignored") {
  const auto guest = make_guest(GENERATE(false, true));
  guest->negotiate();
  guest->select(1);
  const std::uint16_t bad = GENERATE(std::uint16_t{0}, std::uint16_t{3}, std::uint16_t{65},
                                     std::uint16_t{128}, std::uint16_t{0xffff});
  guest->set_size(32);
  guest->set_size(bad);
  const FakeQueue ring(guest->machine.memory, {0x10000}, 32);
  guest->set_address(0, ring.descriptors().value);
  guest->set_address(1, ring.available().value);
  guest->set_address(2, ring.used().value);
  guest->enable();
  guest->set_status(15);
  REQUIRE(guest->device.queues.size() == 1);
  CHECK(guest->device.queues[0].index == 1);
  CHECK(guest->device.queues[0].queue->layout().size == 32);
}

TEST_CASE("an enabled queue keeps its registers, and a running device its queues") {
  const auto guest = make_guest(GENERATE(false, true));
  guest->start();
  guest->set_status(0);
  guest->negotiate();
  guest->set_queue(0, guest->rings[0]);
  guest->set_size(8);
  guest->set_address(0, 0x12345000);
  guest->set_status(15);
  REQUIRE(guest->device.queues.size() == 1);
  CHECK(guest->device.queues[0].queue->layout().size == 16);
  CHECK(guest->device.queues[0].queue->layout().descriptors == guest->rings[0].descriptors());
  guest->set_queue(1, guest->rings[1]);
  CHECK_FALSE(guest->enabled());
  guest->select(7);
  guest->set_size(8);
  guest->set_address(1, 0x1000);
  guest->enable();
  CHECK_FALSE(guest->enabled());
}

TEST_CASE("a bad ring makes the device ask for a reset, and a reset heals it") {
  const auto guest = make_guest(GENERATE(false, true));
  const std::uint64_t bad = GENERATE(0x10008ull, 0x400000ull, 0x3fffc0ull, ~0ull & ~15ull);
  guest->rings.emplace_back(guest->machine.memory, GuestAddress{0x10000}, std::uint16_t{16});
  guest->negotiate();
  guest->select(0);
  guest->set_size(16);
  guest->set_address(0, bad);
  guest->set_address(1, guest->rings[0].available().value);
  guest->set_address(2, guest->rings[0].used().value);
  guest->enable();
  guest->set_status(15);
  CHECK(guest->status() == (15 | status_needs_reset));
  CHECK(guest->take_config_interrupt());
  CHECK(guest->machine.lines.size() == 1);
  CHECK_FALSE(guest->device.active);
  CHECK(guest->machine.kicks.bound.empty());
  guest->notify(0);

  guest->start();
  CHECK(guest->status() == 15);
  CHECK(guest->device.active);
}

TEST_CASE("a device that cannot start asks for a reset") {
  const auto guest = make_guest(GENERATE(false, true));
  guest->device.on_activate = [] { throw HostError(ENOMEM, "do it"); };
  guest->start();
  CHECK(guest->status() == (15 | status_needs_reset));
  CHECK(guest->take_config_interrupt());
  guest->device.on_activate = {};
  guest->start();
  CHECK(guest->status() == 15);
}

TEST_CASE("a broken ring is reported once for each reset and does not fill the log") {
  const auto guest = make_guest(GENERATE(false, true));
  for (unsigned round = 0; round < 20; ++round) {
    guest->start();
    guest->device.events->needs_reset("broken");
    CHECK(guest->take_config_interrupt());
    guest->device.events->needs_reset("broken");
    CHECK_FALSE(guest->take_config_interrupt());
    CHECK(guest->status() == (15 | status_needs_reset));
  }
  CHECK(guest->machine.lines.size() == 10);
  CHECK(guest->machine.lines[0].find("fake") == 0);
}

TEST_CASE("a reset takes the queues back before it returns, and the device starts again") {
  const auto guest = make_guest(GENERATE(false, true));
  guest->start();
  // A request in flight on the device's thread: it ends before deactivate returns.
  DescriptorChain chain;
  guest->rings[0].add({{guest_data, 64, true}});
  REQUIRE(guest->device.queues[0].queue->pop(chain));
  std::thread owner;
  std::atomic<bool> finished = false;
  owner = std::thread([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    guest->device.events->config_changed();
    guest->device.queues[0].queue->push(chain.head, 64);
    guest->device.queues[0].queue->publish();
    finished = true;
  });
  guest->device.on_deactivate = [&] { owner.join(); };
  CHECK(guest->machine.kicks.bound.size() == 2);
  guest->set_status(0);
  CHECK(finished);
  CHECK(guest->status() == 0);
  CHECK_FALSE(guest->device.active);
  CHECK(guest->machine.kicks.bound.empty());
  CHECK(guest->machine.kicks.mistakes == 0);
  guest->select(0);
  CHECK_FALSE(guest->enabled());
  guest->notify(0);  // means nothing now

  guest->device.on_deactivate = {};
  guest->start(feature_version_1);
  CHECK(guest->device.activations == 2);
  CHECK(guest->device.driver_features == feature_version_1);
  CHECK_FALSE(guest->device.queues[0].queue->layout().event_idx);
  CHECK(guest->device.queues[0].queue->next_available() == 0);
  CHECK(guest->machine.kicks.bound.size() == 2);
  pollfd entry{.fd = guest->device.queues[0].kick_fd, .events = POLLIN, .revents = 0};
  CHECK(::poll(&entry, 1, 0) == 0);
}

TEST_CASE("where the host refuses a kick the window signals it") {
  const auto guest = make_guest(GENERATE(false, true));
  guest->machine.kicks.refuse = true;
  guest->start();
  CHECK(guest->machine.kicks.bound.empty());
  guest->notify(1);
  guest->notify(2);
  guest->notify(0xffff);
  pollfd entry{.fd = guest->device.queues[1].kick_fd, .events = POLLIN, .revents = 0};
  CHECK(::poll(&entry, 1, 0) == 1);
  entry.fd = guest->device.queues[0].kick_fd;
  CHECK(::poll(&entry, 1, 0) == 0);
  guest->set_status(0);
  CHECK(guest->machine.kicks.mistakes == 0);
}

TEST_CASE("configuration space takes every width and its changes are told") {
  const auto guest = make_guest(GENERATE(false, true));
  const std::uint64_t at = guest->config_address();
  guest->machine.write<std::uint32_t>(at, 0x44332211);
  CHECK(guest->machine.read<std::uint8_t>(at + 1) == 0x22);
  CHECK(guest->machine.read<std::uint16_t>(at + 2) == 0x4433);
  CHECK(guest->machine.read<std::uint64_t>(at) == 0x44332211);
  CHECK(guest->machine.read<std::uint32_t>(at + 16) == 0);
  guest->start();
  const std::uint32_t before = guest->generation();
  guest->device.events->config_changed();
  CHECK(guest->generation() == before + 1);
  CHECK(guest->take_config_interrupt());
  CHECK_FALSE(guest->take_queue_interrupt(0));
}

TEST_CASE("the end of a VM flushes a running device and stops it") {
  const auto guest = make_guest(GENERATE(false, true));
  guest->transport().flush(-1);
  guest->transport().stop();
  CHECK(guest->device.flushes == 0);
  guest->start();
  guest->transport().flush(-1);
  CHECK(guest->device.flushes == 1);
  CHECK(guest->device.active);
  guest->transport().stop();
  CHECK(guest->device.deactivations == 1);
  CHECK(guest->machine.kicks.bound.empty());
}

TEST_CASE("random accesses to a transport's registers do no harm") {
  const bool pci = GENERATE(false, true);
  const auto guest = make_guest(pci);
  std::mt19937_64 random(11);
  const std::uint64_t base = pci ? static_cast<PciGuest&>(*guest).bar : mmio_base;
  const std::uint64_t bytes = pci ? 0x8000 : MmioTransport::window_bytes;
  for (unsigned round = 0; round < 60000; ++round) {
    if (round % 64 == 0) guest->negotiate();
    if (round % 256 == 0) guest->start();
    const std::size_t size = std::size_t{1} << random() % 4;
    std::uint64_t offset = random() % bytes;
    if (random() % 4 != 0) offset &= ~(size - 1);
    if (pci && random() % 2 == 0) offset &= 0x3f;  // the common structure
    std::uint64_t value = random();
    if (random() % 2 == 0) value %= 17;
    if (random() % 2 == 0)
      guest->machine.mmio.read(base + offset, writable_bytes_of(value).first(size));
    else
      guest->machine.mmio.write(base + offset, bytes_of(value).first(size));
    if (pci && random() % 8 == 0) {
      auto& function = static_cast<PciGuest&>(*guest);
      std::uint64_t word = random();
      const std::uint64_t at = random() % 4 == 0 ? random() % 0x100 : function.access + random() % 20;
      guest->machine.mmio.write(ecam + 0x8000 + at, bytes_of(word).first(size));
      guest->machine.mmio.read(ecam + 0x8000 + function.access + 16, writable_bytes_of(word).first(size));
      function.set_config<std::uint64_t>(0x10, base);
      function.set_config<std::uint16_t>(4, 6);
    }
  }
  guest->start();
  CHECK(guest->status() == 15);
  CHECK(guest->machine.kicks.mistakes == 0);
}

}  // namespace
}  // namespace hum::virtio
