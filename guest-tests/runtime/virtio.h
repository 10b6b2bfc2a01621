// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/boot_info.h"

// The driver's side of virtio 1.2, with split queues.
namespace guest {

inline constexpr std::uint32_t virtio_block = 2;
inline constexpr std::uint32_t virtio_rng = 4;

inline constexpr std::uint64_t virtio_version_1 = 1ull << 32;

// Device status bits (2.1).
inline constexpr std::uint8_t virtio_acknowledge = 1;
inline constexpr std::uint8_t virtio_driver = 2;
inline constexpr std::uint8_t virtio_driver_ok = 4;
inline constexpr std::uint8_t virtio_features_ok = 8;

// One piece of a request.
struct VirtioBuffer {
  const volatile void* data;
  std::uint32_t size;
  bool device_writes;
};

// A split virtqueue (2.7) of 16 entries with one request in flight at a time. The rings are public for tests
// that break them.
class VirtioQueue {
 public:
  static constexpr std::uint16_t entries = 16;
  static constexpr std::uint16_t descriptor_next = 1;
  static constexpr std::uint16_t descriptor_write = 2;

  struct Descriptor {
    std::uint64_t address;
    std::uint32_t size;
    std::uint16_t flags;
    std::uint16_t next;
  };
  struct Available {
    std::uint16_t flags;
    std::uint16_t index;
    std::uint16_t ring[entries];
    std::uint16_t used_event;
  };
  struct Used {
    std::uint16_t flags;
    std::uint16_t index;
    struct {
      std::uint32_t id;
      std::uint32_t size;
    } ring[entries];
    std::uint16_t available_event;
  };

  void clear();
  // Makes one request of 1 to 16 buffers available, in descriptors 0 and up. Does not notify.
  void add(const VirtioBuffer* buffers, unsigned count);
  // True if the device has returned a request that take has not seen.
  bool has_used() const { return used.index != taken_; }
  // The number of bytes that the device says it wrote.
  std::uint32_t take();

  alignas(16) volatile Descriptor descriptors[entries]{};
  alignas(16) volatile Available available{};
  alignas(16) volatile Used used{};

 private:
  std::uint16_t taken_ = 0;
};

// One device behind either transport. Methods follow the transports' registers (4.1.4.3, 4.2.2).
class VirtioDevice {
 public:
  virtual std::uint8_t status() = 0;
  virtual void set_status(std::uint8_t value) = 0;
  virtual std::uint64_t device_features() = 0;
  virtual void set_driver_features(std::uint64_t features) = 0;
  virtual std::uint16_t queue_size(std::uint16_t index) = 0;
  // Enables a queue of VirtioQueue::entries entries; its interrupts arrive at interrupt_vector.
  virtual void set_queue(std::uint16_t index, VirtioQueue& queue) = 0;
  virtual void notify(std::uint16_t index) = 0;
  virtual std::uint64_t config_address() = 0;
  // Programs what is between device and processor, so that the device's interrupts reach interrupt_vector.
  // False where it is not known which interrupt the device has.
  virtual bool route_interrupts() = 0;
  // To be called by the handler.
  virtual void acknowledge_interrupt() = 0;

  template <class T>
  T config(std::uint32_t offset) {
    return *reinterpret_cast<const volatile T*>(config_address() + offset);
  }

  // Reset, features, and routes interrupts if it can (3.1.1, steps 1 to 6). False if the device lacks
  // VERSION_1 or refuses. Of `wanted`, what the device offers is taken.
  bool begin(std::uint64_t wanted = 0);
  // Step 8: the device is live. Queues are set between begin and this.
  void finish() { set_status(static_cast<std::uint8_t>(status() | virtio_driver_ok)); }
  bool reset();
  std::uint64_t features() const { return features_; }
  bool has_interrupts() const { return has_interrupts_; }

  // One request: makes it available, notifies and waits for it. False if nothing came back.
  bool request(std::uint16_t index, VirtioQueue& queue, const VirtioBuffer* buffers, unsigned count,
               std::uint32_t& written);

 protected:
  ~VirtioDevice() = default;

 private:
  std::uint64_t features_ = 0;
  bool has_interrupts_ = false;
};

inline constexpr std::uint8_t virtio_interrupt_vector = 40;

// Interrupts of virtio devices seen so far.
std::uint32_t virtio_interrupts();

// The first device of this type on the transport that the command line names (transport=pci or
// transport=mmio; both, PCI first, if it names none), nullptr if there is none. One PCI and one MMIO device
// at a time.
VirtioDevice* find_virtio_device(const BootInfo& boot, std::uint32_t type);
VirtioDevice* find_virtio_pci(std::uint32_t type);
VirtioDevice* find_virtio_mmio(const BootInfo& boot, std::uint32_t type);

}  // namespace guest
