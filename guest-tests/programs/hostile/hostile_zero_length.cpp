// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};
const void* const nowhere = reinterpret_cast<const void*>(0xffff'ffff'ffff'f000);

}  // namespace

// Descriptors of no bytes between those of a request change nothing, wherever they point.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  disk.header = {VirtioDisk::in, 0, 0};
  const VirtioBuffer buffers[] = {{&disk.header, sizeof(disk.header), false},
                                  {nowhere, 0, false},
                                  {nowhere, 0, true},
                                  {data, sizeof(data), true},
                                  {nowhere, 0, true},
                                  {&disk.status, 1, true},
                                  {nowhere, 0, true}};
  check(1, disk.send(disk.queue.place(buffers, 7)) == VirtioDisk::ok, "answer");
  check(2, disk.written == sizeof(data) + 1, "number of bytes");
  check(3, is_disk_pattern(data, sizeof(data)), "content");
  expect_recovery();
  return 0;
}
