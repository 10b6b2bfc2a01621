// SPDX-License-Identifier: Apache-2.0
#include "devices/queue_service.h"

#include <atomic>
#include <thread>

#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum {
namespace {

using virtio::testing::FakeDriver;
using virtio::testing::wait_for;

// Gives every request back on both of its queues; a hook may look on.
class EchoDevice final : public virtio::VirtioDevice {
 public:
  ~EchoDevice() override { deactivate(); }
  std::uint32_t type() const override { return 0; }
  std::uint64_t features() const override { return 0; }
  std::span<const std::uint16_t> queue_sizes() const override { return sizes_; }
  void read_config(std::uint32_t, std::span<std::byte>) const override {}
  void activate(std::uint64_t, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override {
    service_ = std::make_unique<QueueService>("echo", std::move(queues), events);
    service_->poll(poll, [this] { return look && look(); });
    service_->start([this](std::uint16_t index) {
      service_->drain(index, [&](virtio::DescriptorChain& chain) {
        if (hook) hook(index);
        service_->queue(index)->push(chain.head, 0);
        return true;
      });
    });
  }
  std::vector<virtio::ActiveQueue> suspend() override { return QueueService::end(service_); }
  QueueService& service() { return *service_; }

  std::function<void(std::uint16_t)> hook;
  PollWindow::Duration poll{};
  std::function<bool()> look;

 private:
  std::array<std::uint16_t, 2> sizes_ = {512, 512};
  std::unique_ptr<QueueService> service_;
};

struct Bench {
  Bench() : driver(machine.memory, device), buffer(driver.allocate(64)) {}

  void break_ring(std::size_t index) {
    driver.queue(index).set_available_index(
        static_cast<std::uint16_t>(driver.queue(index).available_index() + 600));
    driver.kick(index);
  }

