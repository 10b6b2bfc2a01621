// SPDX-License-Identifier: Apache-2.0
#include "devices/balloon/balloon_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <numeric>
#include <thread>

#include "devices/virtio_testing.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum::testing {
namespace {

using namespace balloon_wire;
using namespace std::chrono_literals;
using virtio::testing::Buffer;
using virtio::testing::FakeDriver;
using virtio::testing::wait_for;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint32_t target_at = 0;
constexpr std::uint32_t actual_at = 4;
constexpr std::uint32_t command_at = 8;
constexpr std::uint32_t poison_at = 12;

// Pages of the range that take memory of the host.
std::uint64_t resident(const GuestMemory& memory, GuestRange range) {
  std::vector<iovec> parts;
  memory.for_read(range, parts);
  std::uint64_t pages = 0;
  for (const iovec& part : parts) {
    std::vector<unsigned char> map(part.iov_len / page_bytes);
    REQUIRE(::mincore(part.iov_base, part.iov_len, map.data()) == 0);
    for (const unsigned char each : map) pages += each & 1;
  }
  return pages;
}

struct Guest {
  explicit Guest(const BalloonDevice::Settings& settings = {}, std::uint64_t ram = 16 * mib,
                 MemoryBacking backing = {})
      : memory(std::array{GuestRange{GuestAddress{0}, ram}}, backing),
        device(settings, memory),
        driver(memory, device) {
    // The host may else make a huge page, which has all pages, of one that has some.
    for (const MemoryRegion& region : memory.regions())
      ::madvise(region.host, region.range.size, MADV_NOHUGEPAGE);
  }

  // A range of memory in use.
  GuestRange touch(std::uint64_t pages) {
    const GuestRange range{driver.allocate(pages * page_bytes), pages * page_bytes};
    std::vector<iovec> parts;
    memory.for_write(range, parts);
    for (const iovec& part : parts) std::memset(part.iov_base, 0x5a, part.iov_len);
    return range;
  }
  std::uint64_t resident(GuestRange range) const { return testing::resident(memory, range); }

  static std::vector<le32> numbers_of(GuestRange range) {
    std::vector<le32> numbers(range.size / page_bytes);
    std::uint32_t next = static_cast<std::uint32_t>(range.begin.value / page_bytes);
    for (le32& each : numbers) each = next++;
    return numbers;
  }
  bool send(std::uint16_t queue, std::span<const le32> numbers) {
    return driver.request(queue, std::as_bytes(numbers), 0).has_value();
  }
  bool inflate(GuestRange range) { return send(inflate_queue, numbers_of(range)); }

  std::uint32_t config(std::uint32_t at) const {
    std::array<std::byte, 4> word;
    device.read_config(at, word);
    return static_cast<std::uint32_t>(load_le(word));
  }
  void write_config(std::uint32_t at, std::uint32_t value) { device.write_config(at, bytes_of(le32(value))); }

