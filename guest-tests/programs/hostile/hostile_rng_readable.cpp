// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

constinit VirtioQueue queue{};
constinit char bytes[64]{};

}  // namespace

// An entropy request with memory that the device may only read: nothing is written, the answer has no bytes.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_rng);
  check(1, device != nullptr && device->begin(), "entropy device");
  device->set_queue(0, queue);
  device->finish();
  const VirtioBuffer buffers[] = {{bytes, sizeof(bytes), false}, {bytes + 64, 0, true}};
  for (unsigned count = 1; count <= 2; ++count) {
    std::uint32_t written = 0;
    check(2, device->request(0, queue, buffers, count, written) && written == 0, "an answer of no bytes");
    for (const char byte : bytes) check(3, byte == 0, "the memory is left alone");
  }
  return 0;
}