  testing::VirtioMachine machine;
  EchoDevice device;
  FakeDriver driver;
  GuestAddress buffer;
};

TEST_CASE("a request that is there before DRIVER_OK is served without a kick") {
  // The rings are laid out by activate, so the request waits for a second activation of the same rings.
  testing::VirtioMachine machine;
  virtio::testing::FakeQueue ring(machine.memory, {0x1000}, 8);
  ring.add({{{0x8000}, 16}});
  const EventFd kick;
  const EventFd interrupt;
  virtio::testing::FakeEvents events;
  std::vector<virtio::ActiveQueue> queues;
  queues.push_back(
      {0, std::make_unique<virtio::VirtQueue>(machine.memory, ring.layout(), [&] { interrupt.signal(); }),
       kick.fd()});
  EchoDevice device;
  device.activate(0, std::move(queues), events);
  CHECK(wait_for(interrupt));
  CHECK(ring.take_used().has_value());
}

TEST_CASE("a kick serves the queue it is for") {
  Bench bench;
  bench.driver.activate();
  for (const std::size_t index : {1u, 0u, 1u}) {
    bench.driver.queue(index).add({{bench.buffer, 64}});
    bench.driver.kick(index);
    CHECK(bench.driver.wait_used(index));
  }
  CHECK(bench.driver.events().resets == 0);
}

TEST_CASE("a full queue does not keep another one waiting") {
  Bench bench;
  std::vector<std::uint16_t> order;
  bench.device.hook = [&](std::uint16_t index) { order.push_back(index); };
  bench.driver.activate();
  bench.device.service().call([&] {  // both queues get their requests while the thread is busy here
    for (int i = 0; i < 400; ++i) bench.driver.queue(0).add({{bench.buffer, 64}});
    bench.driver.queue(1).add({{bench.buffer, 64}});
    bench.driver.kick(0);
    bench.driver.kick(1);
  });
  for (int i = 0; i < 400; ++i) REQUIRE(bench.driver.wait_used(0));
  REQUIRE(bench.driver.wait_used(1));
  bench.driver.reset();
  REQUIRE(order.size() == 401);
  CHECK(order.back() == 0);
}

TEST_CASE("a ring that breaks just before the thread sleeps ends the service, and a reset mends it") {
  Bench bench;
  std::atomic<bool> breaks = false;  // the thread looks from its start on: the ring is ours until this is set
  bench.device.poll = std::chrono::seconds(10);
  bench.device.look = [&] {
    if (breaks.exchange(false)) bench.break_ring(0);
    return false;
  };
  bench.driver.activate(0);
  bench.driver.queue(0).add({{bench.buffer, 64}});
  breaks = true;
  bench.driver.kick(0);
  REQUIRE(wait_for(bench.driver.events().broken));
  bench.driver.reset();
  bench.device.poll = {};
  bench.driver.activate(0);
  bench.driver.queue(0).add({{bench.buffer, 64}});
  bench.driver.kick(0);
  CHECK(bench.driver.wait_used(0));
}

TEST_CASE("a broken ring is told once, ends all service, and a reset mends it") {
  Bench bench;
  bench.driver.activate();
  bench.break_ring(0);
  REQUIRE(wait_for(bench.driver.events().broken));
  bench.break_ring(1);
  bench.driver.kick(0);
  bool ran = false;
  bench.device.service().call([&] { ran = true; });
  CHECK_FALSE(ran);
  CHECK(bench.driver.events().resets == 1);
  CHECK_FALSE(bench.driver.events().reason().empty());

  bench.driver.reset();
  bench.driver.activate();
  bench.driver.queue(0).add({{bench.buffer, 64}});
  bench.driver.kick(0);
  CHECK(bench.driver.wait_used(0));
  CHECK(bench.driver.events().resets == 1);
}

TEST_CASE("a ring that is broken from the start is told too") {
  Bench bench;
  std::atomic<bool> broken = false;
  bench.device.hook = [&](std::uint16_t) {
    broken = true;
    throw GuestError("no answer is possible");
  };
  bench.driver.activate();
  bench.driver.queue(1).add({{bench.buffer, 64}});
  bench.driver.kick(1);
  REQUIRE(wait_for(bench.driver.events().broken));
  CHECK(broken);
  CHECK(bench.driver.events().reason() == "no answer is possible");
}

TEST_CASE("a call to the host that fails in service needs a reset too") {
  Bench bench;
  bench.driver.activate();
  bench.device.service().call(
      [&] { bench.device.service().watch(-1, EventLoop::Interest::readable, [] {}); });
  CHECK(bench.driver.events().resets == 1);
}

TEST_CASE("the end waits for the request under way, and no other one is begun") {
  Bench bench;
  const EventFd entered;
  std::atomic<bool> released = false;
  std::atomic<int> served = 0;
  bench.device.hook = [&](std::uint16_t) {
    entered.signal();
    while (!released) std::this_thread::yield();
    ++served;
  };
  bench.driver.activate();
  for (int i = 0; i < 10; ++i) bench.driver.queue(0).add({{bench.buffer, 64}});
  bench.driver.kick(0);
  REQUIRE(wait_for(entered));
  std::thread release([&] {
    while (!bench.device.service().stopping()) std::this_thread::yield();
    released = true;
  });
  bench.device.service().stop();
  CHECK(served == 1);
  release.join();
  bench.driver.reset();
  CHECK(served == 1);
}

TEST_CASE("requests are taken ahead of their work, and when there are none the next one is told of") {
  Bench bench;
  const EventFd kicked;
  bench.device.hook = [&](std::uint16_t) { kicked.signal(); };
  bench.driver.activate();
  QueueService& service = bench.device.service();
  virtio::DescriptorChain chain;
  virtio::VirtQueue* queue = nullptr;
  service.call([&] {
    for (int i = 0; i < 2; ++i) bench.driver.queue(0).add({{bench.buffer, 64}});
    queue = service.queue(0);
    for (int i = 0; i < 2; ++i) CHECK(service.take(0, chain));
    CHECK_FALSE(service.take(0, chain));
    CHECK_FALSE(service.take(7, chain));
    CHECK(queue->with_device() == 2);
  });
  CHECK_FALSE(kicked.pending());
  bench.driver.queue(0).add({{bench.buffer, 64}});
  bench.driver.kick(0);
  CHECK(wait_for(kicked));
}

TEST_CASE("another turn serves requests that nobody has notified of") {
  Bench bench;
  bench.driver.activate();
  bench.driver.queue(1).add({{bench.buffer, 64}});
  bench.device.service().call([&] { bench.device.service().serve_later(1); });
  CHECK(bench.driver.wait_used(1));
}

TEST_CASE("a watched descriptor is served until it is unwatched") {
  Bench bench;
  const EventFd source;
  const EventFd seen;
  bench.driver.activate();
  QueueService& service = bench.device.service();
  service.call([&] {
    service.watch(source.fd(), EventLoop::Interest::readable, [&] {
      source.drain();
      seen.signal();
    });
  });
  source.signal();
  CHECK(wait_for(seen));
  service.call([&] { service.unwatch(source.fd()); });
  source.signal();
  service.call([] {});
  CHECK_FALSE(seen.pending());
}

TEST_CASE("a thread that polls serves requests of which it is not notified, and ends at once") {
  Bench bench;
  bench.device.poll = std::chrono::minutes(10);
  bench.driver.activate();
  bench.driver.queue(0).add({{bench.buffer, 64}});
  bench.driver.kick(0);
  CHECK(bench.driver.wait_used(0));
  for (const std::size_t index : {0u, 1u, 0u}) {
    bench.driver.queue(index).add({{bench.buffer, 64}});
    CHECK(bench.driver.wait_used(index));
  }
  bool ran = false;
  bench.device.service().call([&] { ran = true; });
  CHECK(ran);
  bench.driver.reset();
}

TEST_CASE("a thread that polls looks for other work too, and a failure there needs a reset") {
  Bench bench;
  std::atomic<int> work = 0;
  bench.device.poll = std::chrono::minutes(10);
  bench.device.look = [&] {
    if (work == 0) return false;
    if (--work == 0) throw GuestError("no more");
    return true;
  };
  bench.driver.activate();
  bench.driver.queue(0).add({{bench.buffer, 64}});
  bench.driver.kick(0);
  CHECK(bench.driver.wait_used(0));
  work = 3;
  REQUIRE(wait_for(bench.driver.events().broken));
  CHECK(work == 0);
  CHECK(bench.driver.events().reason() == "no more");
}

TEST_CASE("a thread that slept for long is notified") {
  Bench bench;
  bench.device.poll = std::chrono::nanoseconds(1);
  bench.driver.activate();
  for (int i = 0; i < 3; ++i) {
    bench.driver.queue(0).add({{bench.buffer, 64}});
    bench.driver.kick(0);
    CHECK(bench.driver.wait_used(0));
  }
}

}  // namespace
}  // namespace hum
