// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit char data[VirtioDisk::sector_size]{};
alignas(16) constinit volatile VirtioDescriptor table[17]{};

}  // namespace

// Indirect tables (virtio 1.2, 2.7.5.3): alone, linked out of order, behind direct descriptors, at an odd
// address, and as long as the queue.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot, virtio_indirect_desc), "disk");
  check(2, (disk.device->features() & virtio_indirect_desc) != 0, "INDIRECT_DESC");
  disk.header = {VirtioDisk::in, 0, 1};
  const VirtioBuffer buffers[] = {
      {&disk.header, sizeof(disk.header), false}, {data, sizeof(data), true}, {&disk.status, 1, true}};
  const auto answered = [&](std::uint16_t head) {
    disk.status = VirtioDisk::unanswered;
    const bool read = disk.send(head) == VirtioDisk::ok && disk.written == sizeof(data) + 1;
    const bool right = is_disk_pattern(data, sizeof(data), 1);
    __builtin_memset(data, 0, sizeof(data));
    return read && right;
  };
  write_chain(table, 0, buffers, 3);
  check(3, answered(disk.queue.place_indirect(table, 3 * sizeof(VirtioDescriptor))), "a table");

  // 0 -> 2 -> 1.
  write_chain(table, 0, buffers, 1);
  write_chain(table, 2, buffers + 1, 1);
  write_chain(table, 1, buffers + 2, 1);
  table[0].flags = VirtioDescriptor::next_follows;
  table[0].next = 2;
  table[2].flags = VirtioDescriptor::next_follows | VirtioDescriptor::device_writes;
  table[2].next = 1;
  check(4, answered(disk.queue.place_indirect(table, 3 * sizeof(VirtioDescriptor))),
        "a table linked out of order");

  write_chain(table, 0, buffers + 1, 2);
  const std::uint16_t head = disk.queue.place(buffers, 1);
  const std::uint16_t rest = disk.queue.place_indirect(table, 2 * sizeof(VirtioDescriptor));
  disk.queue.descriptors[head].flags = VirtioDescriptor::next_follows;
  disk.queue.descriptors[head].next = rest;
  check(5, answered(head), "a table behind a direct descriptor");

  auto* const odd = reinterpret_cast<volatile VirtioDescriptor*>(address_of(table) + 1);
  write_chain(odd, 0, buffers, 3);
  check(6, answered(disk.queue.place_indirect(odd, 3 * sizeof(VirtioDescriptor))),
        "a table at an odd address");

  VirtioBuffer pieces[16] = {buffers[0]};
  for (unsigned i = 0; i < 13; ++i) pieces[1 + i] = {data + 32 * i, 32, true};
  pieces[14] = {data + 32 * 13, 96, true};
  pieces[15] = buffers[2];
  write_chain(table, 0, pieces, 16);
  check(7, answered(disk.queue.place_indirect(table, 16 * sizeof(VirtioDescriptor))),
        "a table as long as the queue");
  return 0;
}
