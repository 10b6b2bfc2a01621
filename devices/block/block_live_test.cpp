// SPDX-License-Identifier: Apache-2.0
// What of a disk changes while its VM runs: limits, size, image, and pauses where the host fails.
#include <chrono>
#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

#include "devices/block/block_device.h"
#include "devices/block/fake_disk.h"
#include "devices/temporary_file.h"
#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using virtio::testing::wait_for;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// A disk from options, as a machine has it.
struct Disk {
  explicit Disk(const std::string& text) : options(OptionValues::parse("disk", block_kind.options, text)) {
    device = std::get<DeviceKind::VirtioFactory>(block_kind.create)(options, machine.context);
    driver.emplace(machine.memory, *device);
    driver->activate();
  }

  void change(const std::string& text) {
    OptionValues changed = options.changed("disk0", text);
    device->apply(changed);
    options = std::move(changed);
  }
  std::uint64_t capacity() const {
    std::vector<std::byte> data(8);
    device->read_config(0, data);
    return load_le(data);
  }
  int status(std::uint32_t type, std::uint64_t sector, std::size_t data = 0, std::uint32_t room = 0,
             std::byte value = std::byte{0xd7}) {
    std::vector<std::byte> readable = header(type, sector);
    readable.resize(readable.size() + data, value);
    reply = driver->request(0, readable, room + 1).value().data;
    return std::to_integer<int>(reply.back());
  }
  // Adds reads of a sector that nobody has waited for yet.
  void add_reads(int count, std::uint32_t bytes = 512) {
    for (int i = 0; i < count; ++i)
      driver->queue(0).add(
          {{driver->place(header(in, 0)), 16}, {driver->allocate(bytes + 1), bytes + 1, true}});
    driver->kick(0);
  }
  bool answered(int count) {
    while (count != 0 && driver->wait_used(0)) --count;
    return count == 0;
  }
  int answered_within(std::chrono::milliseconds time) {
    int count = 0;
    const auto end = Clock::now() + time;
    while (Clock::now() < end)
      if (driver->wait_used(0, std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now())))
        ++count;
    return count;
  }

  VirtioMachine machine;
  OptionValues options;
  std::unique_ptr<virtio::VirtioDevice> device;
  std::optional<FakeDriver> driver;
  std::vector<std::byte> reply;
};

TEST_CASE("a limit of requests lets through what it has and then keeps its pace") {
  const TemporaryFile file(sectors * 512);
  Disk disk(file.path() + ",ops=10/100");
  const auto begun = Clock::now();
  disk.add_reads(30);
  for (int i = 0; i < 30; ++i) REQUIRE(disk.driver->wait_used(0));
  CHECK(Clock::now() - begun >= 190ms);
}

TEST_CASE("a limit of bytes counts the data of reads and writes, and no flush") {
  const TemporaryFile file(sectors * 512);
  Disk disk(file.path() + ",bandwidth=4096/3600000");
  CHECK(disk.status(out, 0, 2048) == ok);
  for (int i = 0; i < 20; ++i) CHECK(disk.status(flush, 0) == ok);
  CHECK(disk.status(in, 0, 0, 2048) == ok);
  disk.add_reads(1);
  CHECK_FALSE(disk.driver->wait_used(0, 100ms));
}

TEST_CASE("limits change while requests wait for them") {
  const TemporaryFile file(sectors * 512);
  Disk disk(file.path() + ",ops=1/3600000");
  disk.add_reads(5);
  CHECK(disk.answered(1));
  CHECK(disk.answered_within(100ms) == 0);
  disk.change("ops=2/3600000");
  CHECK(disk.answered(2));
  CHECK(disk.answered_within(100ms) == 0);
  disk.change("size=64K");  // no limit has changed, so none is full again
  CHECK(disk.answered_within(100ms) == 0);
  disk.change("ops=off,bandwidth=off");
  CHECK(disk.answered(2));
  disk.change("ops=1/3600000");
  CHECK(disk.status(in, 0, 0, 512) == ok);
  disk.add_reads(1);
  disk.driver->reset();  // does not wait for the limit
}

