// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

struct Request {
  VirtioDisk::Header header;
  volatile std::uint8_t status;
  char data[VirtioDisk::sector_size];
};
constinit VirtioDisk disk{};
constinit Request requests[80]{};

}  // namespace

// Several requests in flight, with their answers in any order: 80 reads of sectors of their own at once.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr unsigned count = 80;
  check(1, disk.open(boot, 0, 256), "disk");
  for (unsigned i = 0; i < count; ++i) {
    requests[i].header = {VirtioDisk::in, 0, 7 * i};
    requests[i].status = VirtioDisk::unanswered;
    const VirtioBuffer buffers[] = {{&requests[i].header, sizeof(VirtioDisk::Header), false},
                                    {requests[i].data, VirtioDisk::sector_size, true},
                                    {&requests[i].status, 1, true}};
    disk.queue.add(buffers, 3);
  }
  disk.device->notify(0);
  bool seen[count]{};
  for (unsigned i = 0; i < count; ++i) {
    check(2, wait_until([] { return disk.queue.has_used(); }), "an answer");
    const VirtioElement answer = disk.queue.take();
    const unsigned which = answer.id / 3;
    check(3, answer.id % 3 == 0 && which < count && !seen[which], "each request is answered once");
    seen[which] = true;
    check(4, answer.size == 513 && requests[which].status == VirtioDisk::ok, "answer");
    check(5, is_disk_pattern(requests[which].data, 64, 7 * which), "content");
  }
  return 0;
}
