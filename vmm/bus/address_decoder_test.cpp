// SPDX-License-Identifier: Apache-2.0
#include "vmm/bus/address_decoder.h"

#include <array>
#include <functional>
#include <thread>
#include <utility>

#include "vmm/base/endian.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

// Answers with its own number and remembers the last access.
class Probe : public RegisterWindow {
 public:
  explicit Probe(std::uint8_t number) : number_(number) {}

  void read(std::uint64_t offset, std::span<std::byte> data) override {
    last_offset = offset;
    last_width = data.size();
    store_le(data, number_);
  }
  void write(std::uint64_t offset, std::span<const std::byte> data) override {
    last_offset = offset;
    last_width = data.size();
    last_value = load_le(data);
    if (on_write) on_write();
  }

  std::uint64_t last_offset = 0;
  std::uint64_t last_value = 0;
  std::size_t last_width = 0;
  std::function<void()> on_write;

 private:
  std::uint8_t number_;
};

// The number of the window that answers there; 0 if none does.
std::uint8_t who(AddressDecoder& decoder, std::uint64_t address) {
  std::array data{std::byte{0xee}};
  if (decoder.read(address, data)) return std::to_integer<std::uint8_t>(data[0]);
  REQUIRE(data[0] == std::byte{0xee});
  return 0;
}

bool poke(AddressDecoder& decoder, std::uint64_t address) {
  return decoder.write(address, std::array{std::byte{1}});
}

}  // namespace

TEST_CASE("a window answers from its first address to its last") {
  AddressDecoder decoder;
  Probe probe(1);
  const auto mapping = decoder.map("probe", 0x100, 0x10, probe);
  CHECK(mapping);
  CHECK(who(decoder, 0xff) == 0);
  CHECK(who(decoder, 0x100) == 1);
  CHECK(probe.last_offset == 0);
  CHECK(who(decoder, 0x10f) == 1);
  CHECK(probe.last_offset == 0xf);
  CHECK(who(decoder, 0x110) == 0);
  CHECK(who(decoder, 0) == 0);
  CHECK(who(decoder, UINT64_MAX) == 0);
}

TEST_CASE("a window may end at the last address there is") {
  AddressDecoder decoder;
  Probe probe(1);
  const auto mapping = decoder.map("probe", UINT64_MAX - 3, 4, probe);
  CHECK(who(decoder, UINT64_MAX - 4) == 0);
  CHECK(who(decoder, UINT64_MAX) == 1);
  CHECK(probe.last_offset == 3);
  CHECK(who(decoder, 0) == 0);
}

TEST_CASE("an access reaches the window with its value and full width, past the end too") {
  AddressDecoder decoder;
  Probe probe(1);
  const auto mapping = decoder.map("probe", 0x100, 4, probe);
  const std::uint64_t value = 0x1122334455667788;
  CHECK(decoder.write(0x103, bytes_of(value)));
  CHECK(probe.last_offset == 3);
  CHECK(probe.last_width == 8);
  CHECK(probe.last_value == value);
  CHECK_FALSE(decoder.write(0x104, bytes_of(value)));
  CHECK_FALSE(decoder.write(0xff, bytes_of(value)));
}

TEST_CASE("where windows overlap the one mapped first answers, and the other when it is gone") {
  AddressDecoder decoder;
  Probe first(1);
  Probe second(2);
  auto one = decoder.map("one", 0x100, 0x10, first);
  const auto two = decoder.map("two", 0x108, 0x10, second);
  CHECK(who(decoder, 0x107) == 1);
  CHECK(who(decoder, 0x108) == 1);
  CHECK(who(decoder, 0x10f) == 1);
  CHECK(who(decoder, 0x110) == 2);
  one.unmap();
  CHECK(who(decoder, 0x107) == 0);
  CHECK(who(decoder, 0x108) == 2);
}

