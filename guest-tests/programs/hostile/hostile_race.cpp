// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/processors.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit volatile std::uint8_t answers[2]{};
constinit std::uint16_t heads[2]{};
constinit volatile std::uint16_t* volatile ring = nullptr;

void swap_heads() {
  while (volatile std::uint16_t* const entry = ring) {
    *entry = heads[1];
    *entry = heads[0];
  }
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
  const auto rounds = static_cast<unsigned>(parse_number(boot.option("rounds"), 1500));
  for (unsigned round = 0; round < rounds; ++round) {
    answers[0] = VirtioDisk::unanswered;
    answers[1] = VirtioDisk::unanswered;
    ring = &disk.queue.available.ring[disk.queue.available.index % 16];
    disk.queue.offer(heads[0]);
    disk.device->notify(0);
    check(2, wait_until([&] { return disk.queue.has_used(); }), "answer");
    const std::uint32_t id = disk.queue.take().id;
    check(3, id == heads[0] || id == heads[1], "id of the answer");
    check(4, answers[id == heads[1]] == VirtioDisk::unsupported, "the request given back was carried out");
    check(5, answers[id != heads[1]] == VirtioDisk::unanswered, "the other one was not");
  }
  ring = nullptr;
  expect_recovery();
  return 0;
}
