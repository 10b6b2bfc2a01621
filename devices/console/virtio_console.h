// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/console/host_end.h"
#include "devices/queue_service.h"
#include "vmm/base/endian.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// Byte streams between the guest and descriptors of the host (virtio 1.2, 5.3, with MULTIPORT): named ports,
// which Linux shows as /dev/vport<N>p<port>, and a console. Served by a thread of its own. No byte is lost or
// changed: a host descriptor is read only when the guest has opened the port and given a buffer, and the
// guest's output stays in its queue until the host has taken it. The end of an input is told to the guest
// after its last byte (PORT_OPEN 0). Output to a descriptor that has failed is discarded.
class VirtioConsole final : public virtio::VirtioDevice {
 public:
  // The host's ends of a port; -1: none.
  struct Ends {
    int input = -1;
    int output = -1;
  };
  struct NamedPort {
    std::string name;
    Ends ends;
  };
  static constexpr std::size_t most_ports = 15;

  // The console is port 0, the named ports, at most most_ports, are those from 1 on. Duplicates the
  // descriptors. log outlives the device. Throws HostError.
  VirtioConsole(std::optional<Ends> console, std::span<const NamedPort> ports, const Log& log);
  ~VirtioConsole() override { deactivate(); }

  std::uint32_t type() const override { return 3; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  void deactivate() override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void fields(StateVisitor& visitor) override;
  void flush(int give_up_fd) override;

 private:
  struct Control;
  struct Port {
    std::uint32_t id;
    bool present;  // port 0 has queues in any case
    std::string name;
    std::optional<HostEnd> input;   // until its end
    std::optional<HostEnd> output;  // until it fails
    bool input_ended = false;
    // Until the driver resets the device:
    bool open = false;      // by the guest
    std::uint32_t due = 0;  // control messages not yet sent: 1 << event
    virtio::DescriptorChain sending = {};
    bool busy = false;       // `sending` is not yet written whole
    std::uint64_t sent = 0;  // of the next request, or of `sending`
  };

  void add_port(bool present, std::string name, Ends ends);
  void serve(std::uint16_t index);
  void receive(Port& port);
  bool transmit(Port& port);
  bool finish(Port& port);
  void end_output(Port& port, int error);
  void serve_control();
  void obey(const Control& message);
  void announce();
  std::size_t write_announcement(Port& port, std::span<const iovec> to);

  const Log& log_;
  std::vector<Port> ports_;  // by id
  std::vector<std::uint16_t> queue_sizes_;
  std::unique_ptr<QueueService> service_;
};

extern const DeviceKind console_kind;

}  // namespace hum
