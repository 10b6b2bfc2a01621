// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// A read into memory that the device may only read: it reads nothing, and leaves the memory alone.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  disk.header = {VirtioDisk::in, 0, 0};
  const VirtioBuffer buffers[] = {
      {&disk.header, sizeof(disk.header), false}, {data, sizeof(data), false}, {&disk.status, 1, true}};
  const std::uint8_t status = disk.send(disk.queue.place(buffers, 3));
  check(1, status == VirtioDisk::ok || status == VirtioDisk::io_error, "answer");
  check(2, disk.written <= 1, "no bytes are said to be written");
  check(3, data[0] == 0, "the data is left alone");
  expect_recovery();
  return 0;
}
