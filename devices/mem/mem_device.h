// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "devices/mem/plugged_memory.h"
#include "devices/queue_service.h"
#include "vmm/base/counter.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// Memory that a running machine gets and gives back in blocks (virtio 1.2, 5.15): the operator requests a
// size, and the driver plugs and unplugs blocks until that much is plugged. One queue, served by a thread of
// its own. A reset of the device changes no block, as the specification wants.
class MemDevice final : public virtio::VirtioDevice {
 public:
  struct Settings {
    std::string what = "mem";  // in errors
    PluggedMemory::Layout layout{};
    std::uint64_t requested = 0;  // bytes
  };

  // Throws ConfigError where sizes do not go together; what stands in front of the option's name.
  static void check_layout(const std::string& what, const PluggedMemory::Layout& layout);

  // Throws ConfigError where the layout does not fit together or the guest has no addresses for it,
  // HostError.
  MemDevice(const Settings& settings, DeviceContext& context);
  ~MemDevice() override;

  std::uint32_t type() const override { return 24; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  void deactivate() override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void apply(const OptionValues& options) override;
  bool holds_memory() const override { return memory_->sizes().plugged != 0; }
  void fields(StateVisitor& visitor) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  std::uint32_t serve(const virtio::DescriptorChain& chain);

  static constexpr std::array<std::uint16_t, 1> queue_sizes_ = {64};
  DeviceMemory& device_memory_;
  std::unique_ptr<PluggedMemory> memory_;
  Counter plugs_;
  Counter unplugs_;
  Counter refusals_;
  std::unique_ptr<QueueService> service_;
  virtio::DeviceEvents* events_ = nullptr;  // of the last activation, until a reset
  bool change_untold_ = false;              // of the requested size, while there was nobody to tell
};

extern const DeviceKind mem_kind;

}  // namespace hum
