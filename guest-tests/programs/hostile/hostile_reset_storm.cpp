// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_random.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// Hundreds of resets: while requests are under way, half-way through the set-up, twice in a row; then all is
// well. rounds=N.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  Random random(1);
  const auto rounds = static_cast<unsigned>(parse_number(boot.option("rounds"), 200));
  for (unsigned round = 0; round < rounds; ++round) {
    const std::uint64_t how = random.next();
    if (how % 2 == 0) {
      check(1, disk.start(), "start");
      for (unsigned i = 0; i < how / 16 % 5; ++i)
        disk.queue.offer(disk.place(VirtioDisk::in, i, data, sizeof(data)));
      disk.device->notify(0);
    } else {
      check(2, disk.device->begin(), "begin");
      if (how % 4 == 1) disk.device->set_queue(0, disk.queue);
      disk.device->notify(0);
    }
    if (how % 8 < 4) check(3, disk.device->reset(), "reset");
    check(4, disk.device->reset() && !disk.device->queue_enabled(0), "reset");
  }
  expect_recovery();
  return 0;
}
