// SPDX-License-Identifier: Apache-2.0
#include "devices/net/rate_filter.h"

#include <thread>

#include "vmm/base/testing.h"

namespace hum {
namespace {

using Direction = FrameFilter::Direction;
using Verdict = FrameFilter::Verdict;

constexpr std::uint64_t hour = 3'600'000;  // milliseconds

Verdict verdict(RateFilter& filter, Direction direction, std::size_t bytes) {
  return filter.decide(direction, {.start = {}, .rest = {}, .bytes = bytes}).verdict;
}

}  // namespace

TEST_CASE("without limits every frame passes at once") {
  RateFilter filter({}, {});
  for (int i = 0; i < 100; ++i) {
    CHECK(verdict(filter, Direction::from_guest, 65549) == Verdict::pass);
    CHECK(verdict(filter, Direction::to_guest, 65549) == Verdict::pass);
  }
}

TEST_CASE("a filter with a limit in any direction is not idle") {
  RateFilter filter({}, {});
  CHECK(filter.idle());
  filter.set(Direction::to_guest, {.bytes = {1, 1, 0}, .frames = {}});
  CHECK_FALSE(filter.idle());
  filter.set(Direction::to_guest, {});
  filter.set(Direction::from_guest, {.bytes = {}, .frames = {1, 1, 0}});
  CHECK_FALSE(filter.idle());
  filter.set(Direction::from_guest, {});
  CHECK(filter.idle());
}

TEST_CASE("frames of a direction that has used up its bytes are held, and those of the other pass") {
  RateFilter filter({.bytes = {1000, hour, 0}, .frames = {}}, {});
  CHECK(verdict(filter, Direction::from_guest, 600) == Verdict::pass);
  CHECK(verdict(filter, Direction::from_guest, 600) == Verdict::pass);  // owes 200 afterwards
  const auto answer = filter.decide(Direction::from_guest, {.start = {}, .rest = {}, .bytes = 1});
  CHECK(answer.verdict == Verdict::hold);
  CHECK(answer.wait > std::chrono::minutes(5));
  CHECK(answer.wait <= std::chrono::hours(1));
  for (int i = 0; i < 10; ++i) CHECK(verdict(filter, Direction::to_guest, 600) == Verdict::pass);
}

TEST_CASE("frames are counted whatever their size is") {
  RateFilter filter({}, {.bytes = {}, .frames = {2, hour, 1}});
  for (int i = 0; i < 3; ++i) CHECK(verdict(filter, Direction::to_guest, 65549) == Verdict::pass);
  CHECK(verdict(filter, Direction::to_guest, 60) == Verdict::hold);
  CHECK(verdict(filter, Direction::from_guest, 60) == Verdict::pass);
}

TEST_CASE("a frame that was held passes after the wait that was answered") {
  RateFilter filter({.bytes = {}, .frames = {1, 20, 0}}, {});
  CHECK(verdict(filter, Direction::from_guest, 60) == Verdict::pass);
  const auto answer = filter.decide(Direction::from_guest, {.start = {}, .rest = {}, .bytes = 60});
  REQUIRE(answer.verdict == Verdict::hold);
  std::this_thread::sleep_for(answer.wait);
  CHECK(verdict(filter, Direction::from_guest, 60) == Verdict::pass);
}

TEST_CASE("limits change while another thread's frames are decided") {
  RateFilter filter({.bytes = {}, .frames = {1, hour, 0}}, {});
  CHECK(verdict(filter, Direction::from_guest, 60) == Verdict::pass);
  std::thread sender([&] {
    while (verdict(filter, Direction::from_guest, 60) == Verdict::hold) std::this_thread::yield();
  });
  filter.set(Direction::from_guest, {});
  sender.join();
  filter.set(Direction::from_guest, {.bytes = {}, .frames = {1, hour, 0}});
  CHECK(verdict(filter, Direction::from_guest, 60) == Verdict::pass);
  CHECK(verdict(filter, Direction::from_guest, 60) == Verdict::hold);
}

}  // namespace hum
