// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/latency_histogram.h"
#include "vmm/base/options.h"
#include "vmm/base/state.h"
#include "vmm/virtio/virt_queue.h"

namespace hum::virtio {

// Feature bits of the ring and the transport (virtio 1.2, section 6). Devices offer only their own bits.
inline constexpr std::uint64_t feature_indirect_desc = 1ull << 28;
inline constexpr std::uint64_t feature_event_idx = 1ull << 29;
inline constexpr std::uint64_t feature_version_1 = 1ull << 32;
inline constexpr std::uint64_t feature_ring_reset = 1ull << 40;

// A queue on its way to its owner at DRIVER_OK, with the events that go with it, which stay the transport's.
struct ActiveQueue {
  std::uint16_t index = 0;  // of the queue in the device
  std::unique_ptr<VirtQueue> queue;
  int kick_fd = -1;  // an eventfd, readable when the driver has notified
  // Where one eventfd is all that the queue's interrupt takes: that one, for whoever serves the ring instead
  // of the queue. Good until the queue is handed back.
  int call_fd = -1;
};

// What a device tells its transport, from any thread, without a lock.
class DeviceEvents {
 public:
  virtual ~DeviceEvents() = default;
  // Configuration space has changed (virtio 1.2, 2.5.1): generation, then the configuration interrupt.
  virtual void config_changed() = 0;
  // The ring is broken (2.1.2, DEVICE_NEEDS_RESET): the device has stopped using its queues.
  virtual void needs_reset(std::string_view reason) = 0;
};

// What a device has done since it was made, for the end record.
struct DeviceReport {
  struct Queue {
    std::uint16_t index = 0;
    std::uint64_t requests = 0;
    std::uint64_t bytes_from_guest = 0;
    std::uint64_t bytes_to_guest = 0;
    std::uint64_t notifications = 0;
    std::uint64_t interrupts = 0;

    bool operator==(const Queue&) const = default;
  };
  struct Own {
    std::string_view name;
    std::uint64_t value = 0;

    bool operator==(const Own&) const = default;
  };

  // How long what was asked for on a queue took, from when the device took a request to its answer.
  struct Latency {
    std::string_view name;
    std::uint16_t queue = 0;
    std::array<std::uint64_t, LatencyHistogram::bucket_count> buckets{};
    std::uint64_t nanoseconds = 0;

    bool operator==(const Latency&) const = default;
  };

  std::string name;                // of its kind
  std::uint64_t broken_rings = 0;  // how often the guest broke one (DEVICE_NEEDS_RESET)
  std::vector<Queue> queues;       // those that were used
  std::vector<Own> counters;       // what only this kind of device counts
  std::vector<Latency> latencies = {};
  std::string own_name = {};  // among the machine's devices

  bool operator==(const DeviceReport&) const = default;
};

// One device model, with no knowledge of its transport. The transport calls it from vCPU threads, under the
// mutex of its register window: never two calls at once.
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  virtual std::uint32_t type() const = 0;  // virtio 1.2, section 5
  // Device feature bits offered; the transport adds VERSION_1 and ring_features().
  virtual std::uint64_t features() const = 0;
  // What of INDIRECT_DESC and EVENT_IDX whoever serves the rings can do.
  virtual std::uint64_t ring_features() const { return feature_indirect_desc | feature_event_idx; }
  // The largest size of each queue (a power of two, 1 to 32768), one entry per queue.
  virtual std::span<const std::uint16_t> queue_sizes() const = 0;

  // Configuration space. Accesses past the end read as zero and are ignored on write.
  virtual void read_config(std::uint32_t offset, std::span<std::byte> data) const = 0;
  virtual void write_config(std::uint32_t /*offset*/, std::span<const std::byte> /*data*/) {}

  // Whether ActiveQueue::call_fd is of use to the device, which then gets its queues anew where one changes.
  virtual bool uses_call_fds() const { return false; }

  // DRIVER_OK, or the end of a pause: the enabled queues move to the device, which serves them from its own
  // thread until deactivate or suspend. Every queue is scanned once. events outlives the activation. Throws
  // HostError (the transport then sets DEVICE_NEEDS_RESET).
  virtual void activate(std::uint64_t driver_features, std::vector<ActiveQueue> queues,
                        DeviceEvents& events) = 0;

  // Reset, or the end of the VM: returns when no request is in flight and no thread of the device touches
  // the queues or guest memory any more; the queues are gone. Also called when not active: does nothing then.
  virtual void deactivate() { suspend(); }

  // A pause: as deactivate, but the device hands its queues back, with all requests answered that it took
  // from them (but those that it holds for the next activate), and keeps what it knows of its driver.
  virtual std::vector<ActiveQueue> suspend() = 0;

  // Some of the device's options have changed (those that are live in its kind's table): all or nothing.
  // Active or not. Throws ConfigError, HostError.
  virtual void apply(const OptionValues& /*options*/) {}

  // Something is to be done now that is no option: a word of the device's kind. Active or not; it need not be
  // finished on return. Throws ConfigError (no such word; not now), HostError.
  virtual void request(std::string_view verb) {
    throw ConfigError("request", std::string(verb), "this device does nothing of that name");
  }

  // Whether the guest has something of the device that it uses without a driver: memory. Any thread.
  virtual bool holds_memory() const { return false; }

  // What the device knows of its driver beyond features and queues, and what of its configuration the driver
  // has seen. Visited while it is not active.
  virtual void fields(StateVisitor& /*visitor*/) {}

  // The end of the VM is near and the guest has stopped: finish what it had already queued for the outside
  // (console output), without waiting for the guest. Waits for a slow outside only until give_up_fd is
  // readable. Called while active, before deactivate.
  virtual void flush(int /*give_up_fd*/) {}

  // The device's own counters, at any moment and from any thread; its queues are counted without it.
  virtual std::vector<DeviceReport::Own> report() const { return {}; }
  virtual std::vector<DeviceReport::Latency> latencies() const { return {}; }
};

}  // namespace hum::virtio
