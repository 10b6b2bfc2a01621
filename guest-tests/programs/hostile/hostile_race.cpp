// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/processors.h"
#include "guest-tests/runtime/user_mode.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit volatile std::uint8_t answers[2]{};
constinit std::uint16_t heads[2]{};
constinit volatile std::uint16_t* volatile ring = nullptr;
constinit volatile std::uint32_t swaps = 0;
constinit volatile bool ended = false;

// At CPL 3, where every KVM runs at hardware speed: two reads of a device are some ten nanoseconds apart.
void swap_heads() {
  exception_in_user_mode(Ports::closed, [] {
    while (volatile std::uint16_t* const entry = ring) {
      *entry = heads[1];
      *entry = heads[0];
      swaps = swaps + 1;
    }
  });
  ended = true;
}

}  // namespace

// Another processor swaps two heads in the available ring while the device reads it: the request that is
// given back is the one that was carried out.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  const Processors processors = find_processors();
  check(1, processors.count == 2, "2 processors");
  disk.header = {99, 0, 0};
  for (std::uint16_t i = 0; i < 2; ++i) {
    const VirtioBuffer buffers[] = {{&disk.header, sizeof(disk.header), false}, {&answers[i], 1, true}};
    heads[i] = disk.queue.place(buffers, 2);
  }
  ring = &disk.queue.available.ring[0];
  start_processors(processors, swap_heads);
  const auto rounds = static_cast<unsigned>(parse_number(boot.option("rounds"), 8000));
  const Deadline enough(3);
  for (unsigned round = 0; round < rounds && !enough.passed(); ++round) {
    answers[0] = VirtioDisk::unanswered;
    answers[1] = VirtioDisk::unanswered;
    ring = &disk.queue.available.ring[disk.queue.available.index % 16];
    const std::uint32_t seen = swaps;
    check(2, wait_until([&] { return swaps != seen; }), "the other processor runs");
    disk.queue.offer(heads[0]);
    disk.device->notify(0);
    // Asleep, so that the device runs beside the other processor even where there are only two.
    while (!disk.queue.has_used()) wait_for_interrupt();
    const std::uint32_t id = disk.queue.take().id;
    check(3, id == heads[0] || id == heads[1], "id of the answer");
    check(4, answers[id == heads[1]] == VirtioDisk::unsupported, "the request given back was carried out");
    check(5, answers[id != heads[1]] == VirtioDisk::unanswered, "the other one was not");
  }
  ring = nullptr;
  check(6, wait_until([] { return ended; }), "the other processor has ended");
  expect_recovery();
  return 0;
}
