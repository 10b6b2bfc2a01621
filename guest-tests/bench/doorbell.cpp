// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/doorbell.h"

#include "guest-tests/runtime/paging.h"
#include "guest-tests/runtime/virtio_mmio.h"
#include "guest-tests/runtime/virtio_pci.h"

namespace guest {
namespace {

Doorbell find(const BootInfo& boot, std::uint32_t type, std::uint16_t queue) {
  const Text transport = boot.option("transport");
  if (transport.empty() || transport == "pci") {
    if (VirtioPci* const device = find_virtio_pci(type))
      return {device, device->notify_address(queue), false, queue};
  }
  if (transport != "pci") {
    constexpr auto notify = static_cast<std::uint32_t>(VirtioMmioRegister::queue_notify);
    if (VirtioMmio* const device = find_virtio_mmio(boot, type))
      return {device, device->base() + notify, true, queue};
  }
  return {};
}

}  // namespace

Doorbell find_doorbell(const BootInfo& boot, std::uint32_t type, std::uint16_t queue) {
  const Doorbell found = find(boot, type, queue);
  if (found.device != nullptr) map_page_of(found.address, page::write | page::user);
  return found;
}

}  // namespace guest
