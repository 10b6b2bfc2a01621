// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// A header that only the device may write is no header: an I/O error, with the data left alone.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  disk.status = VirtioDisk::unanswered;
  const VirtioBuffer buffers[] = {{data, sizeof(data), true}, {&disk.status, 1, true}};
  check(1, disk.send(disk.queue.place(buffers, 2)) == VirtioDisk::io_error, "I/O error");
  check(2, data[0] == 0, "the data is left alone");
  expect_recovery();
  return 0;
}
