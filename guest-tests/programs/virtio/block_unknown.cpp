// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// Requests of unknown type are unsupported (virtio 1.2, 5.2.6.1), with and without data, and leave the data
// alone.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  for (const std::uint32_t type :
       std::initializer_list<std::uint32_t>{2, 3, 5, 9, 99, 0x80000000, 0xffffffff}) {
    check(2, disk.request(type, 0, nullptr, 0) == VirtioDisk::unsupported, "without data");
    check(3, disk.request(type, 0, data, sizeof(data)) == VirtioDisk::unsupported, "with data");
    check(4, data[0] == 0, "the data is left alone");
  }
  return 0;
}
