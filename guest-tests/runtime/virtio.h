// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/hardware.h"

// The driver's side of virtio 1.2, with split queues.
namespace guest {

inline constexpr std::uint32_t virtio_block = 2;
inline constexpr std::uint32_t virtio_console = 3;
inline constexpr std::uint32_t virtio_rng = 4;

// Features of ring and transport (section 6).
inline constexpr std::uint64_t virtio_indirect_desc = 1ull << 28;
inline constexpr std::uint64_t virtio_event_idx = 1ull << 29;
inline constexpr std::uint64_t virtio_version_1 = 1ull << 32;

// Device status bits (2.1).
inline constexpr std::uint8_t virtio_acknowledge = 1;
inline constexpr std::uint8_t virtio_driver = 2;
inline constexpr std::uint8_t virtio_driver_ok = 4;
inline constexpr std::uint8_t virtio_features_ok = 8;
inline constexpr std::uint8_t virtio_needs_reset = 64;

// One piece of a request.
struct VirtioBuffer {
  const volatile void* data;
  std::uint32_t size;
  bool device_writes;
};

struct VirtioDescriptor {
  static constexpr std::uint16_t next_follows = 1;
  static constexpr std::uint16_t device_writes = 2;
  static constexpr std::uint16_t indirect = 4;

  std::uint64_t address;
  std::uint32_t size;
  std::uint16_t flags;
  std::uint16_t next;
};

// Writes a chain into consecutive descriptors of a table: a queue's own, or an indirect one.
void write_chain(volatile VirtioDescriptor* table, std::uint16_t first, const VirtioBuffer* buffers,
                 unsigned count);

// A request that the device has given back: its head and the number of bytes written.
struct VirtioElement {
  std::uint32_t id;
  std::uint32_t size;
};

// Where a queue lies.
struct VirtioRings {
  std::uint16_t size;
  std::uint64_t descriptors;
  std::uint64_t available;
  std::uint64_t used;
};

// A split virtqueue (2.7) of up to 1024 entries. Descriptors are given out in turn: requests in flight have
// at most size() of them, and once they are taken the next may follow. The rings are public for tests that
// break them.
class VirtioQueue {
 public:
  static constexpr std::uint16_t most = 1024;

  struct Available {
    static constexpr std::uint16_t no_interrupt = 1;
    std::uint16_t flags;
    std::uint16_t index;
    std::uint16_t ring[most + 1];  // the word behind the entries in use is used_event
  };
  struct Used {
    static constexpr std::uint16_t no_notify = 1;
    std::uint16_t flags;
    std::uint16_t index;
    VirtioElement ring[most + 1];  // available_event likewise
  };

  // Empties it. entries: a power of two.
  void clear(std::uint16_t entries);
  std::uint16_t size() const { return size_; }
  VirtioRings rings() const;

  // Writes a chain of descriptors, or one that names an indirect table, and returns the head. The device does
  // not know of it.
  std::uint16_t place(const VirtioBuffer* buffers, unsigned count);
  std::uint16_t place_indirect(const volatile VirtioDescriptor* table, std::uint32_t bytes);
  // Makes a chain available. Does not notify.
  void offer(std::uint16_t head);
  void add(const VirtioBuffer* buffers, unsigned count) { offer(place(buffers, count)); }

  // True if the device has returned a request that take has not seen.
  bool has_used() const { return used.index != taken_; }
  VirtioElement take();

  // With EVENT_IDX (2.7.7, 2.7.8): where the driver wants an interrupt, where the device wants a
  // notification.
  volatile std::uint16_t& used_event() { return available.ring[size_]; }
  std::uint16_t available_event() const { return static_cast<std::uint16_t>(used.ring[size_].id); }

  alignas(16) volatile VirtioDescriptor descriptors[most]{};
  alignas(16) volatile Available available{};
  alignas(16) volatile Used used{};

 private:
  std::uint16_t next_descriptor(unsigned count);

  std::uint16_t size_ = 0;
  std::uint16_t next_ = 0;
  std::uint16_t taken_ = 0;
};

// One device behind either transport. Virtual functions follow the transports' registers (4.1.4.3, 4.2.2).
class VirtioDevice {
 public:
  static constexpr unsigned most = 4;  // in use at a time

  virtual std::uint8_t status() = 0;
  virtual void set_status(std::uint8_t value) = 0;
  // 32 feature bits: 0 for the lowest.
  virtual std::uint32_t feature_word(std::uint32_t word) = 0;
  virtual void set_feature_word(std::uint32_t word, std::uint32_t value) = 0;
  // The largest size; 0 if there is no such queue.
  virtual std::uint16_t queue_size(std::uint16_t index) = 0;
  virtual void set_queue_size(std::uint16_t index, std::uint16_t size) = 0;
  // Size, addresses, interrupt, and enable, as they are given.
  virtual void enable_queue(std::uint16_t index, const VirtioRings& rings) = 0;
  virtual bool queue_enabled(std::uint16_t index) = 0;
  virtual void notify(std::uint16_t index) = 0;
  virtual std::uint64_t config_address() = 0;
  virtual std::uint32_t generation() = 0;
  // Programs what is between device and processor, so that interrupts reach vector(). False where it is not
  // known which interrupt the device has.
  virtual bool route_interrupts() = 0;
  // To be called by the handler.
  virtual void acknowledge_interrupt() = 0;

  template <class T>
  T config(std::uint32_t offset) {
    return *reinterpret_cast<const volatile T*>(config_address() + offset);
  }

  std::uint64_t device_features() { return feature_word(0) | std::uint64_t{feature_word(1)} << 32; }
  void set_driver_features(std::uint64_t features);

  // Reset, features, and routes interrupts if it can (3.1.1, steps 1 to 6). False if the device lacks
  // VERSION_1 or refuses. Of `wanted`, what the device offers is taken.
  bool begin(std::uint64_t wanted = 0);
  // Enables a queue, emptied, of this many entries.
  void set_queue(std::uint16_t index, VirtioQueue& queue, std::uint16_t entries = 16);
  // Step 8: the device is live. Queues are set between begin and this.
  void finish() { set_status(static_cast<std::uint8_t>(status() | virtio_driver_ok)); }
  bool reset();
  std::uint64_t features() const { return features_; }

  bool has_interrupts() const { return has_interrupts_; }
  std::uint8_t vector() const { return static_cast<std::uint8_t>(40 + slot_); }
  // Interrupts seen so far.
  std::uint32_t interrupts() const { return interrupts_; }
  void count_interrupt() {
    acknowledge_interrupt();
    interrupts_ = interrupts_ + 1;
  }

  // One request: makes it available, notifies and waits for it. False if nothing came back.
  bool request(std::uint16_t index, VirtioQueue& queue, const VirtioBuffer* buffers, unsigned count,
               std::uint32_t& written);

 protected:
  ~VirtioDevice() = default;

 private:
  std::uint64_t features_ = 0;
  bool has_interrupts_ = false;
  unsigned slot_ = most;  // none yet
  volatile std::uint32_t interrupts_ = 0;
};

// True if condition() holds at no time during the next moment, some 40 ms.
template <class Condition>
bool never(Condition&& condition) {
  const std::uint64_t end = read_tsc() + 100'000'000;
  while (!condition()) {
    if (read_tsc() > end) return true;
    pause();
  }
  return false;
}

// The place-th device of this type on the transport that the command line names (transport=pci or
// transport=mmio; both, PCI first, if it names none), nullptr if there is none.
VirtioDevice* find_virtio_device(const BootInfo& boot, std::uint32_t type, unsigned place = 0);

}  // namespace guest
