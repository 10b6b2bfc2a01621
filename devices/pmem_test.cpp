// SPDX-License-Identifier: Apache-2.0
#include "devices/pmem.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>

#include "devices/temporary_file.h"
#include "devices/virtio_testing.h"
#include "vmm/base/state.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum::testing {
namespace {

using namespace std::chrono_literals;
using virtio::testing::FakeDriver;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint32_t failed = 0xffffffff;

// What the host does at a sync: for the devices of one test at a time.
std::atomic<int> syncs;
std::atomic<int> sync_error;
std::function<void()> during_sync;

int test_sync(int) {
  ++syncs;
  if (during_sync) during_sync();
  errno = sync_error;
  return sync_error == 0 ? 0 : -1;
}

struct Bench {
  explicit Bench(std::uint64_t size = 3 * mib, const std::string& options = {})
      : file(size), device(machine.create(pmem_kind, file.path() + options)) {
    use(*device);
  }
  void use(virtio::VirtioDevice& other) {
    driver.emplace(machine.memory, other);
    driver->activate();
  }
  // With test_sync.
  void use_fake_sync(PmemDevice::Settings settings = {}) {
    driver.reset();
    device.reset();
    syncs = 0;
    sync_error = 0;
    during_sync = {};
    settings.path = file.path();
    device = std::make_unique<PmemDevice>(RawFile::open("path", file.path(), false), settings,
                                          machine.context, test_sync);
    use(*device);
  }

  GuestAddress begin() const { return {config(0)}; }
  std::uint64_t size() const { return config(8); }
  std::uint64_t config(std::uint32_t offset) const {
    std::array<std::byte, 8> bytes{};
    device->read_config(offset, bytes);
    return load_le(bytes);
  }
  std::optional<FakeDriver::Reply> request(std::uint32_t type, std::uint32_t room = 4) {
    const le32 wire(type);
    return driver->request(0, std::as_bytes(std::span(&wire, 1)), room);
  }
  std::uint32_t flush() {
    const auto reply = request(0);
    REQUIRE(reply);
    CHECK(reply->written == 4);
    return static_cast<std::uint32_t>(load_le(reply->data));
  }
  // Adds a flush without a notification; its answer's place.
  GuestAddress add_flush() {
    const GuestAddress at = driver->allocate(16, 16);
    driver->queue(0).add({{at, 4, false}, {at + 8, 4, true}});
    return at + 8;
  }

  VirtioMachine machine;
  TemporaryFile file;
  std::unique_ptr<virtio::VirtioDevice> device;
  std::optional<FakeDriver> driver;
};

std::string content_at(const std::string& path, std::uint64_t offset, std::size_t size) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  return text;
}

void write_text(const GuestMemory& memory, GuestAddress at, std::string_view text) {
  memory.write_bytes(at, std::as_bytes(std::span(text)));
}

std::string error_of(VirtioMachine& machine, const std::string& options) {
  return config_error_of([&] { machine.create(pmem_kind, options); });
}

}  // namespace

TEST_CASE("the guest sees a file as memory above its RAM, 2 MiB aligned and rounded up") {
  Bench bench;
  CHECK(bench.device->type() == 27);
  CHECK(bench.device->features() == 0);
  CHECK(bench.begin().value == std::uint64_t{1} << 32);
  CHECK(bench.size() == 4 * mib);
  CHECK(bench.config(16) == 0);
  const auto slots = bench.machine.slots.all();
  REQUIRE(slots.size() == 1);
  CHECK(slots[0].range == GuestRange{bench.begin(), 4 * mib});
  CHECK_FALSE(slots[0].read_only);
  for (const std::uint64_t size : {std::uint64_t{1}, 2 * mib - 1, 2 * mib, 2 * mib + 1}) {
    Bench other(size);
    CHECK(other.size() == (size > 2 * mib ? 4 : 2) * mib);
  }
}

TEST_CASE("what the guest writes is in the file, and a flush brings it to the disk") {
  Bench bench;
  write_text(bench.machine.memory, bench.begin() + (3 * mib - 5), "hello");
  CHECK(bench.flush() == 0);
  CHECK(content_at(bench.file.path(), 3 * mib - 5, 5) == "hello");
  CHECK(bench.device->report()[0].value == 1);
}

TEST_CASE("what lies behind the file's end is zero, takes bytes, and leaves the file as it is") {
  Bench bench;
  const GuestAddress behind = bench.begin() + 3 * mib;
  CHECK(bench.machine.memory.read<le64>(behind) == 0);
  CHECK(bench.machine.memory.read<le64>(bench.begin() + (4 * mib - 8)) == 0);
  write_text(bench.machine.memory, behind, "lost");
  CHECK(bench.flush() == 0);
  CHECK(std::filesystem::file_size(bench.file.path()) == 3 * mib);
}

