// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/state.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

struct Part {
  std::uint16_t number = 0;
  void fields(StateVisitor& visitor) { visitor.number("number", number, 1000); }
};

// The same fields with wider limits.
struct LoosePart {
  std::uint16_t number = 0;
  void fields(StateVisitor& visitor) { visitor.number("number", number); }
};
struct LooseList {
  std::vector<std::uint16_t> list;
  void fields(StateVisitor& visitor) { visitor.list("list", list, 100); }
};
struct List {
  std::vector<std::uint16_t> list;
  void fields(StateVisitor& visitor) { visitor.list("list", list, 4); }
};
struct Nested {
  Part part;
  void fields(StateVisitor& visitor) {
    visitor.section("outer", [&] { visitor.section("inner", 1, [&] { part.fields(visitor); }); });
  }
};
struct LooseNested {
  LoosePart part;
  void fields(StateVisitor& visitor) {
    visitor.section("outer", [&] { visitor.section("inner", 1, [&] { part.fields(visitor); }); });
  }
};

struct Whole {
  std::uint64_t number = 0;
  std::atomic<std::uint8_t> atomic = 0;
  bool flag = false;
  std::atomic<bool> atomic_flag = false;
  std::array<std::byte, 3> bytes{};
  std::vector<std::uint16_t> list;
  std::array<Part, 2> parts{};
  std::vector<std::string> calls;  // no state

  void fields(StateVisitor& visitor) {
    visitor.afterwards([this] { calls.push_back("number " + std::to_string(number)); });
    visitor.number("number", number);
    visitor.number("atomic", atomic, 7);
    visitor.flag("flag", flag);
    visitor.flag("atomic-flag", atomic_flag);
    visitor.bytes("bytes", bytes);
    visitor.list("list", list, 4);
    visitor.same("kind", "whole");
    visitor.same("version", 3);
    for (std::size_t i = 0; i < parts.size(); ++i)
      visitor.section("part", i, [&] { parts[i].fields(visitor); });
    visitor.afterwards([this] { calls.push_back("number " + std::to_string(number)); });
  }
};

void live(Whole& whole) {
  whole.number = 0x1122334455667788;
  whole.atomic = 7;
  whole.flag = true;
  whole.atomic_flag = true;
  whole.bytes = {std::byte{1}, std::byte{2}, std::byte{3}};
  whole.list = {5, 6, 7};
  whole.parts[0].number = 1;
  whole.parts[1].number = 1000;
}

template <class Target>
std::string refusal(std::span<const std::byte> state) {
  Target target;
  try {
    restore(target, state);
  } catch (const ConfigError& error) {
    CHECK(error.key() == "state");
    return error.value();
  }
  return "accepted";
}

struct OneField {
  std::string name;
  std::uint64_t value = 1;
  void fields(StateVisitor& visitor) { visitor.number(name, value); }
};

}  // namespace

TEST_CASE("what a visit writes it reads back, and a damaged state changes nothing") {
  Whole source;
  live(source);
  Whole fresh;
  CHECK(testing::mistakes_in_fields(source, fresh) == "");
  CHECK(fresh.number == 0x1122334455667788);
  CHECK(fresh.atomic == 7);
  CHECK(fresh.flag);
  CHECK(fresh.atomic_flag);
  CHECK(fresh.bytes == source.bytes);
  CHECK(fresh.list == source.list);
  CHECK(fresh.parts[1].number == 1000);
}

TEST_CASE("what is put off runs once, in order with the fields, and only where a state is read back") {
  Whole source;
  live(source);
  source.number = 5;
  const auto state = state_of(source);
  CHECK(source.calls.empty());
  Whole fresh;
  restore(fresh, state);
  CHECK(fresh.calls == std::vector<std::string>{"number 0", "number 5"});
}

TEST_CASE("a refusal names the field with its sections") {
  LooseNested nested;
  nested.part.number = 1001;
  CHECK(refusal<Nested>(state_of(nested)) == "outer.inner1.number");
  nested.part.number = 1000;
  CHECK(refusal<Nested>(state_of(nested)) == "accepted");
  LooseList list{{1, 2, 3, 4, 5}};
  CHECK(refusal<List>(state_of(list)) == "list");
  list.list.pop_back();
  CHECK(refusal<List>(state_of(list)) == "accepted");
}

TEST_CASE("a state that could not be read back is not written") {
  Part part{1001};
  CHECK_THROWS_AS(state_of(part), ConfigError);
}

TEST_CASE("missing, unknown and doubled fields are refused by name") {
  Part part;
  CHECK(refusal<Whole>(state_of(part)) == "number");  // of another width
  OneField unknown{"colour"};
  CHECK_THROWS_AS(restore(part, state_of(unknown)), ConfigError);
  OneField wide{"number"};
  CHECK_THROWS_AS(restore(part, state_of(wide)), ConfigError);

  StateWriter both;
  part.fields(both);
  unknown.fields(both);
  const auto more = std::move(both).finish();
  CHECK_THROWS_AS(restore(part, more), ConfigError);

  StateWriter doubled;
  part.fields(doubled);
  part.fields(doubled);
  const auto twice = std::move(doubled).finish();
  CHECK_THROWS_AS(restore(part, twice), ConfigError);
}

TEST_CASE("what follows the end of a state, another version, and something else are refused") {
  Part part;
  auto state = state_of(part);
  restore(part, state);
  state.push_back(std::byte{0});
  CHECK_THROWS_AS(restore(part, state), ConfigError);
  state.pop_back();
  state[8] = std::byte{2};
  CHECK_THROWS_AS(restore(part, state), ConfigError);
  state[8] = std::byte{1};
  restore(part, state);
  state[0] = std::byte{0};
  CHECK_THROWS_AS(restore(part, state), ConfigError);
  CHECK_THROWS_AS(restore(part, std::span<const std::byte>{}), ConfigError);
}

TEST_CASE("the configuration of both machines is compared") {
  struct Machine {
    std::string kind;
    std::uint64_t size;
    void fields(StateVisitor& visitor) {
      visitor.same("kind", kind);
      visitor.same("size", size);
    }
  };
  Machine one{"disk", 5};
  Machine equal{"disk", 5};
  Machine longer{"disks", 5};
  Machine shorter{"dis", 5};
  Machine larger{"disk", 6};
  const auto state = state_of(one);
  restore(equal, state);
  CHECK_THROWS_AS(restore(longer, state), ConfigError);
  CHECK_THROWS_AS(restore(shorter, state), ConfigError);
  CHECK_THROWS_AS(restore(larger, state), ConfigError);
}

}  // namespace hum
