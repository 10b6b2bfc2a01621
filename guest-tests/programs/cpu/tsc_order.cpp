// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/processors.h"

using namespace guest;

namespace {

constexpr std::uint32_t rounds = 20;
constinit std::uint32_t count = 0;
constinit std::uint32_t next_place = 1;
constinit volatile std::uint32_t turn = 0;  // whose turn it is, modulo count
constinit volatile std::uint64_t latest = 0;
constinit volatile bool backwards = false;

// Takes its turns: no processor may read a time before that which another read earlier.
void take_turns(std::uint32_t place) {
  for (std::uint32_t round = 0; round < rounds; ++round) {
    while (turn != round * count + place) pause();
    const std::uint64_t now = read_tsc();
    if (now < latest) backwards = true;
    latest = now;
    turn = turn + 1;
  }
}

void processor() {
  take_turns(__atomic_fetch_add(&next_place, 1, __ATOMIC_SEQ_CST));
}

}  // namespace

// The time stamp counter never goes backwards from one processor to the next. cpus=N.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  const Processors processors = find_processors();
  count = processors.count;
  check(1, count == parse_number(boot.option("cpus"), 1), "number of processors");
  start_processors(processors, processor);
  take_turns(0);
  check(2, wait_until([] { return turn == rounds * count; }), "every processor takes its turns");
  check(3, !backwards, "no processor's counter is behind another's");
  return 0;
}
