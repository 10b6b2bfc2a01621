// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/fd.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/virt_queue.h"
#include "vmm/virtio/virtio_device.h"

// The driver's side of virtio, for tests only.
namespace hum::virtio::testing {

inline constexpr std::uint16_t descriptor_next = 1;
inline constexpr std::uint16_t descriptor_write = 2;
inline constexpr std::uint16_t descriptor_indirect = 4;

inline constexpr std::chrono::milliseconds patience{5000};

// A buffer of a request.
struct Buffer {
  GuestAddress address;
  std::uint32_t length = 0;
  bool writable = false;
};

struct UsedElement {
  std::uint32_t head = 0;
  std::uint32_t written = 0;

  bool operator==(const UsedElement&) const = default;
};

// Waits until an eventfd is signalled and takes it down; false after the timeout.
inline bool wait_for(const EventFd& event, std::chrono::milliseconds timeout = patience) {
  pollfd entry{.fd = event.fd(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(timeout.count())) == 1 && event.drain();
}

// One split virtqueue as its driver has it: descriptors, available ring, used ring one after the other from a
// page-aligned address on. Belongs to one thread. The address and index functions write whatever they are
// told.
class FakeQueue {
 public:
  // Bytes of guest memory the queue takes.
  static std::uint64_t bytes(std::uint16_t size) { return used_offset(size) + 6 + 8 * std::uint64_t{size}; }

  FakeQueue(const GuestMemory& memory, GuestAddress base, std::uint16_t size)
      : memory_(memory), size_(size), base_(base), chains_(size) {
    memory.fill_zero({base, bytes(size)});
    for (std::uint32_t index = 0; index < size; ++index) free_.push_back(static_cast<std::uint16_t>(index));
  }

  std::uint16_t size() const { return size_; }
  GuestAddress descriptors() const { return base_; }
  GuestAddress available() const { return base_ + 16 * std::uint64_t{size_}; }
  GuestAddress used() const { return base_ + used_offset(size_); }
  QueueLayout layout(bool event_idx = false, bool indirect = true) const {
    return {size_, descriptors(), available(), used(), event_idx, indirect};
  }

  // Adds a request of direct descriptors, and shows it to the device; returns its head. Throws if there are
  // not enough free descriptors.
  std::uint16_t add(std::span<const Buffer> buffers) {
    if (buffers.empty() || buffers.size() > free_.size()) throw std::logic_error("no free descriptors");
    std::vector<std::uint16_t> chain;
    for (std::size_t count = 0; count < buffers.size(); ++count) chain.push_back(take_free());
    for (std::size_t at = 0; at < chain.size(); ++at) {
      const bool last = at + 1 == chain.size();
      set_descriptor(chain[at], buffers[at].address, buffers[at].length, flags(buffers[at], last),
                     last ? std::uint16_t{0} : chain[at + 1]);
    }
    const std::uint16_t head = chain.front();
    chains_[head] = std::move(chain);
    offer(head);
    return head;
  }
  std::uint16_t add(std::initializer_list<Buffer> buffers) {
    return add(std::span<const Buffer>(buffers.begin(), buffers.size()));
  }

  // The same through an indirect table at the given address.
  std::uint16_t add_indirect(GuestAddress table, std::span<const Buffer> buffers) {
    for (std::size_t at = 0; at < buffers.size(); ++at) {
      const bool last = at + 1 == buffers.size();
      write_descriptor(table + 16 * at, buffers[at].address, buffers[at].length, flags(buffers[at], last),
                       static_cast<std::uint16_t>(last ? 0 : at + 1));
    }
    const std::uint16_t head = take_free();
    set_descriptor(head, table, static_cast<std::uint32_t>(16 * buffers.size()), descriptor_indirect, 0);
    chains_[head] = {head};
    offer(head);
    return head;
  }
  std::uint16_t add_indirect(GuestAddress table, std::initializer_list<Buffer> buffers) {
    return add_indirect(table, std::span<const Buffer>(buffers.begin(), buffers.size()));
  }

  // Writes a descriptor of the queue, or anywhere in memory (an indirect table), unchecked.
  void set_descriptor(std::uint16_t index, GuestAddress address, std::uint32_t length, std::uint16_t flags,
                      std::uint16_t next) {
    write_descriptor(base_ + 16 * std::uint64_t{index}, address, length, flags, next);
  }
  void write_descriptor(GuestAddress at, GuestAddress address, std::uint32_t length, std::uint16_t flags,
                        std::uint16_t next) {
    memory_.write(at, le64(address.value));
    memory_.write(at + 8, le32(length));
    memory_.write(at + 12, le16(flags));
    memory_.write(at + 14, le16(next));
  }

  // Puts a head into the available ring and moves the index on.
  void offer(std::uint16_t head) {
    memory_.store_release<std::uint16_t>(available() + 4 + 2 * (available_index_ % std::uint64_t{size_}),
                                         head);
    set_available_index(static_cast<std::uint16_t>(available_index_ + 1));
  }
  std::uint16_t available_index() const { return available_index_; }
  void set_available_index(std::uint16_t index) {
    available_index_ = index;
    memory_.store_release<std::uint16_t>(available() + 2, index);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }

  // What the driver asks for: VRING_AVAIL_F_NO_INTERRUPT, or with EVENT_IDX the element to be told of.
  void set_available_flags(std::uint16_t value) { memory_.store_release<std::uint16_t>(available(), value); }
  void set_used_event(std::uint16_t value) {
    memory_.store_release<std::uint16_t>(available() + 4 + 2 * std::uint64_t{size_}, value);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  // What the device asks for.
  std::uint16_t used_flags() const { return memory_.load_acquire<std::uint16_t>(used()); }
  std::uint16_t avail_event() const {
    return memory_.load_acquire<std::uint16_t>(used() + 4 + 8 * std::uint64_t{size_});
  }

  std::uint16_t used_index() const { return memory_.load_acquire<std::uint16_t>(used() + 2); }
  // The next element the device gave back, if any; frees its descriptors.
  std::optional<UsedElement> take_used() {
    if (used_index() == taken_) return {};
    const GuestAddress at = used() + 4 + 8 * (taken_ % std::uint64_t{size_});
    ++taken_;
    const UsedElement element{memory_.read<le32>(at), memory_.read<le32>(at + 4)};
    if (element.head < size_)
      for (const std::uint16_t index : std::exchange(chains_[element.head], {})) free_.push_back(index);
    return element;
  }

 private:
  static std::uint64_t used_offset(std::uint16_t size) {
    return (18 * std::uint64_t{size} + 6 + 3) & ~std::uint64_t{3};
  }
  static std::uint16_t flags(const Buffer& buffer, bool last) {
    return static_cast<std::uint16_t>((buffer.writable ? descriptor_write : 0) |
                                      (last ? 0 : descriptor_next));
  }
  std::uint16_t take_free() {
    if (free_.empty()) throw std::logic_error("no free descriptors");
    const std::uint16_t index = free_.front();
    free_.pop_front();
    return index;
  }

  const GuestMemory& memory_;
  std::uint16_t size_;
  GuestAddress base_;
  std::deque<std::uint16_t> free_;
  std::vector<std::vector<std::uint16_t>> chains_;  // by head
  std::uint16_t available_index_ = 0;
  std::uint16_t taken_ = 0;
};

// What a device said to its transport.
class FakeEvents : public DeviceEvents {
 public:
  void config_changed() override {
    ++config_changes;
    changed.signal();
  }
  void needs_reset(std::string_view why) override {
    {
      const std::scoped_lock lock(mutex_);
      reason_ = why;
    }
    ++resets;
    broken.signal();
  }
  std::string reason() const {
    const std::scoped_lock lock(mutex_);
    return reason_;
  }

  std::atomic<unsigned> config_changes = 0;
  std::atomic<unsigned> resets = 0;
  EventFd changed;
  EventFd broken;

 private:
  mutable std::mutex mutex_;
  std::string reason_;
};

// A driver of one device, without a transport: lays out queues in guest memory, activates the device, sends
// requests and waits for their answers. Memory it gives out is taken from the start of guest RAM on.
class FakeDriver {
 public:
  // The device, if it was activated, is deactivated at the end; both outlive the driver.
  FakeDriver(const GuestMemory& memory, VirtioDevice& device)
      : memory_(memory), device_(device), next_free_(memory.regions().front().range.begin) {}
  ~FakeDriver() { device_.deactivate(); }
  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;

  // Guest memory nobody else has.
  GuestAddress allocate(std::uint64_t bytes, std::uint64_t alignment = 4096) {
    const GuestAddress at{(next_free_.value + alignment - 1) & ~(alignment - 1)};
    next_free_ = at + bytes;
    if (!memory_.contains({at, bytes})) throw std::logic_error("the test's guest memory is too small");
    return at;
  }
  // Guest memory that holds the given bytes.
  GuestAddress place(std::span<const std::byte> content, std::uint64_t alignment = 16) {
    const GuestAddress at = allocate(content.size(), alignment);
    memory_.write_bytes(at, content);
    return at;
  }

  // Hands fresh queues to the device. size 0: the largest the device takes. The features the driver accepts
  // are those asked for among those the device and a transport offer.
  void activate(std::uint64_t features = ~0ull, std::uint16_t size = 0) {
    const std::uint64_t offered =
        device_.features() | feature_version_1 | feature_event_idx | feature_indirect_desc;
    features &= offered;
    queues_.clear();
    std::vector<ActiveQueue> active;
    for (const std::uint16_t largest : device_.queue_sizes()) {
      const std::uint16_t chosen = size == 0 || size > largest ? largest : size;
      auto queue = std::make_unique<Queue>(memory_, allocate(FakeQueue::bytes(chosen)), chosen);
      const QueueLayout layout =
          queue->ring.layout((features & feature_event_idx) != 0, (features & feature_indirect_desc) != 0);
      const EventFd& interrupt = queue->interrupt;
      active.push_back({static_cast<std::uint16_t>(queues_.size()),
                        std::make_unique<VirtQueue>(memory_, layout, [&interrupt] { interrupt.signal(); }),
                        queue->kick.fd()});
      queues_.push_back(std::move(queue));
    }
    features_ = features;
    device_.activate(features, std::move(active), events_);
  }

  // A pause and its end.
  void pause() { paused_ = device_.suspend(); }
  void resume() { device_.activate(features_, std::move(paused_), events_); }

  // A reset; activate() may follow.
  void reset() { device_.deactivate(); }

  const GuestMemory& memory() const { return memory_; }
  FakeEvents& events() { return events_; }
  FakeQueue& queue(std::size_t index) { return queues_.at(index)->ring; }
  const EventFd& interrupt(std::size_t index) { return queues_.at(index)->interrupt; }
  void kick(std::size_t index) { queues_.at(index)->kick.signal(); }

  // The next element given back on a queue, waiting for the interrupt; nothing after the timeout.
  std::optional<UsedElement> wait_used(std::size_t index, std::chrono::milliseconds timeout = patience) {
    Queue& queue = *queues_.at(index);
    const auto end = std::chrono::steady_clock::now() + timeout;
    while (true) {
      queue.ring.set_used_event(queue.taken);
      if (const auto element = queue.ring.take_used()) {
        ++queue.taken;
        return element;
      }
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
      if (left.count() <= 0 || !wait_for(queue.interrupt, left)) return {};
    }
  }

  // What came back for a request: bytes the device says it wrote, and the whole writable part.
  struct Reply {
    std::uint32_t written = 0;
    std::vector<std::byte> data;
  };
  // Sends one request, the readable bytes first, then a writable part; waits for its answer.
  std::optional<Reply> request(std::size_t index, std::span<const std::byte> readable,
                               std::uint32_t writable_size) {
    std::vector<Buffer> buffers;
    if (!readable.empty()) buffers.push_back({place(readable), static_cast<std::uint32_t>(readable.size())});
    const GuestAddress answer = allocate(writable_size, 16);
    if (writable_size != 0) buffers.push_back({answer, writable_size, true});
    queue(index).add(buffers);
    kick(index);
    const auto element = wait_used(index);
    if (!element) return {};
    Reply reply{element->written, std::vector<std::byte>(writable_size)};
    memory_.read_bytes(answer, reply.data);
    return reply;
  }

 private:
  struct Queue {
    Queue(const GuestMemory& memory, GuestAddress base, std::uint16_t size) : ring(memory, base, size) {}
    FakeQueue ring;
    EventFd kick;
    EventFd interrupt;
    std::uint16_t taken = 0;
  };

  const GuestMemory& memory_;
  VirtioDevice& device_;
  GuestAddress next_free_;
  FakeEvents events_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::uint64_t features_ = 0;
  std::vector<ActiveQueue> paused_;
};

}  // namespace hum::virtio::testing
