// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/net/net_path.h"
#include "devices/net/tap_backend.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/memory/guest_memory.h"

namespace hum {

// The kernel's vhost-net, as far as it can be replaced in tests.
struct VhostNetKernel {
  std::string device = "/dev/vhost-net";
  // ioctl(2): 0 or errno.
  std::function<int(int fd, unsigned long request, void* argument)> control;

  VhostNetKernel();
};

// The kernel carries frames between the queues and a tap (linux/vhost.h): it is kicked by the driver and,
// where the transport lends a queue's interrupt, raises that itself. A thread raises the others, and looks
// for rings that the kernel finds broken. Frames that pass so are neither counted nor filtered.
class VhostNetPath final : public NetPath {
 public:
  // Throws HostError where there is no vhost-net; the backend is still the caller's then. memory outlives
  // the path.
  VhostNetPath(std::unique_ptr<TapBackend>&& backend, const GuestMemory& memory, const Log& log,
               VhostNetKernel kernel = {});
  ~VhostNetPath() override { stop(); }

  std::uint64_t features() const override;
  std::uint64_t ring_features() const override;
  bool uses_call_fds() const override { return true; }
  std::uint16_t pairs() const override { return static_cast<std::uint16_t>(devices_.size()); }
  std::optional<std::uint16_t> mtu() const override { return backend_->mtu(); }

  void start(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
             virtio::DeviceEvents& events) override;
  std::vector<virtio::ActiveQueue> stop() override;

  void set_offloads(std::uint64_t accepted) override { backend_->set_offloads(accepted); }
  void use_pairs(std::uint16_t count) override;
  void set_rules(const ReceiveRules&) override {}  // it offers no CTRL_RX
  // Frames from the guest are dropped when the carrier comes back.
  void set_carrier(bool up) override;

  bool link() const override { return backend_->link(); }
  void on_link_change(std::function<void()> changed) override {
    backend_->on_link_change(std::move(changed));
  }

 private:
  struct Ring {
    virtio::ActiveQueue active;
    std::unique_ptr<EventFd> call = nullptr;  // that is relayed, where no interrupt is lent
    bool connected = false;                   // to the tap
  };
  static std::size_t pair_of(const Ring& ring);
  static unsigned ring_of(const Ring& ring);

  void control(std::size_t pair, unsigned long request, void* argument, const char* name) const;
  void share_memory(std::size_t pair) const;
  void set_up(Ring& ring);
  void set_base(const Ring& ring) const;
  void connect(Ring& ring);
  void disconnect(Ring& ring);
  void settle();
  void drop_waiting();
  void give_up(const std::string& reason);
  void take_back();

  std::unique_ptr<TapBackend> backend_;
  const GuestMemory& memory_;
  const Log& log_;
  VhostNetKernel kernel_;
  std::vector<Fd> devices_;  // one for each pair
  std::uint64_t offered_ = ~std::uint64_t{0};
  EventFd broken_;  // signalled by the kernel: a ring is
  virtio::DeviceEvents* events_ = nullptr;
  // All below is used on the thread.
  std::vector<Ring> rings_;
  std::uint16_t pairs_in_use_ = 1;
  bool carrier_ = true;
  bool given_up_ = false;
  virtio::QueueCounters uncounted_;  // of rings whose interrupts do not pass here: of no meaning
  IoThread thread_;                  // last: ends before what it uses
};

}  // namespace hum
