// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// The id of a disk (virtio 1.2, 5.2.6.2): 20 bytes, filled with zeros; a shorter buffer gets its start.
// serial=TEXT.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  __builtin_memset(data, 'x', sizeof(data));
  check(2, disk.request(VirtioDisk::get_id, 0, data, 20) == VirtioDisk::ok && disk.written == 21, "20 bytes");
  const Text serial = boot.option("serial");
  for (unsigned i = 0; i < 20; ++i) check(3, data[i] == (i < serial.size() ? serial[i] : 0), "the id");
  check(4, data[20] == 'x', "no more than that");
  __builtin_memset(data, 'x', sizeof(data));
  check(5, disk.request(VirtioDisk::get_id, 0, data, 2) == VirtioDisk::ok, "2 bytes");
  check(6, data[0] == serial[0] && data[1] == serial[1] && data[2] == 'x', "the start of it");
  return 0;
}
