// SPDX-License-Identifier: Apache-2.0
#include "devices/entropy.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum {
namespace {

using virtio::testing::FakeDriver;

std::atomic<int> calls;

// Gives 100 bytes of 0x5a at a time; is interrupted first, and fails from the fourth call on.
ssize_t moody_source(std::span<std::byte> buffer) {
  const int call = ++calls;
  if (call == 1 || call >= 4) {
    errno = call == 1 ? EINTR : EIO;
    return -1;
  }
  const std::size_t count = std::min<std::size_t>(buffer.size(), 100);
  std::fill_n(buffer.begin(), count, std::byte{0x5a});
  return static_cast<ssize_t>(count);
}

struct Bench {
  Bench() : device(machine.create(entropy_kind, "")), driver(machine.memory, *device) { driver.activate(); }

  testing::VirtioMachine machine;
  std::unique_ptr<virtio::VirtioDevice> device;
  FakeDriver driver;
};

TEST_CASE("the entropy device fills a buffer with different bytes each time") {
  Bench bench;
  CHECK(bench.device->type() == 4);
  const auto first = bench.driver.request(0, {}, 256);
  const auto second = bench.driver.request(0, {}, 256);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(first->written == 256);
  CHECK(first->data != second->data);
  CHECK(std::count(first->data.begin(), first->data.end(), std::byte{0}) < 32);
}

TEST_CASE("an entropy request gets at most 64 KiB") {
  Bench bench;
  CHECK(bench.driver.request(0, {}, 64 * 1024 - 1)->written == 64 * 1024 - 1);
  CHECK(bench.driver.request(0, {}, 64 * 1024)->written == 64 * 1024);
  const auto more = bench.driver.request(0, {}, 64 * 1024 + 1);
  CHECK(more->written == 64 * 1024);
  CHECK(more->data.back() == std::byte{0});
}

TEST_CASE("an entropy request may be scattered") {
  Bench bench;
  const GuestAddress at = bench.driver.allocate(4096);
  bench.driver.queue(0).add({{at, 1, true}, {at + 100, 40, true}, {at + 1000, 60, true}});
  bench.driver.kick(0);
  const auto used = bench.driver.wait_used(0);
  REQUIRE(used);
  CHECK(used->written == 101);
  CHECK(bench.machine.memory.read<le64>(at + 8) == 0);
  CHECK(bench.machine.memory.read<le64>(at + 1000) != 0);
}

TEST_CASE("an entropy request without a writable buffer comes back empty") {
  Bench bench;
  const std::array<std::byte, 16> text = {};
  const auto reply = bench.driver.request(0, text, 0);
  REQUIRE(reply);
  CHECK(reply->written == 0);
  CHECK(bench.driver.request(0, text, 8)->written == 8);
  CHECK(bench.driver.events().resets == 0);
}

TEST_CASE("the entropy device goes on after an interruption and stops at a failure of the host") {
  testing::VirtioMachine machine;
  calls = 0;
  EntropyDevice device({}, moody_source);
  FakeDriver driver(machine.memory, device);
  driver.activate();
  const auto reply = driver.request(0, {}, 300);
  REQUIRE(reply);
  CHECK(reply->written == 200);
  CHECK(reply->data[199] == std::byte{0x5a});
  CHECK(driver.request(0, {}, 300)->written == 0);
}

TEST_CASE("an entropy device gives what its limits allow and the rest when it is time") {
  testing::VirtioMachine machine;
  const auto* const limit = GENERATE("bandwidth=64/100", "ops=1/100");
  const auto device = machine.create(entropy_kind, limit);
  FakeDriver driver(machine.memory, *device);
  driver.activate();
  const auto begin = TokenBucket::Clock::now();
  CHECK(driver.request(0, {}, 128)->written == 128);
  CHECK(device->report().at(0).value == 0);
  CHECK(driver.request(0, {}, 64)->written == 64);
  CHECK(TokenBucket::Clock::now() - begin >= std::chrono::milliseconds(100));
  CHECK(device->report().at(0).name == "throttled");
  CHECK(device->report().at(0).value > 0);
}

TEST_CASE("a limit that is lifted lets the entropy device give at once what it held up") {
  testing::VirtioMachine machine;
  const auto device = machine.create(entropy_kind, "ops=1/3600000");
  FakeDriver driver(machine.memory, *device);
  driver.activate();
  CHECK(driver.request(0, {}, 64)->written == 64);
  std::thread lift([&] {
    while (device->report().at(0).value == 0) std::this_thread::yield();
    device->apply(OptionValues::parse("rng", entropy_kind.options, "ops=off"));
  });
  const auto reply = driver.request(0, {}, 64);
  lift.join();
  REQUIRE(reply);
  CHECK(reply->written == 64);
}

TEST_CASE("the entropy device has no configuration, and works again after a reset") {
  Bench bench;
  std::array<std::byte, 4> word;
  word.fill(std::byte{0xff});
  bench.device->read_config(0, word);
  CHECK(load_le(word) == 0);
  bench.driver.reset();
  bench.driver.reset();
  bench.driver.activate();
  CHECK(bench.driver.request(0, {}, 32)->written == 32);
}

}  // namespace
}  // namespace hum
