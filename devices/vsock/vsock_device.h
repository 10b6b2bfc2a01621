// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/queue_service.h"
#include "devices/vsock/vsock_listener.h"
#include "devices/vsock/vsock_switch.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// Sockets between guest and host (virtio 1.2, 5.10), of streams, with Unix sockets on the side of the host
// (VsockListener). Served by a thread of its own. Connections outlive a pause; they end at a reset and do not
// move into another machine, whose guest is told so.
class VsockDevice final : public virtio::VirtioDevice {
 public:
  struct Settings {
    std::string what = "vsock";  // in errors
    std::string path;            // of the socket
    std::uint16_t queue_size = 256;
    std::chrono::milliseconds line_patience{20'000};  // for a client's first line, which a person may type
    VsockSwitch::Settings connections;
  };

  // How many connections there may be in a process that may open so many files: each has one, and all else
  // needs some, too.
  static std::size_t connections_within(std::uint64_t open_files);

  // Throws ConfigError where the path cannot be taken, HostError.
  explicit VsockDevice(const Settings& settings);
  ~VsockDevice() override { deactivate(); }

  std::uint32_t type() const override { return 19; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  void deactivate() override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void fields(StateVisitor& visitor) override;
  void flush(int give_up_fd) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  void serve(std::uint16_t index);
  void tell_of_reset();

  std::uint32_t cid_;
  std::array<std::uint16_t, 3> queue_sizes_;
  VsockCounters counters_;
  VsockListener listener_;
  VsockSwitch switch_;
  bool reset_due_ = false;  // the guest does not yet know that its connections are gone
  std::unique_ptr<QueueService> service_;
};

extern const DeviceKind vsock_kind;

}  // namespace hum
