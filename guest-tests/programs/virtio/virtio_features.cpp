// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

// Feature negotiation (virtio 1.2, 2.2, 3.1.1): what is offered, and that FEATURES_OK stands only for a
// choice from it with VERSION_1.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_rng);
  check(1, device != nullptr, "entropy device");
  const std::uint64_t offered = device->device_features();
  constexpr std::uint64_t required = virtio_version_1 | virtio_indirect_desc | virtio_event_idx;
  check(2, (offered & required) == required, "features offered");
  check(3, device->feature_word(2) == 0 && device->feature_word(0xffffffff) == 0,
        "no features beyond the 64");
  const auto accepted = [&](std::uint64_t features, std::uint32_t word_2 = 0) {
    check(4, device->reset(), "reset");
    device->set_status(virtio_acknowledge | virtio_driver);
    device->set_driver_features(features);
    if (word_2 != 0) device->set_feature_word(2, word_2);
    device->set_status(virtio_acknowledge | virtio_driver | virtio_features_ok);
    return (device->status() & virtio_features_ok) != 0;
  };
  check(5, accepted(virtio_version_1) && accepted(offered), "a choice from what is offered");
  check(6, !accepted(0) && !accepted(offered & ~virtio_version_1), "VERSION_1 is required");
  for (unsigned bit = 0; bit < 64; ++bit) {
    const std::uint64_t feature = 1ull << bit;
    if ((offered & feature) == 0)
      check(7, !accepted(virtio_version_1 | feature), "a feature that is not offered");
  }
  check(8, !accepted(virtio_version_1, 1), "a feature beyond the 64");
  check(9, accepted(virtio_version_1), "a good choice after the refused ones");
  device->set_driver_features(0);
  device->finish();
  check(10, (device->status() & virtio_driver_ok) != 0, "the choice stands from FEATURES_OK on");
  return 0;
}
