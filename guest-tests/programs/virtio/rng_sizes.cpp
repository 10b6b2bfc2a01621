// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

constinit VirtioQueue queue{};
constinit char bytes[8192]{};

}  // namespace

// Random numbers into buffers of several sizes and pieces (virtio 1.2, 5.4.6): the number of bytes is told,
// no byte behind them changes.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_rng);
  check(1, device != nullptr && device->begin(), "entropy device");
  device->set_queue(0, queue);
  device->finish();
  for (const std::uint32_t size : std::initializer_list<std::uint32_t>{1, 2, 63, 512, 4095}) {
    __builtin_memset(bytes, 0, sizeof(bytes));
    const VirtioBuffer buffers[] = {{bytes, size, true}, {bytes + 4096, size, true}};
    std::uint32_t written = 0;
    check(2, device->request(0, queue, buffers, 2, written) && written == 2 * size, "number of bytes");
    check(3, bytes[size] == 0 && bytes[4096 + size] == 0, "the rest is left alone");
    unsigned zeros = 0;
    for (std::uint32_t i = 0; i < size && i < 512; ++i) zeros += bytes[4096 + i] == 0 ? 1 : 0;
    check(4, size < 63 || zeros < 40, "the second piece is filled");
  }
  return 0;
}
