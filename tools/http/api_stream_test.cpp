// SPDX-License-Identifier: Apache-2.0
#include "tools/http/api_stream.h"

#include "vmm/base/testing.h"

namespace hum {
namespace {

std::string gap(std::uint64_t lost) {
  return "<" + std::to_string(lost) + ">";
}

}  // namespace

TEST_CASE("what was pushed is taken in its order, and the end comes behind it") {
  StreamQueue queue(10, gap);
  CHECK(queue.take() == "");
  queue.push("ab");
  queue.push("cd");
  queue.end();
  queue.push("too late");
  CHECK(queue.take() == "abcd");
  CHECK_FALSE(queue.take());
}

TEST_CASE("what finds no room is lost as a whole, and all behind it until the client has come so far") {
  StreamQueue queue(4, gap);
  queue.push("abc");
  queue.push("de", 2);
  queue.push("f", 1);  // would fit, but not in its place
  CHECK(queue.take() == "abc<3>");
  queue.push("1234");
  CHECK(queue.take() == "1234");
  queue.push("12345", 5);
  queue.end();
  CHECK(queue.take() == "<5>");
  CHECK_FALSE(queue.take());
}

TEST_CASE("a reader is woken once for all that comes until it looks") {
  StreamQueue queue(4, gap);
  int wakes = 0;
  queue.on_more([&] { ++wakes; });
  for (int i = 0; i < 10; ++i) queue.push("x");
  CHECK(wakes == 1);
  CHECK(queue.take() == "xxxx<6>");
  queue.push("y");
  CHECK(wakes == 2);
  queue.on_more({});
  CHECK(queue.take() == "y");
  queue.end();
  CHECK(wakes == 2);
}

}  // namespace hum
