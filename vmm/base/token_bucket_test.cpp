// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/token_bucket.h"

#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace std::chrono_literals;
using Time = TokenBucket::Clock::time_point;
constexpr TokenBucket::Clock::duration none{};

// What gets through within so long, by requests of this size that come as fast as they may.
std::uint64_t let_through(const TokenBucketLimit& limit, std::uint64_t request,
                          TokenBucket::Clock::duration time) {
  const Time start{};
  Time now = start;
  TokenBucket bucket(limit, now);
  std::uint64_t done = 0;
  while (true) {
    const auto wait = bucket.wait(now);
    now += wait;
    if (now - start >= time) return done;
    if (wait != none) continue;
    bucket.take(request);
    done += request;
  }
}

TEST_CASE("a bucket without a size limits nothing") {
  TokenBucket bucket;
  for (int i = 0; i < 100; ++i) {
    CHECK(bucket.wait(Time{}) == none);
    bucket.take(UINT64_MAX);
  }
}

TEST_CASE("a full bucket is used up at once and then refills at its rate") {
  TokenBucket bucket({.size = 10, .refill_milliseconds = 1000}, Time{});
  for (int i = 0; i < 10; ++i) {
    REQUIRE(bucket.wait(Time{}) == none);
    bucket.take(1);
  }
  const auto wait = bucket.wait(Time{});
  CHECK(wait >= 100ms);
  CHECK(wait <= 101ms);
  CHECK(bucket.wait(Time{} + 99ms) != none);
  CHECK(bucket.wait(Time{} + wait) == none);
}

TEST_CASE("over a long time the rate is kept to within one request, whatever its size is") {
  for (const std::uint64_t request : {1u, 7u, 100u, 999u, 1000u, 1001u, 50'000u}) {
    const std::uint64_t done = let_through({.size = 1000, .refill_milliseconds = 100}, request, 100s);
    CHECK(done >= 1'000'000);
    CHECK(done <= 1'000'000 + 1000 + 2 * request);
  }
}

TEST_CASE("the burst is there once, before the rest") {
  const std::uint64_t plain = let_through({.size = 100, .refill_milliseconds = 1000}, 10, 10s);
  const std::uint64_t burst =
      let_through({.size = 100, .refill_milliseconds = 1000, .one_time_burst = 5000}, 10, 10s);
  CHECK(burst == plain + 5000);
}

TEST_CASE("an idle bucket saves no more than its size") {
  TokenBucket bucket({.size = 10, .refill_milliseconds = 10}, Time{});
  bucket.take(10);
  const Time later = Time{} + 1h;
  for (int i = 0; i < 10; ++i) {
    REQUIRE(bucket.wait(later) == none);
    bucket.take(1);
  }
  CHECK(bucket.wait(later) != none);
}

TEST_CASE("what is larger than the bucket is owed") {
  TokenBucket bucket({.size = 10, .refill_milliseconds = 1000}, Time{});
  REQUIRE(bucket.wait(Time{}) == none);
  bucket.take(35);
  CHECK(bucket.wait(Time{} + 2500ms) != none);
  CHECK(bucket.wait(Time{} + 2601ms) == none);
}

TEST_CASE("a clock that stands or goes back refills nothing") {
  TokenBucket bucket({.size = 1, .refill_milliseconds = 1000}, Time{} + 10s);
  bucket.take(1);
  CHECK(bucket.wait(Time{} + 10s) != none);
  CHECK(bucket.wait(Time{}) != none);
  CHECK(bucket.wait(Time{} + 11s + 1ms) == none);
}

TEST_CASE("the largest numbers do not wrap") {
  TokenBucket fast({.size = UINT64_MAX, .refill_milliseconds = 1, .one_time_burst = UINT64_MAX}, Time{});
  for (int i = 0; i < 2; ++i) {
    REQUIRE(fast.wait(Time{}) == none);
    fast.take(UINT64_MAX);
  }
  CHECK(fast.wait(Time{}) != none);
  CHECK(fast.wait(Time{} + 1ms) == none);
  TokenBucket slow({.size = 1, .refill_milliseconds = UINT64_MAX}, Time{});
  slow.take(UINT64_MAX);
  CHECK(slow.wait(Time{} + 1h) >= 23h);
}

}  // namespace
}  // namespace hum
