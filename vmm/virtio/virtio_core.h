// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/bus/kicks.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/virtio_device.h"

namespace hum::virtio {

// What every transport needs of its machine; all outlives the transport.
struct TransportContext {
  const GuestMemory& memory;
  AddressDecoder& mmio;
  KickRegistry& kicks;
  const Log& log;
  // Told, from any thread, whenever the device's driver has to reset it; must not block.
  std::function<void(std::string_view reason)> broke = [](std::string_view) {};
};

// A transport as its machine sees it: the owner of one device.
class Transport {
 public:
  virtual ~Transport() = default;

  // Changes options of the device (see VirtioDevice::apply). The VM's owner.
  virtual void apply(const OptionValues& options) = 0;
  // See VirtioDevice::request. The VM's owner.
  virtual void request(std::string_view verb) = 0;

  // The end of the VM: its vCPUs have stopped. flush finishes what the device had queued for the outside (see
  // VirtioDevice::flush), stop takes the queues back from it. Any thread.
  virtual void flush(int give_up_fd) = 0;
  virtual void stop() = 0;
  virtual DeviceReport report() const = 0;  // any thread
  // Whether the guest has a driver for it at work (its status is not that of a reset), or has memory of it.
  // Any thread.
  virtual bool in_use() = 0;

  // While vCPUs stand still: pause takes the queues back from the device and holds its interrupts, resume
  // undoes both. fields is visited in between.
  virtual void pause() = 0;
  virtual void resume() = 0;
  virtual void fields(StateVisitor& visitor) = 0;
};

// Bits of the device status (virtio 1.2, 2.1).
inline constexpr std::uint8_t status_acknowledge = 1;
inline constexpr std::uint8_t status_driver = 2;
inline constexpr std::uint8_t status_driver_ok = 4;
inline constexpr std::uint8_t status_features_ok = 8;
inline constexpr std::uint8_t status_needs_reset = 64;
inline constexpr std::uint8_t status_failed = 128;

// What both transports share: the device and its status, the negotiation of features, the queues' registers,
// activation and reset. Owned by a transport, which calls it under its window's mutex, but for notify(),
// which takes no lock.
class VirtioCore final : private DeviceEvents {
 public:
  // The transport's side.
  class Port {
   public:
    virtual ~Port() = default;
    // From any thread, without a lock.
    virtual void interrupt_queue(std::uint16_t queue) = 0;
    virtual void interrupt_config() = 0;
    // An eventfd that does what interrupt_queue does, or -1 if that does more. Where it becomes another one,
    // reactivate() follows. Under the window's mutex.
    virtual int interrupt_fd(std::uint16_t /*queue*/) const { return -1; }
    // Where the driver notifies a queue now, if anywhere. Under the window's mutex.
    virtual std::optional<KickAddress> kick_address(std::uint16_t queue) const = 0;
  };

  // What the driver writes about a queue.
  struct Queue {
    std::uint16_t size = 0;
    bool enabled = false;
    std::uint64_t descriptors = 0;
    std::uint64_t available = 0;
    std::uint64_t used = 0;
  };

  // name is the device's in messages. port outlives the core.
  VirtioCore(const TransportContext& context, std::unique_ptr<VirtioDevice> device, std::string name,
             Port& port);
  ~VirtioCore() override { stop(); }

  const VirtioDevice& device() const { return *device_; }
  std::uint16_t queue_count() const { return static_cast<std::uint16_t>(queues_.size()); }

  std::uint8_t status() const;
  // See Transport.
  bool in_use() const { return status() != 0 || device_->holds_memory(); }
  // 0 resets: returns when the device has given its queues back. Bits once set stay until then.
  void write_status(std::uint8_t value);

  // Features by 32-bit words; word 2 and above read as zero. Writes count until FEATURES_OK.
  std::uint32_t offered_features(std::uint32_t word) const;
  std::uint32_t driver_features(std::uint32_t word) const;
  void write_driver_features(std::uint32_t word, std::uint32_t value);

  // Null for a queue that does not exist.
  const Queue* queue(std::uint32_t index) const;
  std::uint16_t largest_size(std::uint32_t index) const;  // 0 for a queue that does not exist
  // All of these are ignored for a queue that does not exist or after DRIVER_OK; size and addresses also
  // while the queue is enabled, and sizes that are not allowed.
  void write_size(std::uint32_t index, std::uint32_t size);
  enum class Ring : std::uint8_t { descriptors, available, used };
  void write_address(std::uint32_t index, Ring ring, bool high_half, std::uint32_t value);
  void write_enabled(std::uint32_t index, bool enabled);

  // The driver's notification where no ioeventfd took it. Any thread.
  void notify(std::uint32_t index) const;

  std::uint32_t generation() const { return generation_.load(std::memory_order_acquire); }
  void read_config(std::uint64_t offset, std::span<std::byte> data) const;
  void write_config(std::uint64_t offset, std::span<const std::byte> data);

  // The places of notification have changed: binds the kicks of a running device again.
  void rebind_kicks();
  // The queues' interrupts have changed: a running device that raises them itself gets its queues anew.
  void reactivate();

  // See VirtioDevice.
  void apply(const OptionValues& options);
  void request(std::string_view verb) { device_->request(verb); }
  void flush(int give_up_fd);
  void stop() { reset(); }
  DeviceReport report() const;

  // See Transport.
  void pause();
  void resume();
  void fields(StateVisitor& visitor);

 private:
  struct Slot {
    Queue queue;
    EventFd kick;
    std::optional<KickAddress> bound;
    QueueCounters counters;
    // Where the device goes on when it gets the queue, and how many requests it has then already.
    std::uint16_t position = 0;
    std::uint16_t with_device = 0;
  };

  void config_changed() override;
  void needs_reset(std::string_view reason) override;

  void activate();
  QueueLayout layout_of(const Queue& queue, std::uint64_t features) const;
  void reset();
  Slot* writable(std::uint32_t index);
  void bind_kicks();
  void unbind_kicks();

  const GuestMemory& memory_;
  KickRegistry& kicks_;
  const Log& log_;
  std::function<void(std::string_view reason)> broke_;
  std::unique_ptr<VirtioDevice> device_;
  std::string name_;
  Port& port_;
  std::uint64_t offered_;
  std::uint64_t accepted_ = 0;
  bool accepted_unknown_ = false;  // a feature beyond the 64 there are
  std::uint8_t status_ = 0;
  bool active_ = false;  // the device has the queues
  bool paused_ = false;  // it had them before the pause and gets them again
  std::vector<Slot> queues_;
  std::atomic<bool> needs_reset_ = false;
  std::atomic<std::uint32_t> generation_ = 0;
  std::atomic<unsigned> complaints_ =
      0;  // a guest that breaks its ring again and again does not fill the log
};

}  // namespace hum::virtio
