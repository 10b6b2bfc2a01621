// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/console_service.h"

#include <chrono>
#include <string>
#include <thread>

#include "vmm/base/testing.h"

namespace hum {
namespace {

struct World {
  void print(std::string_view text) { hub.write(std::as_bytes(std::span(text))); }
  // What the guest gets, so many bytes of it.
  std::string typed(std::size_t count) {
    std::string text;
    for (int tries = 0; tries < 5000 && text.size() < count; ++tries) {
      std::array<std::byte, 64> piece;
      const std::size_t got =
          hub.take_input(std::span(piece).first(std::min(piece.size(), count - text.size())));
      text.append(reinterpret_cast<const char*>(piece.data()), got);
      if (got == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return text;
  }

  ConsoleHub hub;
  ConsoleService service{hub};
};

}  // namespace

TEST_CASE("every client reads the console from its beginning on, and its end") {
  World world;
  world.print("boot ");
  const auto first = world.service.open(true);
  const auto second = world.service.open(false);
  world.print("prompt");
  for (const auto& each : {first, second}) CHECK(each->output().take() == "boot prompt");
  world.service.end();
  for (const auto& each : {first, second, world.service.open(false)}) {
    if (each != first && each != second) CHECK(each->output().take() == "boot prompt");
    CHECK_FALSE(each->output().take());
  }
}

TEST_CASE("one client writes, and another one when that has gone") {
  World world;
  auto writer = world.service.open(true);
  REQUIRE(writer);
  CHECK_FALSE(world.service.open(true));
  const auto reader = world.service.open(false);
  CHECK(reader->take_input("not for the guest") == 17);
  CHECK(writer->take_input("for it ") == 7);
  CHECK(world.typed(7) == "for it ");
  writer.reset();
  writer = world.service.open(true);
  REQUIRE(writer);
  CHECK(writer->take_input("again") == 5);
  CHECK(world.typed(5) == "again");
  CHECK(world.typed(0).empty());
}

TEST_CASE("a guest that does not read makes its writer wait, and nothing of it is lost") {
  World world;
  const auto writer = world.service.open(true);
  REQUIRE(writer);
  std::string sent;
  const std::string piece(1000, 'k');
  for (int full = 0; full < 20;) {  // the way there fills up while it is emptied at its end
    const std::size_t taken = writer->take_input(piece);
    sent += piece.substr(0, taken);
    if (taken == 0) {
      ++full;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  CHECK(sent.size() < 1 << 20);
  CHECK(world.typed(sent.size()) == sent);
}

TEST_CASE("a client that does not read is told how much it has missed") {
  World world;
  const auto slow = world.service.open(false);
  const std::string text(1000, 'x');
  for (int i = 0; i < 1000; ++i) world.print(text);
  const std::string got = slow->output().take().value();
  const std::size_t kept = ConsoleService::most_waiting / text.size() * text.size();
  CHECK(got == std::string(kept, 'x') + "\r\n[" + std::to_string(1'000'000 - kept) +
                   " bytes of output are missing here]\r\n");
  world.print("here again");
  CHECK(slow->output().take() == "here again");
}

}  // namespace hum
