// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "vmm/base/counter.h"
#include "vmm/base/endian.h"
#include "vmm/memory/guest_memory.h"

namespace hum::virtio {

// A request of the driver: its buffers, checked whole before anybody sees them (virtio 1.2, 2.7.4, 2.7.5).
// Kept and reused by its owner, so that a request costs no allocation. The iovecs stay valid until the queue
// is gone.
struct DescriptorChain {
  std::uint16_t head = 0;
  std::vector<iovec> readable;  // driver to device
  std::vector<iovec> writable;  // device to driver
  std::uint64_t readable_bytes = 0;
  std::uint64_t writable_bytes = 0;
};

// What has gone through a queue, over all of its activations. Counted by the thread that has the queue.
struct QueueCounters {
  Counter requests;  // given back
  Counter bytes_from_guest;
  Counter bytes_to_guest;
  Counter notifications;
  Counter interrupts;
};

// Where the driver has put one queue, and how it is used.
struct QueueLayout {
  std::uint16_t size = 0;  // entries, a power of two, 1 to 32768
  GuestAddress descriptors;
  GuestAddress available;
  GuestAddress used;
  bool event_idx = false;  // VIRTIO_F_EVENT_IDX was negotiated
  bool indirect = false;   // VIRTIO_F_INDIRECT_DESC was negotiated
};

// The device's side of one split virtqueue (virtio 1.2, 2.7). Belongs to one thread at a time. Whatever is
// wrong in the ring throws GuestError, never looks like an empty queue.
class VirtQueue {
 public:
  // interrupt raises the queue's interrupt, from any thread, without a lock. memory outlives the queue.
  // position is next_available() of the queue that this one goes on from, which had so many requests with the
  // device. Throws GuestError if a ring is misaligned (descriptors 16, available 2, used 4) or not in RAM
  // whole.
  VirtQueue(const GuestMemory& memory, const QueueLayout& layout, std::function<void()> interrupt,
            std::uint16_t position = 0, std::uint16_t with_device = 0);

  // From now on counts there; the counters outlive the queue.
  void count_in(QueueCounters& counters) { counters_ = &counters; }
  QueueCounters& counters() { return *counters_; }

  const QueueLayout& layout() const { return layout_; }
  std::uint16_t next_available() const { return next_available_; }
  std::uint16_t next_used() const { return next_used_; }
  // Requests that were popped and not given back.
  std::uint16_t with_device() const { return static_cast<std::uint16_t>(next_available_ - next_used_); }

  // Takes the next request, if there is one. Checks indices, loops, order (readable before writable), the
  // ranges, indirect tables (not inside another, not with NEXT, size a multiple of 16, entries at most the
  // queue size), and that the driver's index is at most size ahead of what was given back: no more than size
  // requests are ever with the device.
  bool pop(DescriptorChain& chain);

  // Reads a request again that is with the device: what it was popped as may have changed since.
  void pop_again(std::uint16_t head, DescriptorChain& chain) const;

  // Returns the last popped request unused (there was no room for its data): the next pop gives it again.
  void undo_pop();
  // The same for one of several: all that were popped behind it were returned before.
  void undo_pop(const DescriptorChain& chain);

  // Gives a request back with the number of bytes written to its writable part. Not yet visible to the
  // driver: publish() does that for all requests given back since.
  void push(std::uint16_t head, std::uint32_t written);
  // Release-stores the used index and raises the interrupt if the driver wants one (EVENT_IDX or
  // VRING_AVAIL_F_NO_INTERRUPT). Does nothing if nothing was pushed.
  void publish();

  // Whether there is a request to take. Throws GuestError.
  bool has_available();

  // Asks the driver for no kicks, or for one at the next request. enable_kicks returns true if requests have
  // arrived meanwhile: drain again.
  void disable_kicks();
  bool enable_kicks();

  // For a queue whose rings somebody else serves (another process, the kernel). What the driver has offered
  // and what it was given back, by index, as the rings show it now.
  std::uint16_t offered_index() const;
  std::uint16_t used_index() const;
  // The other side may have given requests back: if so, counts them and raises the interrupt.
  void relay_interrupt();
  // The other side is gone: goes on behind the last request that was given back.
  void take_over();

  // Calls handle(chain) for each request and publishes what it pushed. True when the queue is empty, false
  // when handle returned that. Kicks stay off: the caller enables them before it sleeps.
  template <class Handle>
  bool take_all(DescriptorChain& chain, Handle&& handle) {
    disable_kicks();
    bool empty = true;
    while (empty && pop(chain)) empty = handle(chain);
    publish();
    return empty;
  }

  // For a device that asks for kicks itself: calls handle(chain) for each request, publishes what it pushed,
  // and returns when the queue is empty and kicks are on again, or when handle returns false (it used
  // undo_pop, or has enough in flight). handle pushes each request, at once or later.
  template <class Handle>
  void drain(DescriptorChain& chain, Handle&& handle) {
    while (take_all(chain, handle) && enable_kicks()) {
    }
  }

 private:
  struct Descriptor;
  void walk(DescriptorChain& chain) const;
  void walk_indirect(DescriptorChain& chain, GuestRange table, std::uint32_t most) const;
  void append(DescriptorChain& chain, const Descriptor& descriptor) const;
  bool wants_interrupt() const;

  const GuestMemory& memory_;
  QueueLayout layout_;
  std::function<void()> interrupt_;
  std::byte* descriptors_ = nullptr;  // the rings on the host: RAM stays mapped as long as memory_
  std::byte* available_ = nullptr;
  std::byte* used_ = nullptr;
  std::uint16_t next_available_;
  std::uint16_t known_available_;  // the driver's index when it was last read
  std::uint16_t next_used_;        // of the next element to fill
  std::uint16_t published_used_;   // what the driver has been shown
  bool kicks_enabled_ = true;
  std::uint64_t last_popped_bytes_ = 0;  // to be read by the device
  QueueCounters own_counters_;
  QueueCounters* counters_ = &own_counters_;
};

}  // namespace hum::virtio
