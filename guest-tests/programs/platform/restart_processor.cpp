// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/processors.h"

using namespace guest;

namespace {

constinit volatile std::uint64_t first_life = 0;
constinit volatile std::uint64_t lives = 0;

void count_for_ever() {
  while (true) first_life = first_life + 1;
}

void live_again() {
  lives = lives + 1;
}

}  // namespace

// INIT and a start-up IPI end what a running processor does and start it anew, several times. Needs 2
// processors.
std::uint32_t guest_main(const BootInfo&) {
  enable_local_apic();
  const Processors processors = find_processors();
  check(1, processors.count == 2, "two processors");
  start_processors(processors, count_for_ever);
  check(2, wait_until([] { return first_life > 100; }), "the first start");
  for (std::uint64_t again = 1; again <= 3; ++again) {
    start_processors(processors, live_again);
    check(3, wait_until([&] { return lives == again; }), "another start");
  }
  const std::uint64_t before = first_life;
  let_pass(10'000'000);
  check(4, first_life == before, "the first life is over");
  return 0;
}
