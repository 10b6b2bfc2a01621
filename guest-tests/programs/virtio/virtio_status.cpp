// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

constexpr std::uint8_t failed = 128;
constinit VirtioQueue queue{};

}  // namespace

// The device status (virtio 1.2, 2.1): bits are added in order, DRIVER_OK only after FEATURES_OK, a reset
// reads back as 0 and undoes everything.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_rng);
  check(1, device != nullptr && device->reset(), "entropy device");
  device->set_status(virtio_acknowledge);
  check(2, device->status() == virtio_acknowledge, "ACKNOWLEDGE");
  device->set_status(virtio_acknowledge | virtio_driver);
  check(3, device->status() == (virtio_acknowledge | virtio_driver), "DRIVER");
  device->set_status(virtio_acknowledge | virtio_driver | virtio_driver_ok);
  check(4, device->status() == (virtio_acknowledge | virtio_driver), "no DRIVER_OK before FEATURES_OK");
  device->set_driver_features(virtio_version_1);
  constexpr std::uint8_t ready = virtio_acknowledge | virtio_driver | virtio_features_ok;
  device->set_status(ready);
  check(5, device->status() == ready, "FEATURES_OK");
  device->set_status(ready | virtio_needs_reset);
  check(6, device->status() == ready, "DEVICE_NEEDS_RESET is the device's");
  device->set_queue(0, queue);
  check(7, device->queue_enabled(0), "a queue is enabled");
  device->finish();
  check(8, device->status() == (ready | virtio_driver_ok), "DRIVER_OK");
  device->set_status(ready | virtio_driver_ok | failed);
  check(9, device->status() == (ready | virtio_driver_ok | failed), "FAILED");
  check(10, device->reset() && !device->queue_enabled(0), "reset");
  device->set_status(ready);
  check(11, device->status() == (virtio_acknowledge | virtio_driver),
        "a reset takes the choice of features away");
  return 0;
}
