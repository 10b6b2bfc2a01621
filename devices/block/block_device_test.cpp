// SPDX-License-Identifier: Apache-2.0
#include "devices/block/block_device.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <thread>

#include "devices/block/fake_disk.h"
#include "devices/temporary_file.h"
#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum {
namespace {

using namespace testing;
using virtio::testing::Buffer;
using virtio::testing::FakeDriver;
using virtio::testing::wait_for;

using Kind = BlockOperation::Kind;

TEST_CASE("a disk counts what it moved, and the requests that it refused") {
  Bench bench;
  CHECK(bench.status(out, 0, 1024) == ok);
  CHECK(bench.status(in, 0, 0, 512) == ok);
  CHECK(bench.status(in, sectors, 0, 512) == ioerr);
  CHECK(bench.status(out, 0, 511) == ioerr);
  CHECK(bench.status(99, 0) == unsupp);
  CHECK(bench.status(flush, 0) == ok);
  const std::vector<virtio::DeviceReport::Own> expected = {{"bytes_read", 512},    {"bytes_written", 1024},
                                                           {"bytes_discarded", 0}, {"flushes", 1},
                                                           {"errors", 3},          {"throttled", 0}};
  CHECK(bench.device.report() == expected);
  bench.device.deactivate();
  CHECK(bench.device.report() == expected);
}

TEST_CASE("a disk tells how long the requests took that succeeded, by queue and kind") {
  Bench bench;
  CHECK(bench.status(out, 0, 1024) == ok);
  CHECK(bench.status(in, 0, 0, 512) == ok);
  CHECK(bench.status(in, 8, 0, 512) == ok);
  CHECK(bench.status(in, sectors, 0, 512) == ioerr);
  CHECK(bench.status(flush, 0) == ok);
  bench.device.deactivate();
  std::map<std::string, std::uint64_t> counts;
  for (const virtio::DeviceReport::Latency& each : bench.device.latencies()) {
    CHECK(each.queue == 0);
    CHECK(each.nanoseconds > 0);
    for (const std::uint64_t count : each.buckets) counts[std::string(each.name)] += count;
  }
  CHECK(counts == std::map<std::string, std::uint64_t>{{"flush", 1}, {"read", 2}, {"write", 1}});
}

TEST_CASE("the configuration shows whole sectors, and zero behind its end") {
  Bench bench;
  CHECK(bench.device.type() == 2);
  CHECK(bench.config(0, 8) == sectors);
  CHECK(bench.config(4, 4) == 0);
  CHECK(bench.config(12, 4) == 254);
  CHECK(bench.config(20, 4) == 512);
  CHECK(bench.config(24, 1) == 3);  // eight logical blocks in a physical one
  CHECK(bench.config(26, 2) == 8);
  CHECK(bench.config(writeback, 1) == 1);
  CHECK(bench.config(34, 2) == 1);
  CHECK(bench.config(36, 4) == 1 << 21);
  CHECK(bench.config(40, 4) == 16);
  CHECK(bench.config(44, 4) == 8);
  CHECK(bench.config(56, 1) == 1);
  CHECK(bench.config(60, 8) == 0);
  CHECK(bench.config(UINT32_MAX, 4) == 0);
}

TEST_CASE("the read-only feature is offered for a read-only disk") {
  CHECK((Bench(true).device.features() & 1 << 5) != 0);
  CHECK((Bench(false).device.features() & 1 << 5) == 0);
}

TEST_CASE("what the guest writes to a sector it reads back from there") {
  Bench bench;
  CHECK(bench.status(out, 3, 1024) == ok);
  CHECK(bench.reply.written == 1);
  CHECK(bench.backend->content[3 * 512 - 1] == std::byte{0});
  CHECK(bench.backend->content[3 * 512] == std::byte{0xd7});
  CHECK(bench.backend->content[5 * 512 - 1] == std::byte{0xd7});
  CHECK(bench.backend->content[5 * 512] == std::byte{0});
  CHECK(bench.status(in, 4, 0, 1024) == ok);
  CHECK(bench.reply.written == 1025);
  CHECK(bench.reply.data[511] == std::byte{0xd7});
  CHECK(bench.reply.data[512] == std::byte{0});
}

TEST_CASE("header, data and status may be cut anywhere") {
  Bench bench;
  std::vector<std::byte> text = header(out, 1);
  for (int i = 0; i < 512; ++i) text.push_back(static_cast<std::byte>(i));
  const GuestAddress at = bench.driver.place(text);
  const GuestAddress answer = bench.driver.allocate(1024);
  // The second descriptor has the end of the header and the start of the data.
  bench.driver.queue(0).add({{at, 5}, {at + 5, 20}, {at + 25, 503}, {answer, 1, true}});
  bench.driver.kick(0);
  REQUIRE(bench.driver.wait_used(0));
  CHECK(bench.machine.memory.read<std::uint8_t>(answer) == ok);
  CHECK(std::memcmp(bench.backend->content.data() + 512, text.data() + 16, 512) == 0);

  const GuestAddress read = bench.driver.place(header(in, 1));
  // The last descriptor has the end of the data and the status.
  bench.driver.queue(0).add({{read, 16}, {answer, 1, true}, {answer + 1, 511 + 1, true}});
  bench.driver.kick(0);
  REQUIRE(bench.driver.wait_used(0));
  std::vector<std::byte> back(513);
  bench.machine.memory.read_bytes(answer, back);
  CHECK(std::equal(back.begin(), back.begin() + 512, text.begin() + 16));
  CHECK(back.back() == std::byte{ok});
}

TEST_CASE("a request up to the last sector is served, one past it is refused") {
  Bench bench;
  for (const std::uint32_t type : {in, out}) {
    const auto status = [&](std::uint64_t sector, std::uint32_t bytes) {
      return type == in ? bench.status(type, sector, 0, bytes) : bench.status(type, sector, bytes);
    };
    CHECK(status(sectors - 1, 512) == ok);
    CHECK(status(0, sectors * 512) == ok);
    CHECK(status(sectors, 0) == ok);
    const int before = bench.backend->calls;
    CHECK(status(sectors + 1, 0) == ioerr);
    CHECK(status(sectors, 512) == ioerr);
    CHECK(status(sectors - 1, 1024) == ioerr);
    CHECK(status(0, sectors * 512 + 512) == ioerr);
    CHECK(status(UINT64_MAX, 512) == ioerr);
    CHECK(status(UINT64_MAX / 512 + 1, 512) == ioerr);  // its byte offset wraps to 0
    CHECK(bench.backend->calls == before);
  }
  CHECK(bench.driver.events().resets == 0);
}

TEST_CASE("data that is no whole number of sectors is refused") {
  Bench bench;
  CHECK(bench.status(in, 0, 0, 511) == ioerr);
  CHECK(bench.status(in, 0, 0, 513) == ioerr);
  CHECK(bench.status(out, 0, 511) == ioerr);
  CHECK(bench.status(out, 0, 513) == ioerr);
  CHECK(bench.backend->calls == 0);
}

TEST_CASE("a read-only disk refuses writes and is left alone") {
  Bench bench(true);
  CHECK(bench.status(out, 0, 512) == ioerr);
  CHECK(bench.backend->calls == 0);
  CHECK(bench.status(in, 0, 0, 512) == ok);
}

TEST_CASE("a flush reaches the image, and its failure the guest") {
  Bench bench;
  CHECK(bench.status(out, 0, 512) == ok);
  CHECK(bench.backend->flushes == 0);
  CHECK(bench.status(flush, 0) == ok);
  CHECK(bench.backend->flushes == 1);
  bench.backend->fault = bench.backend->calls;
  CHECK(bench.status(flush, 0) == ioerr);
}

TEST_CASE("a driver that cannot flush has each write flushed before its answer") {
  Bench bench(false, "", ~(feature_flush | feature_config_wce));
  CHECK(bench.status(out, 0, 512) == ok);
  CHECK(bench.backend->flushes == 1);
  bench.backend->fault = bench.backend->calls + 1;
  CHECK(bench.status(out, 0, 512) == ioerr);
  CHECK(bench.status(in, 0, 0, 512) == ok);
  CHECK(bench.backend->flushes == 2);
}

TEST_CASE("the guest gets the disk's id, as much as it has room for") {
  Bench bench(false, "0123456789abcdefghij");
  CHECK(bench.status(get_id, 0, 0, 20) == ok);
  CHECK(bench.reply.written == 21);
  CHECK(std::memcmp(bench.reply.data.data(), "0123456789abcdefghij", 20) == 0);
  CHECK(bench.status(get_id, 0, 0, 3) == ok);
  CHECK(bench.reply.written == 4);
  CHECK(bench.status(get_id, 0, 0, 24) == ok);
  CHECK(bench.reply.written == 20);
  Bench brief(false, "ab");
  CHECK(brief.status(get_id, 0, 0, 20) == ok);
  CHECK(std::memcmp(brief.reply.data.data(), "ab\0\0\0", 5) == 0);
}

TEST_CASE("an unknown kind of request is answered as unsupported") {
  Bench bench;
  for (const std::uint32_t type : {2u, 3u, 5u, 14u, 0x80000000u, UINT32_MAX})
    CHECK(bench.status(type, 0, 512, 512) == unsupp);
  CHECK(bench.backend->calls == 0);
}

TEST_CASE("a header that is too short is an error, as long as there is a status byte") {
  Bench bench;
  for (const std::size_t size : {0u, 1u, 15u}) {
    const std::vector<std::byte> whole = header(in, 0);
    const auto reply = bench.driver.request(0, std::span(whole).first(size), 513);
    REQUIRE(reply);
    CHECK(reply->data.back() == std::byte{ioerr});
    CHECK(reply->written == 0);
  }
  CHECK(bench.driver.events().resets == 0);
}

TEST_CASE("a request without a status byte needs a reset, which mends the disk") {
  Bench bench;
  bench.driver.queue(0).add({{bench.driver.place(header(in, 0)), 16}});
  bench.driver.kick(0);
  REQUIRE(wait_for(bench.driver.events().broken));
  CHECK(bench.driver.events().resets == 1);
  CHECK(bench.backend->calls == 0);
  bench.driver.reset();
  bench.driver.activate();
  CHECK(bench.status(in, 0, 0, 512) == ok);
}

TEST_CASE("a failure of the image, at any call, fails that request alone and is logged once") {
  for (const BlockResult failure : {BlockResult::io_error, BlockResult::no_space}) {
    Bench bench;
    bench.backend->failure = failure;
    const std::size_t before = bench.machine.logged().size();
    for (int call = 0; call < 3; ++call) {
      bench.backend->calls = 0;
      bench.backend->fault = call;
      CHECK(bench.status(out, 0, 512) == (call == 0 ? ioerr : ok));
      CHECK(bench.status(in, 0, 0, 512) == (call == 1 ? ioerr : ok));
      CHECK(bench.reply.written == (call == 1 ? 0 : 513));
      CHECK(bench.status(flush, 0) == (call == 2 ? ioerr : ok));
    }
    const std::string log = bench.machine.logged().substr(before);
    CHECK(contains(log, "disk 'test.img'"));
    CHECK(contains(log, "no space") == (failure == BlockResult::no_space));
    CHECK(std::count(log.begin(), log.end(), '\n') == 1);
  }
}

TEST_CASE("requests that wait together are answered together") {
  Bench bench;
  std::atomic<bool> held = true;
  std::vector<unsigned> shown;
  const EventFd entered;
  bench.backend->hook = [&] {
    entered.signal();
    while (held) std::this_thread::yield();
    shown.push_back(bench.driver.queue(0).used_index());
  };
  const GuestAddress at = bench.driver.place(header(in, 0));
  const GuestAddress room = bench.driver.allocate(4096);
  const auto add = [&] { bench.driver.queue(0).add({{at, 16}, {room, 513, true}}); };
  add();
  bench.driver.kick(0);
  REQUIRE(wait_for(entered));
  for (int i = 0; i < 9; ++i) add();
  held = false;
  for (int i = 0; i < 10; ++i) REQUIRE(bench.driver.wait_used(0));
  bench.driver.reset();
  CHECK(shown == std::vector<unsigned>(10, 0));
}

TEST_CASE("a reset waits for the request under way") {
  Bench bench;
  std::atomic<bool> finished = false;
  const EventFd entered;
  bench.backend->hook = [&] {
    entered.signal();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    finished = true;
  };
  bench.driver.queue(0).add(
      {{bench.driver.place(header(in, 0)), 16}, {bench.driver.allocate(1024), 513, true}});
  bench.driver.kick(0);
  REQUIRE(wait_for(entered));
  bench.driver.reset();
  CHECK(finished);
}

TEST_CASE("a driver may choose that a write is safe once it is answered, and change its mind") {
  Bench bench;
  const auto choose = [&](std::uint8_t value) { bench.device.write_config(writeback, bytes_of(value)); };
  choose(0);
  CHECK(bench.config(writeback, 1) == 0);
  CHECK(bench.status(out, 0, 512) == ok);
  CHECK(bench.backend->flushes == 1);
  choose(1);
  CHECK(bench.config(writeback, 1) == 1);
  CHECK(bench.status(out, 0, 512) == ok);
  CHECK(bench.backend->flushes == 1);
  choose(0);
  bench.driver.reset();
  CHECK(bench.config(writeback, 1) == 1);
  const std::uint32_t wide = 0;
  bench.device.write_config(0, bytes_of(wide));
  bench.device.write_config(writeback, bytes_of(wide));
  CHECK(bench.config(writeback, 1) == 1);
  CHECK(bench.config(0, 8) == sectors);
}

struct Segment {
  le64 sector;
  le32 count;
  le32 flags;
};

int segments_status(Bench& bench, std::uint32_t type, const std::vector<Segment>& segments,
                    std::size_t cut = 0) {
  std::vector<std::byte> readable = header(type, 0);
  for (const Segment& each : segments) {
    const auto bytes = bytes_of(each);
    readable.insert(readable.end(), bytes.begin(), bytes.end());
  }
  readable.resize(readable.size() - cut);
  return std::to_integer<int>(bench.driver.request(0, readable, 1).value().data.back());
}

TEST_CASE("discards and zeroes reach each of their ranges and no other sector") {
  for (const std::uint32_t type : {discard, write_zeroes}) {
    Bench bench;
    REQUIRE(bench.status(out, 0, 16 * 512) == ok);
    CHECK(segments_status(bench, type, {{2, 1, 0}, {5, 0, 0}, {8, 2, 0}}) == ok);
    CHECK_FALSE(bench.backend->unmapped);
    for (std::size_t sector = 0; sector < 16; ++sector) {
      const bool zero = sector == 2 || sector == 8 || sector == 9;
      CHECK(bench.backend->content[sector * 512] == (zero ? std::byte{0} : std::byte{0xd7}));
      CHECK(bench.backend->content[sector * 512 + 511] == (zero ? std::byte{0} : std::byte{0xd7}));
    }
    CHECK(bench.backend->calls == 3);
  }
}

TEST_CASE("zeroes may be unmapped where the driver says so, a discard with that flag is not supported") {
  Bench bench;
  CHECK(segments_status(bench, write_zeroes, {{2, 1, 1}}) == ok);
  CHECK(bench.backend->unmapped);
  const int before = bench.backend->calls;
  CHECK(segments_status(bench, discard, {{2, 1, 1}}) == unsupp);
  CHECK(segments_status(bench, write_zeroes, {{2, 1, 2}}) == unsupp);
  CHECK(segments_status(bench, write_zeroes, {{0, 1, 0}, {2, 1, 0x80000000}}) == unsupp);
  CHECK(bench.backend->calls == before);
}

TEST_CASE("ranges that are too many, too long, cut short or past the end are refused whole") {
  Bench bench;
  for (const std::uint32_t type : {discard, write_zeroes}) {
    CHECK(segments_status(bench, type, std::vector<Segment>(16, {0, 1, 0})) == ok);
    const int before = bench.backend->calls;
    CHECK(segments_status(bench, type, std::vector<Segment>(17, {0, 1, 0})) == ioerr);
    CHECK(segments_status(bench, type, {}) == ioerr);
    CHECK(segments_status(bench, type, {{0, 1, 0}}, 1) == ioerr);
    CHECK(segments_status(bench, type, {{0, 1, 0}, {sectors, 1, 0}}) == ioerr);
    CHECK(segments_status(bench, type, {{0, 1, 0}, {UINT64_MAX, 1, 0}}) == ioerr);
    CHECK(segments_status(bench, type, {{0, (1u << 21) + 1, 0}}) == ioerr);
    CHECK(bench.backend->calls == before);
  }
}

TEST_CASE("what the host does not know of, a discard leaves alone, and zeroes are written") {
  Bench bench;
  bench.backend->failure = BlockResult::unsupported;
  for (const std::uint32_t type : {discard, write_zeroes}) {
    REQUIRE(bench.status(out, 0, 16 * 512) == ok);
    bench.backend->fault = bench.backend->calls;
    CHECK(segments_status(bench, type, {{1, 2, 0}, {5, 1, 0}}) == ok);
    for (std::size_t sector = 0; sector < 16; ++sector) {
      const bool zero = sector == 5 || (type == write_zeroes && (sector == 1 || sector == 2));
      CHECK(bench.backend->content[sector * 512] == (zero ? std::byte{0} : std::byte{0xd7}));
      CHECK(bench.backend->content[sector * 512 + 511] == (zero ? std::byte{0} : std::byte{0xd7}));
    }
  }
  bench.backend->discards = false;
  CHECK(segments_status(bench, discard, {{0, 1, 0}}) == unsupp);
  CHECK(segments_status(bench, write_zeroes, {{0, 1, 0}}) == unsupp);
  CHECK((bench.device.features() & (3ull << 13)) == 0);
}

TEST_CASE("zeroes are flushed before their answer where writes are, once and at the end") {
  Bench bench(false, "", ~(feature_flush | feature_config_wce));
  CHECK(segments_status(bench, write_zeroes, {{0, 1, 0}, {2, 1, 0}, {4, 0, 0}}) == ok);
  CHECK(bench.backend->flushes == 1);
  CHECK(bench.backend->calls == 3);
}

TEST_CASE("a disk with blocks of 4096 bytes shows them and takes no smaller request") {
  VirtioMachine machine;
  const TemporaryFile file(10 * 4096 + 512);
  const auto device = machine.create(block_kind, file.path() + ",block-size=4096");
  CHECK(contains(machine.logged(), "does not see the last 512 bytes"));
  std::vector<std::byte> config(24);
  device->read_config(0, config);
  CHECK(load_le(std::span(config).first(8)) == 80);
  CHECK(load_le(std::span(config).subspan(20)) == 4096);
  FakeDriver driver(machine.memory, *device);
  driver.activate();
  const auto status = [&](std::uint64_t sector, std::uint32_t bytes) {
    return std::to_integer<int>(driver.request(0, header(in, sector), bytes + 1)->data.back());
  };
  CHECK(status(8, 4096) == ok);
  CHECK(status(72, 4096) == ok);
  CHECK(status(80, 4096) == ioerr);
  CHECK(status(1, 4096) == ioerr);
  CHECK(status(8, 512) == ioerr);
}

TEST_CASE("several queues are served by several threads, with either engine and each cache") {
  for (const std::string options : {"aio=auto", "aio=threads", "cache=unsafe"}) {
    VirtioMachine machine;
    const TemporaryFile file(256 * 512);
    const auto device =
        machine.create(block_kind, file.path() + ",queues=4,iothreads=2,queue-size=64," + options);
    CHECK((device->features() & 1 << 12) != 0);
    CHECK(device->queue_sizes().size() == 4);
    CHECK(device->queue_sizes()[3] == 64);
    FakeDriver driver(machine.memory, *device);
    driver.activate();
    for (std::uint16_t queue = 0; queue < 4; ++queue) {
      std::vector<std::byte> written = header(out, queue);
      written.resize(16 + 512, static_cast<std::byte>(queue + 1));
      CHECK(driver.request(queue, written, 1)->data.back() == std::byte{ok});
      const auto back = driver.request(static_cast<std::uint16_t>(3 - queue), header(in, queue), 513);
      REQUIRE(back);
      CHECK(back->data.front() == static_cast<std::byte>(queue + 1));
      CHECK(back->data[511] == static_cast<std::byte>(queue + 1));
    }
    CHECK(driver.request(2, header(flush, 0), 1)->data.back() == std::byte{ok});
  }
}

TEST_CASE("a reset while many requests are under way ends them all") {
  for (const std::string options : {"aio=auto", "aio=threads"}) {
    VirtioMachine machine;
    const TemporaryFile file(4 << 20);
    const auto device = machine.create(block_kind, file.path() + "," + options);
    FakeDriver driver(machine.memory, *device);
    const GuestAddress rooms = driver.allocate(60 * 4096);
    for (int round = 0; round < 20; ++round) {
      driver.activate();
      const GuestAddress at = driver.place(header(round % 2 == 0 ? in : out, 0));
      for (unsigned i = 0; i < 60; ++i) {
        const GuestAddress room = rooms + i * 4096;
        if (round % 2 == 0)
          driver.queue(0).add({{at, 16}, {room, 2049, true}});
        else
          driver.queue(0).add({{at, 16}, {room, 2048}, {room + 2048, 1, true}});
      }
      driver.kick(0);
      driver.reset();
    }
    driver.activate();
    CHECK(driver.request(0, header(in, 0), 513)->data.back() == std::byte{ok});
  }
}

TEST_CASE("a disk is made from its options") {
  VirtioMachine machine;
  const TemporaryFile file(1024 * 512 + 1);
  const auto identify = [&](const std::string& options) {
    const auto device = machine.create(block_kind, options);
    FakeDriver driver(machine.memory, *device);
    driver.activate();
    const auto reply = driver.request(0, header(get_id, 0), 21).value();
    return std::string(reinterpret_cast<const char*>(reply.data.data()));
  };
  const std::string name = file.path().substr(file.path().rfind('/') + 1);
  CHECK(identify(file.path()) == name.substr(0, 20));
  CHECK(contains(machine.logged(), "does not see the last 1 bytes"));
  CHECK(identify("path=" + file.path() + ",id=0123456789abcdefghij") == "0123456789abcdefghij");
  const std::string too_long = "0123456789abcdefghijk";
  CHECK(
      contains(config_error_of([&] { identify(file.path() + ",id=" + too_long); }), "disk.id '" + too_long));
  CHECK(contains(config_error_of([&] { identify(""); }), "'path' is missing"));
  CHECK(
      contains(config_error_of([&] { identify(file.path() + ",iothreads=2"); }), "more threads than queues"));
  CHECK(contains(config_error_of([&] { identify(file.path() + ",queue-size=100"); }), "disk.queue-size"));
  CHECK(contains(config_error_of([&] { identify(file.path() + ".no"); }), "disk.path"));
  const auto shared = machine.create(block_kind, file.path() + ",readonly=on");
  CHECK((shared->features() & 1 << 5) != 0);
  CHECK(machine.create(block_kind, file.path() + ",readonly"));
}

TEST_CASE("an empty disk has no sectors and answers") {
  VirtioMachine machine;
  const TemporaryFile file(0);
  const auto device = machine.create(block_kind, file.path());
  FakeDriver driver(machine.memory, *device);
  driver.activate();
  CHECK(driver.request(0, header(in, 0), 513)->data.back() == std::byte{ioerr});
  CHECK(driver.request(0, header(flush, 0), 1)->data.back() == std::byte{ok});
}

}  // namespace
}  // namespace hum