TEST_CASE("a disk grows while it is used, and its driver is told") {
  const TemporaryFile file(sectors * 512);
  Disk disk(file.path());
  CHECK(disk.status(in, sectors, 0, 512) == ioerr);
  disk.change("size=64K");
  CHECK(disk.driver->events().config_changes == 1);
  CHECK(disk.capacity() == 128);
  CHECK(std::filesystem::file_size(file.path()) == 65536);
  CHECK(disk.status(out, 127, 512) == ok);
  CHECK(disk.status(in, 128, 0, 512) == ioerr);
  CHECK(contains(config_error_of([&] { disk.change("size=32K"); }), "disk.size '32K'"));
  CHECK(contains(config_error_of([&] { disk.change("size=65537"); }), "multiple of 512"));
  CHECK(disk.capacity() == 128);
  CHECK(disk.status(in, 127, 0, 512) == ok);
  CHECK(disk.reply.front() == std::byte{0xd7});
}

TEST_CASE("an image is made larger at the start, and never smaller") {
  const TemporaryFile file(sectors * 512);
  CHECK(Disk(file.path() + ",size=1M").capacity() == 2048);
  CHECK(contains(config_error_of([&] { Disk(file.path() + ",size=64K"); }), "the image has 1M"));
  CHECK(contains(config_error_of([&] { Disk(file.path() + ",readonly=on,size=2M"); }),
                 "cannot be made so large"));
  CHECK(std::filesystem::file_size(file.path()) == 1 << 20);
  Disk overlaid(file.path() + ",overlay=tmp,size=8M");
  CHECK(overlaid.capacity() == 16384);
  CHECK(std::filesystem::file_size(file.path()) == 1 << 20);
  CHECK(overlaid.status(out, 16383, 512) == ok);
}

TEST_CASE("another image takes the place of the one before, with nothing lost on either") {
  const TemporaryFile first(sectors * 512);
  const TemporaryFile second(2 * sectors * 512);
  Disk disk(first.path() + ",id=serial");
  CHECK(disk.status(out, 1, 512, 0, std::byte{1}) == ok);
  disk.change("path=" + second.path());
  CHECK(disk.driver->events().config_changes == 1);
  CHECK(disk.capacity() == 2 * sectors);
  CHECK(disk.status(in, 1, 0, 512) == ok);
  CHECK(disk.reply.front() == std::byte{0});
  CHECK(disk.status(out, 1, 512, 0, std::byte{2}) == ok);
  CHECK(disk.status(get_id, 0, 0, 20) == ok);
  CHECK(std::to_integer<char>(disk.reply.front()) == 's');
  disk.change("path=" + first.path());  // its lock was given back
  CHECK(disk.capacity() == sectors);
  CHECK(disk.status(in, 1, 0, 512) == ok);
  CHECK(disk.reply.front() == std::byte{1});
  CHECK(disk.status(in, sectors, 0, 512) == ioerr);
}

TEST_CASE("a change that is refused changes nothing") {
  const TemporaryFile file(sectors * 512);
  Disk disk(file.path());
  CHECK(contains(config_error_of([&] { disk.change("ops=1/3600000,path=" + file.path() + ".no"); }),
                 "disk.path"));
  CHECK(contains(config_error_of([&] { disk.change("ops=1/3600000,size=512"); }), "disk.size"));
  CHECK(contains(config_error_of([&] { disk.change("queues=2"); }), "cannot be changed while the VM runs"));
  CHECK(disk.driver->events().config_changes == 0);
  for (int i = 0; i < 5; ++i) CHECK(disk.status(in, 0, 0, 512) == ok);
}

TEST_CASE("a disk that is not active, or paused, changes too") {
  const TemporaryFile file(sectors * 512);
  Disk disk(file.path());
  disk.driver->pause();
  disk.change("size=64K");
  CHECK(disk.driver->events().config_changes == 1);
  disk.driver->resume();
  CHECK(disk.status(in, 127, 0, 512) == ok);
  disk.driver->reset();
  disk.change("size=128K");
  CHECK(disk.driver->events().config_changes == 1);
  CHECK(disk.capacity() == 256);
}

Bench pausing_bench() {
  return Bench(false, "disk", ~0ull, true);
}

