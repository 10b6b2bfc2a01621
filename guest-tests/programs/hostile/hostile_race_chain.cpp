// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/processors.h"
#include "guest-tests/runtime/serial.h"
#include "guest-tests/runtime/user_mode.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char area[4096]{};
constinit volatile VirtioDescriptor* volatile chain = nullptr;
constinit volatile std::uint32_t turns = 0;
constinit volatile bool ended = false;

// At CPL 3, where every KVM runs at hardware speed: two reads of a device are some ten nanoseconds apart.
void change() {
  exception_in_user_mode(Ports::closed, [] {
    while (volatile VirtioDescriptor* const now = chain) {
      turns = turns + 1;
      now[1].size = 1536;
      if (turns % 16 == 0) {
        const std::uint16_t next = now[0].next;
        now[0].next = 0xffff;
        now[1].address = 0xffff'ffff'ffff'ff00;
        now[1].size = 0xffffffff;
        now[1].address = address_of(area + 512);
        now[0].next = next;
      }
      now[1].size = 512;
    }
  });
  ended = true;
}

}  // namespace

// Another processor changes a chain under the device's eyes: its length, its addresses, its links. Each
// request is answered or breaks the ring; as much is written as the answer says, and nothing outside of the
// buffers.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  const Processors processors = find_processors();
  check(1, processors.count == 2, "2 processors");
  chain = disk.queue.descriptors + disk.place(VirtioDisk::in, 0, area + 512, 512);
  start_processors(processors, change);
  const Deadline enough(3);
  for (unsigned round = 0; round < 1000 && !enough.passed(); ++round) {
    const std::uint16_t head = disk.place(VirtioDisk::in, 0, area + 512, 512);
    chain = disk.queue.descriptors + head;
    area[1024] = 0;
    const std::uint32_t seen = turns;
    check(6, wait_until([&] { return turns != seen; }), "the other processor runs");
    disk.queue.offer(head);
    disk.device->notify(0);
    check(2, wait_until([&] {
            // In the VMM, so that the device runs beside the other processor even where there are only two.
            out8(serial::scratch, 0);
            return disk.queue.has_used() || (disk.device->status() & virtio_needs_reset) != 0;
          }),
          "an answer or a broken ring");
    if (disk.queue.has_used()) {
      const bool longer = disk.queue.take().size > 513;
      if (disk.status == VirtioDisk::ok) check(5, (area[1024] != 0) == longer, "as much as the answer says");
    }
    if ((disk.device->status() & virtio_needs_reset) != 0) check(3, disk.start(), "reset");
    check(4, area[511] == 0 && area[2048] == 0, "nothing is written outside of the buffers");
  }
  chain = nullptr;
  check(7, wait_until([] { return ended; }), "the other processor has ended");
  expect_recovery();
  return 0;
}