  std::optional<std::uint64_t> told(std::string_view name) const {
    for (const auto& row : device.report())
      if (row.name == name) return row.value;
    return {};
  }
  bool tells(std::string_view name, std::uint64_t value) const {
    const auto end = std::chrono::steady_clock::now() + virtio::testing::patience;
    while (told(name) != value && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
    return told(name) == value;
  }

  // Gives the device a buffer of statistics, which it keeps.
  void give_statistics(std::initializer_list<std::pair<unsigned, std::uint64_t>> statistics) {
    std::vector<std::byte> bytes(statistics.size() * sizeof(Statistic));
    std::size_t at = 0;
    for (const auto& [tag, value] : statistics) {
      store_le(std::span(bytes).subspan(at, 2), tag);
      store_le(std::span(bytes).subspan(at + 2, 8), value);
      at += sizeof(Statistic);
    }
    const auto size = static_cast<std::uint32_t>(bytes.size());
    driver.queue(statistics_queue).add({{driver.place(bytes), size}});
    driver.kick(statistics_queue);
  }

  bool hint(GuestRange range) {
    driver.queue(hinting_queue).add({{range.begin, static_cast<std::uint32_t>(range.size), true}});
    driver.kick(hinting_queue);
    return driver.wait_used(hinting_queue).has_value();
  }
  bool hint_command(std::uint32_t command) {
    return driver.request(hinting_queue, bytes_of(le32(command)), 0).has_value();
  }
  void change(std::string_view text) {
    const OptionValues values = OptionValues::parse("balloon0", balloon_kind.options, start_options);
    device.apply(values.changed("balloon0", text));
  }

  std::string start_options;  // what settings are in text
  GuestMemory memory;
  BalloonDevice device;
  FakeDriver driver;
};

}  // namespace

TEST_CASE("a balloon offers what it was made with and has no more configuration than four words") {
  VirtioMachine machine;
  const auto plain = machine.create(balloon_kind, "");
  CHECK(plain->type() == 5);
  CHECK(plain->features() == 0);
  CHECK(plain->queue_sizes().size() == 5);
  CHECK(machine.create(balloon_kind, "deflate-on-oom")->features() == 0x04);
  CHECK(machine.create(balloon_kind, "statistics=1")->features() == 0x02);
  CHECK(machine.create(balloon_kind, "hinting")->features() == 0x18);
  CHECK(machine.create(balloon_kind, "reporting")->features() == 0x30);

  const auto device = machine.create(balloon_kind, "8M");
  std::array<std::byte, 24> space;
  space.fill(std::byte{0xff});
  device->read_config(0, space);
  CHECK(load_le(std::span(space).first(4)) == 2048);
  CHECK(std::all_of(space.begin() + 4, space.end(), [](std::byte each) { return each == std::byte{0}; }));
}

TEST_CASE("a target has whole pages and is no more than the memory") {
  VirtioMachine machine;
  CHECK(machine.create(balloon_kind, "target=16M"));
  CHECK(contains(config_error_of([&] { machine.create(balloon_kind, "target=16388K"); }), "balloon.target"));
  CHECK(contains(config_error_of([&] { machine.create(balloon_kind, "target=4097"); }), "4096"));
}

TEST_CASE("the driver writes how much it has given up and what fills its pages, and nothing else") {
  Guest guest({.target = 8 * mib});
  guest.write_config(actual_at, 77);
  guest.write_config(poison_at, 0xaa55);
  guest.write_config(target_at, 1);
  guest.write_config(command_at, 2);
  guest.write_config(16, 3);
  guest.device.write_config(UINT32_MAX, bytes_of(le32(1)));
  guest.device.write_config(actual_at + 1, bytes_of(std::uint8_t{1}));
  CHECK(guest.config(target_at) == 2048);
  CHECK(guest.config(actual_at) == 77 + 256);
  CHECK(guest.config(command_at) == 0);
  CHECK(guest.config(poison_at) == 0xaa55);
  CHECK(guest.told("actual_pages") == 77 + 256);
}

TEST_CASE("pages that the guest gives up are the host's again, and their neighbours stay") {
  const auto shared = GENERATE(false, true);
  Guest guest({}, 16 * mib, {.shared = shared});
  guest.driver.activate();
  const GuestRange range = guest.touch(64);
  const GuestRange given{range.begin + 2 * page_bytes, 60 * page_bytes};
  REQUIRE(guest.resident(range) == 64);
  REQUIRE(guest.inflate(given));
  CHECK(guest.resident(given) == 0);
  CHECK(guest.resident(range) == 4);
  CHECK(guest.memory.read<std::uint8_t>(given.begin + UINT64_MAX) == 0x5a);
  CHECK(guest.memory.read<std::uint8_t>(given.begin) == 0);
  CHECK(guest.memory.read<std::uint8_t>(given.begin + given.size) == 0x5a);
  CHECK(guest.told("inflated_pages") == 60);
  CHECK(guest.told("returned_bytes") == given.size);
  REQUIRE(guest.send(deflate_queue, Guest::numbers_of(given)));
  CHECK(guest.told("deflated_pages") == 60);
  guest.memory.write<std::uint8_t>(given.begin, 1);
  CHECK(guest.resident(given) == 1);
}

TEST_CASE("page numbers may come in any order, more than once, apart, and in an array of any pieces") {
  Guest guest;
  guest.driver.activate();
  const GuestRange range = guest.touch(1300);
  std::vector<le32> numbers = Guest::numbers_of(range);
  SECTION("from the last to the first") {
    std::reverse(numbers.begin(), numbers.end());
  }
  SECTION("every second one first, and some twice") {
    std::sort(numbers.begin(), numbers.end(), [](std::uint32_t one, std::uint32_t other) {
      return std::pair(one % 2, one) < std::pair(other % 2, other);
    });
    numbers.insert(numbers.end(), numbers.begin(), numbers.begin() + 30);
  }
  SECTION("in order") {}
  const auto bytes = std::as_bytes(std::span(numbers));
  const GuestAddress at = guest.driver.place(bytes);
  const auto size = static_cast<std::uint32_t>(bytes.size());
  guest.driver.queue(inflate_queue).add({{at, 3}, {at + 3, 4098}, {at + 4101, size - 4101}});
  guest.driver.kick(inflate_queue);
  REQUIRE(guest.driver.wait_used(inflate_queue));
  CHECK(guest.resident(range) == 0);
  CHECK(guest.told("inflated_pages") == numbers.size());
}

TEST_CASE("a request without a whole page number is answered and does nothing") {
  Guest guest;
  guest.driver.activate();
  const GuestRange range = guest.touch(1);
  const std::vector<le32> number = Guest::numbers_of(range);
  for (const std::uint16_t queue : {inflate_queue, deflate_queue}) {
    CHECK(guest.driver.request(queue, {}, 16));
    CHECK(guest.driver.request(queue, std::as_bytes(std::span(number)).first(3), 0));
  }
  CHECK(guest.resident(range) == 1);
  CHECK(guest.told("inflated_pages") == 0);
}

TEST_CASE("the last page is memory, the next one breaks the device and nothing else, until a reset") {
  Guest guest;
  guest.driver.activate();
  const GuestRange last{{16 * mib - page_bytes}, page_bytes};
  guest.memory.write<std::uint8_t>(last.begin, 1);
  REQUIRE(guest.inflate(last));
  CHECK(guest.resident(last) == 0);

  const GuestRange range = guest.touch(4);
  const auto beyond = GENERATE(as<std::uint32_t>(), 4096, 0x100000, UINT32_MAX);
  std::vector<le32> numbers = Guest::numbers_of(range);
  numbers[1] = beyond;
  const auto bytes = std::as_bytes(std::span(numbers));
  guest.driver.queue(inflate_queue).add({{guest.driver.place(bytes), 16}});
  guest.driver.kick(inflate_queue);
  REQUIRE(wait_for(guest.driver.events().broken));
  CHECK(contains(guest.driver.events().reason(), "outside of guest memory"));
  CHECK(guest.memory.read<std::uint8_t>(range.begin + page_bytes) == 0x5a);

  guest.driver.reset();
  guest.driver.activate();
  CHECK(guest.inflate(range));
  CHECK(guest.resident(range) == 0);
}

TEST_CASE("an array that takes seconds holds up neither a pause nor a reset") {
  Guest guest({}, 32 * mib);
  guest.driver.activate();
  const GuestRange array{guest.driver.allocate(16 * mib), 16 * mib};
  std::vector<iovec> parts;
  guest.memory.for_write(array, parts);
  auto* const words = static_cast<le32*>(parts.front().iov_base);
  const GuestRange given = guest.touch(2);
  for (std::size_t i = 0; i < 4 * mib; ++i)
    words[i] = static_cast<std::uint32_t>(given.begin.value / page_bytes + i % 2);
  const std::vector<Buffer> buffers(100, {array.begin, static_cast<std::uint32_t>(array.size)});
  guest.driver.queue(inflate_queue).add(buffers);
  guest.driver.kick(inflate_queue);
  const auto end = std::chrono::steady_clock::now() + virtio::testing::patience;
  while (guest.resident(given) != 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(1ms);
  const auto begun = std::chrono::steady_clock::now();
  if (GENERATE(false, true)) {
    guest.driver.pause();
    guest.driver.resume();
  }
  guest.driver.reset();
  CHECK(std::chrono::steady_clock::now() - begun < 2s);
  CHECK(guest.told("inflated_pages") == 0);
  guest.driver.activate();
  CHECK(guest.inflate(given));
}

TEST_CASE("a request that a pause has interrupted is carried out after it") {
  Guest guest;
  guest.driver.activate();
  const GuestRange range = guest.touch(512);
  guest.driver.pause();
  const auto numbers = Guest::numbers_of(range);
  const auto bytes = std::as_bytes(std::span(numbers));
  guest.driver.queue(inflate_queue)
      .add({{guest.driver.place(bytes), static_cast<std::uint32_t>(bytes.size())}});
  guest.driver.resume();
  REQUIRE(guest.driver.wait_used(inflate_queue));
  CHECK(guest.resident(range) == 0);
}

TEST_CASE("both queues are served at once, each request answered") {
  Guest guest;
  guest.driver.activate();
  const GuestRange range = guest.touch(100);
  const auto numbers = Guest::numbers_of(range);
  const GuestAddress at = guest.driver.place(std::as_bytes(std::span(numbers)));
  for (const std::uint16_t queue : {inflate_queue, deflate_queue}) {
    for (unsigned i = 0; i < 100; ++i) guest.driver.queue(queue).add({{at + 4 * i, 4}});
    guest.driver.kick(queue);
  }
  for (const std::uint16_t queue : {inflate_queue, deflate_queue})
    for (unsigned i = 0; i < 100; ++i) REQUIRE(guest.driver.wait_used(queue));
  CHECK(guest.resident(range) == 0);
  CHECK(guest.told("deflated_pages") == 100);
}

TEST_CASE("a guest's memory is the host's again within two seconds, nearly all of it") {
  constexpr std::uint64_t ram = 128 * mib;
  const auto shared = GENERATE(false, true);
  Guest guest({}, ram, {.shared = shared});
  guest.driver.activate();
  const GuestRange range = guest.touch(ram / page_bytes * 3 / 4);
  const std::uint64_t before = guest.resident({{0}, ram});
  const auto numbers = Guest::numbers_of(range);
  const auto begun = std::chrono::steady_clock::now();
  // As Linux does it: 256 pages, one request after the other.
  for (std::size_t at = 0; at < numbers.size(); at += 256)
    REQUIRE(guest.send(inflate_queue, std::span(numbers).subspan(at, 256)));
  const auto taken = std::chrono::steady_clock::now() - begun;
  const std::uint64_t returned = before - guest.resident({{0}, ram});
  CHECK(returned * 100 >= numbers.size() * 95);
  CHECK(taken < 2s);
}

TEST_CASE("another target is told at once, or after a pause, and one that cannot be is refused") {
  Guest guest({.target = 4 * mib});
  guest.start_options = "target=4M";
  guest.driver.activate();
  guest.change("target=8M");
  CHECK(guest.driver.events().config_changes == 1);
  CHECK(guest.config(target_at) == 2048);
  guest.change("target=8M");
  CHECK(guest.driver.events().config_changes == 1);
  CHECK(contains(config_error_of([&] { guest.change("target=17M"); }), "balloon"));
  CHECK(contains(config_error_of([&] { guest.change("reporting=on"); }), "target, statistics"));
  CHECK(guest.config(target_at) == 2048);

  guest.driver.pause();
  guest.change("target=0");
  CHECK(guest.driver.events().config_changes == 1);
  guest.driver.resume();
  CHECK(guest.driver.events().config_changes == 2);
  CHECK(guest.config(target_at) == 0);
}

TEST_CASE("the guest's statistics are asked for again and again, and reported by their names") {
  Guest guest({.statistics = 20ms});
  guest.driver.activate();
  CHECK_FALSE(guest.told("free_memory"));
  guest.give_statistics({{5, 1000}, {4, 300}, {1234, 9}, {15, 7}, {16, 8}});
  REQUIRE(guest.tells("free_memory", 300));
  CHECK(guest.told("total_memory") == 1000);
  CHECK(guest.told("direct_reclaim") == 7);
  CHECK_FALSE(guest.told("swap_in"));
  for (std::uint64_t round = 1; round < 4; ++round) {
    REQUIRE(guest.driver.wait_used(statistics_queue));
    guest.give_statistics({{4, round}});  // what is left out stays
    REQUIRE(guest.tells("free_memory", round));
    CHECK(guest.told("total_memory") == 1000);
  }
}

TEST_CASE("statistics go on after a pause, and another driver begins without any") {
  Guest guest({.statistics = 20ms});
  guest.driver.activate();
  guest.give_statistics({{4, 1}});
  guest.write_config(actual_at, 5);
  REQUIRE(guest.tells("free_memory", 1));
  guest.driver.pause();
  std::this_thread::sleep_for(30ms);
  guest.driver.resume();
  CHECK(guest.driver.wait_used(statistics_queue));
  CHECK(guest.told("free_memory") == 1);
  guest.driver.reset();
  CHECK(guest.told("free_memory") == 1);  // for the record of the end
  guest.driver.activate();
  CHECK_FALSE(guest.told("free_memory"));
  CHECK(guest.config(actual_at) == 0);
}

TEST_CASE("a guest that gives statistics without end gets one buffer back for each question") {
  Guest guest({.statistics = 50ms});
  guest.driver.activate();
  const auto begun = std::chrono::steady_clock::now();
  for (unsigned i = 0; i < 100; ++i) guest.give_statistics({{4, i}});
  std::this_thread::sleep_for(120ms);
  const std::uint16_t used = guest.driver.queue(statistics_queue).used_index();
  CHECK(used <= (std::chrono::steady_clock::now() - begun) / 50ms + 1);
  CHECK(guest.told("free_memory").value() <= used);
  // Far more of them than there are, in one buffer.
  const std::vector<std::byte> array(mib);
  guest.driver.reset();
  guest.driver.activate();
  guest.driver.queue(statistics_queue).add({{guest.driver.place(array), mib}});
  guest.driver.kick(statistics_queue);
  CHECK(guest.tells("swap_in", 0));
}

TEST_CASE("how often statistics are asked for changes, but not whether") {
  Guest off;
  CHECK(contains(config_error_of([&] { off.change("statistics=1"); }), "statistics"));
  Guest guest({.statistics = 3600s});
  guest.start_options = "statistics=3600";
  guest.driver.activate();
  guest.give_statistics({{4, 1}});
  CHECK(contains(config_error_of([&] { guest.change("statistics=0"); }), "turned on or off"));
  guest.change("statistics=1");
  CHECK(guest.driver.wait_used(statistics_queue));
}

TEST_CASE("reported pages are the host's, unless the guest has filled them with something") {
  Guest guest({.reporting = true});
  const bool accepts = GENERATE(true, false);
  const auto poison = GENERATE(as<std::uint32_t>(), 0, 0xaa);
  guest.write_config(poison_at, poison);
  guest.driver.activate(accepts ? ~0ull : ~feature_poison);
  const GuestRange range = guest.touch(16);
  const auto half = static_cast<std::uint32_t>(range.size / 2);
  guest.driver.queue(reporting_queue)
      .add({{range.begin, half - 4096, true}, {range.begin + half, half, true}});
  guest.driver.kick(reporting_queue);
  REQUIRE(guest.driver.wait_used(reporting_queue));
  CHECK(guest.resident(range) == (accepts && poison != 0 ? 16 : 1));
  CHECK(guest.told("reported_bytes") == 15 * page_bytes);
}

TEST_CASE("hinted pages are the host's in the round that was asked for, and the guest has them back") {
  Guest guest({.hinting = true});
  guest.driver.activate();
  const GuestRange early = guest.touch(4);
  REQUIRE(guest.hint(early));
  CHECK(guest.resident(early) == 4);
  CHECK_FALSE(guest.told("guest_cmd"));

  guest.device.request("start-hinting");
  CHECK(guest.driver.events().config_changes == 1);
  const std::uint32_t round = guest.config(command_at);
  CHECK(round >= first_hinting_round);
  const GuestRange range = guest.touch(4);
  REQUIRE(guest.hint_command(round - 1));
  REQUIRE(guest.hint(range));
  CHECK(guest.resident(range) == 4);
  REQUIRE(guest.hint_command(round));
  CHECK(guest.told("guest_cmd") == round);
  REQUIRE(guest.hint(range));
  CHECK(guest.resident(range) == 0);
  REQUIRE(guest.hint_command(hinting_stop));
  CHECK(guest.tells("host_cmd", hinting_done));
  CHECK(guest.driver.events().config_changes == 2);
  CHECK(guest.told("guest_cmd") == 0);
  const GuestRange late = guest.touch(4);
  REQUIRE(guest.hint(late));
  CHECK(guest.resident(late) == 4);

  guest.device.request("start-hinting");
  CHECK(guest.config(command_at) > round);
  REQUIRE(guest.hint_command(hinting_stop));  // of the round before
  CHECK(guest.config(command_at) > round);
}

TEST_CASE("hinted pages stay the host's until the round is stopped, where that is wanted") {
  Guest guest({.hinting = true});
  guest.start_options = "hinting=on";
  guest.driver.activate();
  guest.change("hinting-acknowledge=off");
  guest.device.request("start-hinting");
  const std::uint32_t round = guest.config(command_at);
  REQUIRE(guest.hint_command(round));
  REQUIRE(guest.hint_command(hinting_stop));
  CHECK(guest.config(command_at) == round);
  guest.device.request("stop-hinting");
  CHECK(guest.config(command_at) == hinting_done);
  guest.driver.reset();
  CHECK(guest.config(command_at) == hinting_stop);
}

TEST_CASE("hinting is refused where there is none, where no driver does it, and by another name") {
  Guest without;
  without.driver.activate();
  CHECK(contains(config_error_of([&] { without.device.request("start-hinting"); }), "hinting=on"));
  Guest guest({.hinting = true});
  CHECK(contains(config_error_of([&] { guest.device.request("start-hinting"); }), "driver"));
  guest.driver.activate(~feature_hinting);
  CHECK(contains(config_error_of([&] { guest.device.request("stop-hinting"); }), "driver"));
  CHECK(contains(config_error_of([&] { guest.device.request("hint"); }), "hint"));
}

TEST_CASE("a driver may leave no gaps between its queues") {
  Guest guest({.statistics = 20ms, .reporting = true, .hinting = true});
  guest.driver.activate(~(feature_statistics | feature_hinting));
  auto queues = guest.device.suspend();
  const bool gaps = GENERATE(false, true);
  const std::uint16_t reporting = gaps ? reporting_queue : statistics_queue;
  std::erase_if(queues, [&](const auto& each) { return each.index >= 2 && each.index != reporting; });
  guest.device.activate(guest.device.features() & ~(feature_statistics | feature_hinting), std::move(queues),
                        guest.driver.events());
  const GuestRange range = guest.touch(4);
  guest.driver.queue(reporting).add({{range.begin, static_cast<std::uint32_t>(range.size), true}});
  guest.driver.kick(reporting);
  REQUIRE(guest.driver.wait_used(reporting));
  CHECK(guest.resident(range) == 0);
}

TEST_CASE("a balloon goes on in another machine") {
  const BalloonDevice::Settings settings{.statistics = 20ms, .hinting = true};
  Guest guest(settings);
  guest.driver.activate();
  guest.start_options = "statistics=1,hinting=on";
  guest.change("target=8M");
  guest.device.request("start-hinting");
  REQUIRE(guest.hint_command(2));
  guest.give_statistics({{4, 123}});
  guest.write_config(actual_at, 50);
  guest.write_config(poison_at, 1);
  REQUIRE(guest.tells("free_memory", 123));
  guest.driver.pause();
  BalloonDevice next(settings, guest.memory);
  CHECK(mistakes_in_fields(guest.device, next) == "");
  auto rows = next.report();
  const auto has = [&](std::string_view name, std::uint64_t value) {
    return std::find(rows.begin(), rows.end(), virtio::DeviceReport::Own{name, value}) != rows.end();
  };
  CHECK(has("target_pages", 2048));
  CHECK(has("actual_pages", 50));
  CHECK(has("host_cmd", 2));
  CHECK(has("guest_cmd", 2));
  CHECK(has("free_memory", 123));
}

TEST_CASE("a target that came in a pause is told by another machine") {
  Guest guest;
  guest.driver.activate();
  guest.driver.pause();
  guest.change("target=8M");
  BalloonDevice next({}, guest.memory);
  restore(next, state_of(guest.device));
  FakeDriver driver(guest.memory, next);
  driver.activate();
  CHECK(driver.events().config_changes == 1);
  driver.reset();
  driver.activate();
  CHECK(driver.events().config_changes == 1);
}

}  // namespace hum::testing
