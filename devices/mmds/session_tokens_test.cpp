// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/session_tokens.h"

#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace std::chrono_literals;

struct Bench {
  SessionTokens::Clock::time_point now{};
  SessionTokens tokens{[this] { return now; }};
};

TEST_CASE("a token is valid up to its end and no longer") {
  Bench bench;
  const std::string token = bench.tokens.make(10s);
  CHECK(bench.tokens.valid(token));
  bench.now += 10s - 1ns;
  CHECK(bench.tokens.valid(token));
  bench.now += 1ns;
  CHECK_FALSE(bench.tokens.valid(token));
}

TEST_CASE("a token with any character changed, removed or added is none") {
  Bench bench;
  const std::string token = bench.tokens.make(10s);
  REQUIRE(token.size() == 80);
  for (std::size_t i = 0; i < token.size(); ++i)
    for (const char other : {'0', 'f', 'A', ' '}) {
      if (token[i] == other) continue;
      std::string changed = token;
      changed[i] = other;
      CHECK_FALSE(bench.tokens.valid(changed));
    }
  CHECK_FALSE(bench.tokens.valid(token + "0"));
  CHECK_FALSE(bench.tokens.valid(token.substr(0, 79)));
  CHECK_FALSE(bench.tokens.valid(""));
  CHECK(bench.tokens.valid(token));
}

TEST_CASE("a token is of one VM only") {
  Bench one;
  Bench other;
  CHECK_FALSE(other.tokens.valid(one.tokens.make(10s)));
}

}  // namespace
}  // namespace hum
