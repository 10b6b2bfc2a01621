// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/console_hub.h"

#include <array>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "vmm/base/testing.h"

namespace hum {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

ConsoleHub::Reader append_to(std::string& seen) {
  return [&seen](std::span<const std::byte> piece) {
    seen.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  };
}

std::string take(ConsoleHub& hub, std::size_t most) {
  std::string text(most, '\0');
  text.resize(hub.take_input(std::as_writable_bytes(std::span(text))));
  return text;
}

}  // namespace

TEST_CASE("every reader gets the output from its subscription on, in order") {
  ConsoleHub hub;
  std::string first;
  std::string second;
  const auto one = hub.subscribe(append_to(first));
  hub.write(bytes("ab"));
  const auto two = hub.subscribe(append_to(second), false);
  hub.write(bytes("cd"));
  CHECK(first == "abcd");
  CHECK(second == "cd");
}

TEST_CASE("a late reader is given what the scrollback holds, across its wrap") {
  ConsoleHub hub(4);
  SECTION("nothing") {
    std::string seen;
    const auto place = hub.subscribe(append_to(seen));
    CHECK(seen.empty());
  }
  SECTION("exactly full") {
    hub.write(bytes("abcd"));
    std::string seen;
    const auto place = hub.subscribe(append_to(seen));
    CHECK(seen == "abcd");
  }
  SECTION("one byte more") {
    hub.write(bytes("abcd"));
    hub.write(bytes("e"));
    std::string seen;
    const auto place = hub.subscribe(append_to(seen));
    CHECK(seen == "bcde");
  }
  SECTION("one piece larger than all of it") {
    hub.write(bytes("x"));
    hub.write(bytes("abcdefg"));
    std::string seen;
    const auto place = hub.subscribe(append_to(seen));
    CHECK(seen == "defg");
  }
}

TEST_CASE("a hub without scrollback still passes output on") {
  ConsoleHub hub(0);
  std::string seen;
  const auto place = hub.subscribe(append_to(seen));
  hub.write(bytes("abc"));
  CHECK(seen == "abc");
  CHECK(hub.last_lines(5).empty());
}

TEST_CASE("a reader hears nothing after its subscription has ended or been replaced") {
  ConsoleHub hub;
  std::string first;
  std::string second;
  {
    const auto place = hub.subscribe(append_to(first));
    hub.write(bytes("a"));
  }
  hub.write(bytes("b"));
  CHECK(first == "a");

  auto place = hub.subscribe(append_to(first), false);
  place = hub.subscribe(append_to(second), false);
  hub.write(bytes("c"));
  CHECK(first == "a");
  CHECK(second == "c");

  auto moved = std::move(place);
  hub.write(bytes("d"));
  CHECK(second == "cd");
}

TEST_CASE("input is kept in order until the device takes it, as much as it has room for") {
  ConsoleHub hub;
  REQUIRE(hub.send(bytes("hello")));
  CHECK(take(hub, 0).empty());
  CHECK(take(hub, 2) == "he");
  REQUIRE(hub.send(bytes("!")));
  CHECK(take(hub, 16) == "llo!");
  CHECK(take(hub, 16).empty());
}

TEST_CASE("input is refused whole where there is no room for it") {
  ConsoleHub hub;
  const std::string most(4096, 'x');
  CHECK_FALSE(hub.send(bytes(most + "y")));
  CHECK(take(hub, 1).empty());
  CHECK(hub.send(bytes(most)));
  CHECK_FALSE(hub.send(bytes("y")));
  CHECK(take(hub, 1) == "x");
  CHECK(hub.send(bytes("y")));
  CHECK(take(hub, 5000).back() == 'y');
}

TEST_CASE("the device is told of each input, may take it at once, and is not told after it has left") {
  ConsoleHub hub;
  int calls = 0;
  std::string taken;
  hub.on_input([&] {
    ++calls;
    taken += take(hub, 16);
  });
  hub.send(bytes("a"));
  hub.send(bytes("b"));
  CHECK(calls == 2);
  CHECK(taken == "ab");
  hub.on_input({});
  hub.send(bytes("c"));
  CHECK(calls == 2);
  CHECK(take(hub, 16) == "c");
}

TEST_CASE("the last lines are those of the end, without control characters other than tab") {
  ConsoleHub hub;
  CHECK(hub.last_lines(3).empty());
  hub.write(bytes("one\r\ntwo\x1b[0m\tx\x7f\n\nlast"));
  CHECK(hub.last_lines(0).empty());
  CHECK(hub.last_lines(1) == std::vector<std::string>{"last"});
  CHECK(hub.last_lines(3) == std::vector<std::string>{"two[0m\tx", "", "last"});
  CHECK(hub.last_lines(9) == std::vector<std::string>{"one", "two[0m\tx", "", "last"});
  hub.write(bytes("\n"));
  CHECK(hub.last_lines(1) == std::vector<std::string>{"last"});
}

TEST_CASE("output, readers, input and last lines may be used from many threads") {
  ConsoleHub hub(256);
  std::size_t total = 0;
  const auto place = hub.subscribe([&](std::span<const std::byte> piece) { total += piece.size(); });
  std::thread writer([&] {
    for (int i = 0; i < 500; ++i) hub.write(bytes("0123456\n"));
  });
  std::thread coming_and_going([&] {
    for (int i = 0; i < 100; ++i) {
      std::string seen;
      const auto other = hub.subscribe(append_to(seen));
      hub.send(bytes("x"));
      hub.last_lines(3);
    }
  });
  writer.join();
  coming_and_going.join();
  CHECK(total == 4000);
  CHECK(take(hub, 200).size() == 100);
}

}  // namespace hum
