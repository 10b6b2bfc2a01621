// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/processors.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char area[4096]{};
constinit volatile VirtioDescriptor* volatile chain = nullptr;

void change() {
  while (volatile VirtioDescriptor* const now = chain) {
    now[1].size = 1536;
    now[0].next = 0xffff;
    now[1].address = 0xffff'ffff'ffff'ff00;
    now[1].size = 0xffffffff;
    now[1].address = address_of(area + 512);
    now[0].next = 1;
    now[1].size = 512;
  }
}

}  // namespace

// Another processor changes a chain under the device's eyes: its length, its addresses, its links. Each
// request is answered or breaks the ring; nothing outside of the buffers is written.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  const Processors processors = find_processors();
  check(1, processors.count == 2, "2 processors");
  chain = disk.queue.descriptors + disk.place(VirtioDisk::in, 0, area + 512, 512);
  start_processors(processors, change);
  for (unsigned round = 0; round < 300; ++round) {
    const std::uint16_t head = disk.place(VirtioDisk::in, 0, area + 512, 512);
    chain = disk.queue.descriptors + head;
    disk.queue.offer(head);
    disk.device->notify(0);
    check(2, wait_until([&] {
            return disk.queue.has_used() || (disk.device->status() & virtio_needs_reset) != 0;
          }),
          "an answer or a broken ring");
    if (disk.queue.has_used()) disk.queue.take();
    if ((disk.device->status() & virtio_needs_reset) != 0) check(3, disk.start(), "reset");
    check(4, area[511] == 0 && area[2048] == 0, "nothing is written outside of the buffers");
  }
  chain = nullptr;
  expect_recovery();
  return 0;
}
