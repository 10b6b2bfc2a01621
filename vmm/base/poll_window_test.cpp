// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/poll_window.h"

#include "vmm/base/testing.h"

namespace hum {
namespace {

using std::chrono::microseconds;

}  // namespace

TEST_CASE("a poll window of zero never opens") {
  PollWindow window(microseconds(0));
  CHECK_FALSE(window.polls());
  window.slept(microseconds(0));
  window.found();
  CHECK(window.length() == microseconds(0));
}

TEST_CASE("a poll window is closed until a sleep was short enough to have been spared") {
  PollWindow window(microseconds(80));
  CHECK(window.polls());
  CHECK(window.length() == microseconds(0));
  window.found();
  CHECK(window.length() == microseconds(0));
  window.slept(microseconds(81));
  CHECK(window.length() == microseconds(0));
  window.slept(microseconds(80));
  CHECK(window.length() == microseconds(10));
}

TEST_CASE("a poll window doubles while work comes in it, up to the most") {
  PollWindow window(microseconds(80));
  window.slept(microseconds(1));
  for (const int expected : {20, 40, 80, 80}) {
    window.found();
    CHECK(window.length() == microseconds(expected));
  }
}

TEST_CASE("a poll window halves while no work comes in it, and closes") {
  PollWindow window(microseconds(80));
  for (int i = 0; i < 4; ++i) window.slept(microseconds(1));
  CHECK(window.length() == microseconds(80));
  for (const int expected : {40, 20, 10, 0, 0}) {
    window.missed();
    CHECK(window.length() == microseconds(expected));
  }
}

}  // namespace hum