TEST_CASE("a file whose last page is a part of one is told of, unless it is only read") {
  CHECK(contains(Bench(mib + 1).machine.logged(), "last 1 bytes"));
  CHECK_FALSE(contains(Bench(mib).machine.logged(), "bytes"));
  CHECK_FALSE(contains(Bench(mib + 1, ",readonly=on").machine.logged(), "bytes"));
}

TEST_CASE("a file that is only read has a read-only slot, and no device writes to it") {
  Bench bench(mib, ",readonly=on");
  REQUIRE(bench.machine.slots.all().size() == 1);
  CHECK(bench.machine.slots.all()[0].read_only);
  CHECK_THROWS_AS(write_text(bench.machine.memory, bench.begin(), "x"), GuestError);
  CHECK(bench.machine.memory.read<le64>(bench.begin()) == 0);
  CHECK(bench.flush() == 0);
  VirtioMachine other;
  CHECK_NOTHROW(other.create(pmem_kind, bench.file.path() + ",readonly=on"));
  CHECK(contains(error_of(other, bench.file.path()), "in use"));
}

TEST_CASE("the file belongs to one machine until the device's end, which leaves no slot and no memory") {
  Bench bench;
  VirtioMachine other;
  CHECK(contains(error_of(other, bench.file.path()), "pmem.path"));
  const GuestAddress begin = bench.begin();
  bench.driver.reset();
  bench.device.reset();
  CHECK(bench.machine.slots.all().empty());
  CHECK_FALSE(bench.machine.memory.contains({begin, 1}));
  CHECK_NOTHROW(other.create(pmem_kind, bench.file.path()));
}

TEST_CASE("files that cannot be memory are refused by name") {
  VirtioMachine machine;
  const TemporaryFolder folder;
  const TemporaryFile empty(0);
  CHECK(contains(error_of(machine, empty.path()), "pmem.path"));
  CHECK(contains(error_of(machine, empty.path()), "has no bytes"));
  CHECK(contains(error_of(machine, folder / "none"), "no such file"));
  CHECK(contains(error_of(machine, folder.path()), "directory"));
  CHECK(contains(error_of(machine, ""), "path"));
  const TemporaryFile good(mib);
  CHECK(contains(error_of(machine, good.path() + ",size=5"), "size"));
  machine.device_memory.limit(32);
  CHECK(contains(error_of(machine, good.path()), "addresses"));
  CHECK(machine.memory.device_regions().empty());
}

TEST_CASE("a slot that the host refuses leaves nothing behind") {
  VirtioMachine machine;
  const TemporaryFile file(mib);
  machine.slots.refused = true;
  CHECK_THROWS_AS(machine.create(pmem_kind, file.path()), HostError);
  CHECK(machine.memory.device_regions().empty());
  machine.slots.refused = false;
  CHECK_NOTHROW(machine.create(pmem_kind, file.path()));
}

TEST_CASE("a flush that the host fails is answered with -1, and told of once") {
  Bench bench;
  bench.use_fake_sync();
  sync_error = EIO;
  CHECK(bench.flush() == failed);
  CHECK(bench.flush() == failed);
  const std::string logged = bench.machine.logged();
  CHECK(contains(logged, bench.file.path()));
  CHECK(logged.find("bring it") == logged.rfind("bring it"));
  CHECK(bench.device->report()[1].value == 2);
  sync_error = 0;
  CHECK(bench.flush() == 0);
}

TEST_CASE("flushes that wait together share one sync, and one that comes during it gets its own") {
  Bench bench;
  bench.use_fake_sync();
  bench.driver->pause();
  for (int i = 0; i < 3; ++i) bench.add_flush();
  std::atomic<bool> first = true;
  during_sync = [&] {
    if (first.exchange(false)) bench.add_flush();
  };
  bench.driver->resume();
  for (int i = 0; i < 4; ++i) REQUIRE(bench.driver->wait_used(0));
  CHECK(syncs == 2);
}

TEST_CASE("a sync that takes long holds up nobody but its request, a pause waits for it") {
  Bench bench;
  bench.use_fake_sync();
  std::promise<void> started;
  std::promise<void> go;
  during_sync = [&, wait = go.get_future().share()] {
    if (syncs == 1) started.set_value();
    wait.wait();
  };
  bench.add_flush();
  bench.driver->kick(0);
  started.get_future().wait();
  CHECK(bench.config(8) == 4 * mib);
  CHECK_FALSE(bench.driver->wait_used(0, 0ms));
  auto paused = std::async(std::launch::async, [&] { bench.driver->pause(); });
  CHECK(paused.wait_for(20ms) == std::future_status::timeout);
  go.set_value();
  paused.wait();
  CHECK(bench.driver->wait_used(0, 0ms));
}

