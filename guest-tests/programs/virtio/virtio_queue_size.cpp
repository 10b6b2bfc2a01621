// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioQueue queue{};
alignas(16) constinit volatile VirtioDescriptor table[2]{};
constinit VirtioDisk::Header header{99, 0, 0};
constinit volatile std::uint8_t status = VirtioDisk::unanswered;

}  // namespace

// Queues of every size from 1 to the largest that the device offers (virtio 1.2, 2.7): each goes round three
// times, filled whole.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_block);
  check(1, device != nullptr && device->reset(), "disk");
  const std::uint16_t largest = device->queue_size(0);
  check(2, largest >= 16 && largest <= VirtioQueue::most && (largest & (largest - 1)) == 0, "largest size");
  print("largest ", std::uint64_t{largest}, "\n");
  const VirtioBuffer buffers[] = {{&header, sizeof(header), false}, {&status, 1, true}};
  for (std::uint16_t size = 1; size <= largest; size = static_cast<std::uint16_t>(2 * size)) {
    check(3, device->begin(virtio_indirect_desc), "feature negotiation");
    device->set_queue(0, queue, size);
    device->finish();
    // One descriptor is room for the status alone, which is an I/O error.
    const unsigned length = size == 1 ? 1 : 2;
    write_chain(table, 0, buffers + 2 - length, length);
    const auto bytes = static_cast<std::uint32_t>(length * sizeof(VirtioDescriptor));
    for (unsigned round = 1; round <= 3; ++round) {
      status = VirtioDisk::unanswered;
      for (unsigned i = 0; i < size; ++i) queue.offer(queue.place_indirect(table, bytes));
      device->notify(0);
      check(4, wait_until([&] { return queue.used.index == round * size; }), "answers");
      check(5, status == (size == 1 ? VirtioDisk::io_error : VirtioDisk::unsupported), "status");
      for (unsigned i = 0; i < size; ++i) check(6, queue.used.ring[i].id == i, "ids of the answers");
    }
    check(7, queue.used.ring[size].size == 0, "nothing lies behind the ring's end");
  }
  return 0;
}