TEST_CASE("a request that the host fails waits for a pause and is then tried again") {
  Bench bench = pausing_bench();
  for (const BlockResult failure : {BlockResult::no_space, BlockResult::io_error}) {
    const std::size_t asked = bench.machine.control.pause_reasons().size();
    bench.backend->failure = failure;
    bench.backend->fault = bench.backend->calls;
    const GuestAddress status = bench.driver.place(std::vector<std::byte>(1, std::byte{0x55}));
    std::vector<std::byte> request = header(out, 2);
    request.resize(16 + 512, static_cast<std::byte>(asked + 1));
    bench.driver.queue(0).add({{bench.driver.place(request), 528}, {status, 1, true}});
    bench.driver.kick(0);
    CHECK_FALSE(bench.driver.wait_used(0, 50ms));
    REQUIRE(bench.machine.control.pause_reasons().size() == asked + 1);
    CHECK(contains(bench.machine.control.pause_reasons().back(), "test.img"));
    CHECK(bench.status(in, 2, 0, 512) == ok);  // others go on

    bench.driver.pause();
    bench.backend->fault = bench.backend->calls;  // still no room
    bench.driver.resume();
    CHECK_FALSE(bench.driver.wait_used(0, 50ms));
    CHECK(bench.machine.control.pause_reasons().size() == asked + 2);

    bench.driver.pause();
    bench.driver.resume();
    CHECK(bench.driver.wait_used(0));
    CHECK(bench.machine.memory.read<std::uint8_t>(status) == ok);
    CHECK(bench.backend->content[2 * 512] == static_cast<std::byte>(asked + 1));
  }
  CHECK_FALSE(contains(bench.machine.logged(), "I/O error"));
}

TEST_CASE("a flush that failed is not tried again, for it would seem to succeed") {
  Bench bench = pausing_bench();
  bench.backend->fault = bench.backend->calls;
  CHECK(bench.status(flush, 0) == ioerr);
  CHECK(bench.machine.control.pause_reasons().empty());
}

TEST_CASE("what the host does not know is no reason to pause") {
  Bench bench = pausing_bench();
  bench.backend->failure = BlockResult::unsupported;
  bench.backend->fault = bench.backend->calls;
  CHECK(bench.status(in, 0, 0, 512) == unsupp);
  CHECK(bench.machine.control.pause_reasons().empty());
}

TEST_CASE("a reset forgets the requests that wait for a pause") {
  Bench bench = pausing_bench();
  bench.backend->fault = bench.backend->calls;
  bench.driver.queue(0).add(
      {{bench.driver.place(header(in, 0)), 16}, {bench.driver.allocate(513), 513, true}});
  bench.driver.kick(0);
  CHECK_FALSE(bench.driver.wait_used(0, 50ms));
  bench.driver.reset();
  bench.driver.activate();
  CHECK(bench.status(in, 0, 0, 512) == ok);
  CHECK(bench.driver.events().resets == 0);
}

TEST_CASE("requests that wait for a pause are part of the disk's state") {
  Bench bench = pausing_bench();
  bench.backend->fault = bench.backend->calls;
  bench.driver.queue(0).add(
      {{bench.driver.place(header(in, 0)), 16}, {bench.driver.allocate(513), 513, true}});
  bench.driver.kick(0);
  CHECK_FALSE(bench.driver.wait_used(0, 50ms));
  bench.driver.pause();
  const std::vector<std::byte> state = state_of(bench.device);
  restore(bench.device, state);
  bench.driver.resume();
  CHECK(bench.driver.wait_used(0));

  bench.driver.pause();
  restore(bench.device, state);  // of a request that the queue does not miss
  CHECK_THROWS_AS(bench.driver.resume(), GuestError);
}

TEST_CASE("an image takes the place of another while the disk needs a reset, which then mends it") {
  const TemporaryFile first(sectors * 512);
  const TemporaryFile second(2 * sectors * 512);
  Disk disk(first.path());
  disk.driver->queue(0).add({{disk.driver->place(header(in, 0)), 16}});  // without a byte for its status
  disk.driver->kick(0);
  REQUIRE(wait_for(disk.driver->events().broken));
  disk.driver->pause();  // as the transport does
  disk.change("path=" + second.path());
  disk.driver->reset();
  disk.driver->activate();
  CHECK(disk.capacity() == 2 * sectors);
  CHECK(disk.status(in, sectors, 0, 512) == ok);
}

TEST_CASE("what was answered before another image came is flushed to the one before") {
  Bench bench;
  const TemporaryFile other(sectors * 512);
  CHECK(bench.status(out, 0, 512) == ok);
  int flushes = 0;
  bench.backend->hook = [&] { flushes = bench.backend->flushes; };
  bench.device.apply(OptionValues::parse("disk", block_kind.options, other.path()));
  CHECK(flushes == 1);
  CHECK(bench.status(in, 0, 0, 512) == ok);
  CHECK(bench.reply.data.front() == std::byte{0});
}

}  // namespace
}  // namespace hum