TEST_CASE("requests that are no flush are answered with -1 and cost no sync") {
  Bench bench;
  bench.use_fake_sync();
  for (const std::uint32_t type : {1u, 0x100u, 0xffffffffu}) {
    const auto reply = bench.request(type);
    REQUIRE(reply);
    CHECK(load_le(reply->data) == failed);
  }
  const std::array<std::byte, 3> little{};
  CHECK(load_le(bench.driver->request(0, little, 4)->data) == failed);
  CHECK(load_le(bench.driver->request(0, {}, 4)->data) == failed);
  CHECK(syncs == 0);
  const auto longer = bench.request(0, 40);
  CHECK(longer->written == 4);
  CHECK(syncs == 1);
  CHECK(bench.driver->events().resets == 0);
}

TEST_CASE("a request without room for its answer breaks the ring, until the driver resets the device") {
  Bench bench;
  const std::uint32_t room = GENERATE(0u, 3u);
  const GuestAddress at = bench.driver->allocate(16, 16);
  if (room == 0)
    bench.driver->queue(0).add({{at, 4, false}});
  else
    bench.driver->queue(0).add({{at, 4, false}, {at + 8, room, true}});
  bench.driver->kick(0);
  CHECK(virtio::testing::wait_for(bench.driver->events().broken));
  bench.driver->reset();
  bench.driver->activate();
  CHECK(bench.flush() == 0);
}

TEST_CASE("rings and buffers in the file's own memory work") {
  Bench bench;
  const GuestAddress at = bench.begin() + 4096;
  bench.machine.memory.write(at, le32(0));
  bench.machine.memory.write(at + 8, le32(77));
  bench.driver->queue(0).add({{at, 4, false}, {at + 8, 4, true}});
  bench.driver->kick(0);
  REQUIRE(bench.driver->wait_used(0));
  CHECK(bench.machine.memory.read<le32>(at + 8) == 0);
}

TEST_CASE("limits hold flushes back, for the whole file each, and change while the device runs") {
  Bench bench;
  bench.use_fake_sync({.bandwidth = {.size = mib, .refill_milliseconds = 3'600'000}});
  CHECK(bench.flush() == 0);
  bench.add_flush();
  bench.driver->kick(0);
  CHECK_FALSE(bench.driver->wait_used(0, 20ms));
  const auto options = OptionValues::parse("pmem", pmem_kind.options, bench.file.path());
  bench.device->apply(options.changed("pmem0", "bandwidth=off,ops=1/30"));
  CHECK(bench.driver->wait_used(0));
  bench.add_flush();
  bench.driver->kick(0);
  CHECK(bench.driver->wait_used(0));  // when the time is over
  CHECK(syncs == 3);
  CHECK_THROWS_AS(options.changed("pmem0", "path=/other"), ConfigError);
  CHECK_THROWS_AS(options.changed("pmem0", "readonly=on"), ConfigError);
}

TEST_CASE("a flush that a limit holds back is not lost at a pause") {
  Bench bench;
  bench.use_fake_sync({.operations = {.size = 1, .refill_milliseconds = 3'600'000}});
  CHECK(bench.flush() == 0);
  bench.add_flush();
  bench.driver->kick(0);
  CHECK_FALSE(bench.driver->wait_used(0, 10ms));
  bench.driver->pause();
  bench.device->apply(OptionValues::parse("pmem", pmem_kind.options, bench.file.path()));
  bench.driver->resume();
  CHECK(bench.driver->wait_used(0));
}

TEST_CASE("the memory goes on in another machine, and that of another size does not") {
  Bench source(mib);
  source.driver->pause();
  write_text(source.machine.memory, source.begin() + mib, "behind");  // the file's end
  const GuestAddress begin = source.begin();
  const auto state = state_of(*source.device);
  GuestMemory memory = std::move(source.machine.memory);
  source.driver.reset();
  source.device.reset();  // has the lock
  FakeSlots slots;
  DeviceMemory places(memory, slots, {std::uint64_t{1} << 32});
  VirtioMachine next;
  DeviceContext context{memory,       next.ports,   next.mmio, next.pins,
                        next.control, next.console, next.log,  places};
  const auto device = std::get<DeviceKind::VirtioFactory>(pmem_kind.create)(
      OptionValues::parse("pmem", pmem_kind.options, source.file.path()), context);
  restore(*device, state);
  CHECK(state_of(*device) == state);
  CHECK(slots.all()[0].range.begin == begin);
  std::array<std::byte, 6> behind{};
  memory.read_bytes(begin + mib, behind);
  CHECK(std::string(reinterpret_cast<const char*>(behind.data()), 6) == "behind");
  Bench larger(3 * mib);
  CHECK_THROWS_AS(restore(*larger.device, state), ConfigError);
}

}  // namespace hum::testing
