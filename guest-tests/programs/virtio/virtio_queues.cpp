// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

constinit VirtioQueue queue{};

}  // namespace

// The queues of a console (virtio 1.2, 5.3.2): two for each port and two for control, each with its own
// registers; those behind them do not exist.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_console);
  check(1, device != nullptr && device->begin(), "console");
  const auto ports = device->config<std::uint32_t>(4);
  check(2, ports == parse_number(boot.option("ports"), 1), "number of ports");
  const auto count = static_cast<std::uint16_t>(2 * ports + 2);
  for (std::uint16_t i = 0; i < count; ++i) check(3, device->queue_size(i) >= 16, "a queue");
  for (const std::uint16_t i : std::initializer_list<std::uint16_t>{count, 0x100, 0xffff}) {
    check(4, device->queue_size(i) == 0, "no queue");
    device->set_queue(i, queue);
    check(5, !device->queue_enabled(i), "a queue that does not exist cannot be enabled");
  }
  for (std::uint16_t i = 0; i < count; i = static_cast<std::uint16_t>(i + 2)) device->set_queue(i, queue);
  for (std::uint16_t i = 0; i < count; ++i)
    check(6, device->queue_enabled(i) == (i % 2 == 0), "each by itself");
  return 0;
}