TEST_CASE("a mapping ends once, by unmap or by its destructor") {
  AddressDecoder decoder;
  Probe probe(1);
  {
    const auto mapping = decoder.map("probe", 0x100, 1, probe);
    CHECK(who(decoder, 0x100) == 1);
  }
  CHECK(who(decoder, 0x100) == 0);
  auto mapping = decoder.map("probe", 0x100, 1, probe);
  mapping.unmap();
  CHECK_FALSE(mapping);
  mapping.unmap();
  CHECK(who(decoder, 0x100) == 0);
}

TEST_CASE("a moved mapping stays where it was, and assignment ends the one before") {
  AddressDecoder decoder;
  Probe first(1);
  Probe second(2);
  auto one = decoder.map("one", 0x100, 1, first);
  auto two = decoder.map("two", 0x200, 1, second);
  AddressDecoder::Mapping moved(std::move(one));
  CHECK_FALSE(one);
  CHECK(who(decoder, 0x100) == 1);
  moved = std::move(two);
  CHECK_FALSE(two);
  CHECK(who(decoder, 0x100) == 0);
  CHECK(who(decoder, 0x200) == 2);
  AddressDecoder::Mapping& self = moved;
  moved = std::move(self);
  CHECK(who(decoder, 0x200) == 2);
  moved = {};
  CHECK(who(decoder, 0x200) == 0);
}

TEST_CASE("a window may be moved to another address from inside an access to another window") {
  AddressDecoder decoder;
  Probe config(1);
  Probe bar(2);
  const auto config_mapping = decoder.map("config", 0x10, 1, config);
  auto bar_mapping = decoder.map("bar", 0x100, 4, bar);
  config.on_write = [&] { bar_mapping = decoder.map("bar", 0x200, 4, bar); };
  CHECK(poke(decoder, 0x10));
  CHECK(who(decoder, 0x100) == 0);
  CHECK(who(decoder, 0x203) == 2);
}

TEST_CASE("a window may be unmapped, even by an access to itself") {
  AddressDecoder decoder;
  Probe probe(1);
  auto mapping = decoder.map("probe", 0x100, 1, probe);
  probe.on_write = [&] { mapping.unmap(); };
  CHECK(poke(decoder, 0x100));
  CHECK(who(decoder, 0x100) == 0);
}

TEST_CASE("accesses are counted by name, over several windows and after they are gone") {
  AddressDecoder decoder;
  Probe probe(1);
  {
    const auto one = decoder.map("disk", 0x100, 1, probe);
    const auto two = decoder.map("disk", 0x200, 1, probe);
    const auto other = decoder.map("net", 0x300, 1, probe);
    poke(decoder, 0x100);
    who(decoder, 0x100);
    who(decoder, 0x200);
    poke(decoder, 0x300);
    poke(decoder, 0x400);
  }
  const auto again = decoder.map("disk", 0x500, 1, probe);
  who(decoder, 0x500);
  const auto counts = decoder.counts();
  REQUIRE(counts.size() == 2);
  CHECK(counts[0].name == "disk");
  CHECK(counts[0].reads == 3);
  CHECK(counts[0].writes == 1);
  CHECK(counts[1].name == "net");
  CHECK(counts[1].reads == 0);
  CHECK(counts[1].writes == 1);
}

TEST_CASE("threads may access one window while another is moved about") {
  AddressDecoder decoder;
  Probe still(1);
  Probe moving(2);
  const auto mapping = decoder.map("still", 0x100, 1, still);
  bool always = true;
  std::thread reader([&] {
    for (int i = 0; i < 2000; ++i) always = always && who(decoder, 0x100) == 1;
  });
  AddressDecoder::Mapping other;
  for (std::uint64_t i = 0; i < 500; ++i) other = decoder.map("moving", 0x200 + i, 1, moving);
  reader.join();
  CHECK(always);
  CHECK(who(decoder, 0x200 + 499) == 2);
}

}  // namespace hum
