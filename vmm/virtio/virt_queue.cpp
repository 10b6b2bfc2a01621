// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/virt_queue.h"

#include <atomic>
#include <bit>
#include <utility>

#include "vmm/base/errors.h"

namespace hum::virtio {
namespace {

// Flags of a descriptor (virtio 1.2, 2.7.5), of the available ring (2.7.6) and of the used ring (2.7.8).
constexpr std::uint16_t descriptor_next = 1;
constexpr std::uint16_t descriptor_write = 2;
constexpr std::uint16_t descriptor_indirect = 4;
constexpr std::uint16_t available_no_interrupt = 1;
constexpr std::uint16_t used_no_notify = 1;

constexpr std::uint64_t descriptor_size = 16;
constexpr std::uint64_t most_chain_bytes = 1ull << 32;  // 2.7.4.2

// The words of a ring change under our hands: every access is one atomic access.
template <class T>
T load(const std::byte* at, std::memory_order order = std::memory_order_relaxed) {
  return std::atomic_ref<T>(*reinterpret_cast<T*>(const_cast<std::byte*>(at))).load(order);
}

template <class T>
void store(std::byte* at, T value, std::memory_order order = std::memory_order_relaxed) {
  std::atomic_ref<T>(*reinterpret_cast<T*>(at)).store(value, order);
}

void full_fence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

// Where the host has a ring. Regions are page-aligned, so the alignment holds on the host as well.
std::byte* locate(const GuestMemory& memory, GuestRange range, std::uint64_t alignment) {
  if (range.begin.value % alignment != 0) throw GuestError("a ring of the queue is misaligned");
  std::vector<iovec> parts;
  memory.for_write(range, parts);
  auto* const host = static_cast<std::byte*>(parts.front().iov_base);
  std::size_t size = 0;
  for (const iovec& part : parts) {
    if (part.iov_base != host + size) throw GuestError("a ring of the queue spans two pieces of memory");
    size += part.iov_len;
  }
  return host;
}

}  // namespace

struct VirtQueue::Descriptor {
  le64 address;
  le32 length;
  le16 flags;
  le16 next;
};

VirtQueue::VirtQueue(const GuestMemory& memory, const QueueLayout& layout, std::function<void()> interrupt,
                     std::uint16_t position, std::uint16_t with_device)
    : memory_(memory),
      layout_(layout),
      interrupt_(std::move(interrupt)),
      next_available_(position),
      known_available_(position),
      next_used_(static_cast<std::uint16_t>(position - with_device)),
      published_used_(next_used_) {
  const std::uint64_t size = layout.size;
  if (!std::has_single_bit(size) || size > 32768) throw GuestError("the queue's size is not a power of two");
  if (with_device > size) throw GuestError("more requests are with the device than the queue has");
  descriptors_ = locate(memory, {layout.descriptors, descriptor_size * size}, 16);
  available_ = locate(memory, {layout.available, 6 + 2 * size}, 2);
  used_ = locate(memory, {layout.used, 6 + 8 * size}, 4);
}

bool VirtQueue::has_available() {
  if (next_available_ != known_available_) return true;
  const auto index = load<std::uint16_t>(available_ + 2, std::memory_order_acquire);
  const auto ahead = static_cast<std::uint16_t>(index - next_available_);
  if (ahead > layout_.size - with_device())
    throw GuestError("the available index is more than the queue's size ahead");
  known_available_ = index;
  return ahead != 0;
}

bool VirtQueue::pop(DescriptorChain& chain) {
  if (!has_available()) return false;
  const std::size_t slot = next_available_ & (layout_.size - 1u);
  pop_again(load<std::uint16_t>(available_ + 4 + 2 * slot), chain);
  ++next_available_;
  last_popped_bytes_ = chain.readable_bytes;
  counters_->bytes_from_guest.add(last_popped_bytes_);
  return true;
}

void VirtQueue::pop_again(std::uint16_t head, DescriptorChain& chain) const {
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  chain.readable_bytes = 0;
  chain.writable_bytes = 0;
  walk(chain);
}

void VirtQueue::walk(DescriptorChain& chain) const {
  std::uint16_t index = chain.head;
  for (std::uint32_t count = 0; count < layout_.size; ++count) {
    if (index >= layout_.size) throw GuestError("a descriptor index is beyond the queue");
    const std::byte* const at = descriptors_ + descriptor_size * index;
    const auto tail = load<std::uint64_t>(at + 8);
    const Descriptor descriptor{load<std::uint64_t>(at), static_cast<std::uint32_t>(tail),
                                static_cast<std::uint16_t>(tail >> 32),
                                static_cast<std::uint16_t>(tail >> 48)};
    if (descriptor.flags & descriptor_indirect) {
      if (!layout_.indirect) throw GuestError("an indirect descriptor was not negotiated");
      if (descriptor.flags & descriptor_next) throw GuestError("an indirect descriptor has a successor");
      walk_indirect(chain, {{descriptor.address}, descriptor.length}, layout_.size - count);
      return;
    }
    append(chain, descriptor);
    if (!(descriptor.flags & descriptor_next)) return;
    index = descriptor.next;
  }
  throw GuestError("a descriptor chain is longer than the queue");
}

// 2.7.5.3. The table need not be aligned and may cross regions.
void VirtQueue::walk_indirect(DescriptorChain& chain, GuestRange table, std::uint32_t most) const {
  if (table.size == 0 || table.size % descriptor_size != 0)
    throw GuestError("the size of an indirect table is not a multiple of 16");
  const std::uint64_t entries = table.size / descriptor_size;
  if (entries > most) throw GuestError("an indirect table is longer than the queue");
  if (!memory_.contains(table)) throw GuestError("an indirect table is outside of guest memory");
  std::uint64_t index = 0;
  for (std::uint64_t count = 0; count < entries; ++count) {
    if (index >= entries) throw GuestError("a descriptor index is beyond its indirect table");
    const auto descriptor = memory_.read<Descriptor>(table.begin + descriptor_size * index);
    if (descriptor.flags & descriptor_indirect) throw GuestError("an indirect table inside another");
    append(chain, descriptor);
    if (!(descriptor.flags & descriptor_next)) return;
    index = descriptor.next;
  }
  throw GuestError("an indirect descriptor chain is longer than its table");
}

void VirtQueue::append(DescriptorChain& chain, const Descriptor& descriptor) const {
  const GuestRange range{{descriptor.address}, descriptor.length};
  if (descriptor.flags & descriptor_write) {
    memory_.for_write(range, chain.writable);
    chain.writable_bytes += range.size;
  } else {
    if (!chain.writable.empty()) throw GuestError("a readable descriptor follows a writable one");
    memory_.for_read(range, chain.readable);
    chain.readable_bytes += range.size;
  }
  if (chain.readable_bytes + chain.writable_bytes > most_chain_bytes)
    throw GuestError("a descriptor chain has more than 4 GiB");
}

void VirtQueue::undo_pop() {
  --next_available_;
  counters_->bytes_from_guest.take_back(last_popped_bytes_);
}

void VirtQueue::undo_pop(const DescriptorChain& chain) {
  --next_available_;
  counters_->bytes_from_guest.take_back(chain.readable_bytes);
}

void VirtQueue::push(std::uint16_t head, std::uint32_t written) {
  std::byte* const element = used_ + 4 + 8 * (next_used_ & (layout_.size - 1u));
  store<std::uint32_t>(element, head);
  store<std::uint32_t>(element + 4, written);
  ++next_used_;
  counters_->requests.add();
  counters_->bytes_to_guest.add(written);
}

void VirtQueue::publish() {
  if (next_used_ == published_used_) return;
  store<std::uint16_t>(used_ + 2, next_used_, std::memory_order_release);
  // The driver writes its wish and then reads the index; we the other way round: neither may be reordered.
  full_fence();
  const bool wanted = wants_interrupt();
  published_used_ = next_used_;
  if (!wanted) return;
  counters_->interrupts.add();
  interrupt_();
}

// 2.7.7, 2.7.8: with EVENT_IDX, if the element used_event is among those now published.
bool VirtQueue::wants_interrupt() const {
  if (!layout_.event_idx) return !(load<std::uint16_t>(available_) & available_no_interrupt);
  const auto used_event = load<std::uint16_t>(available_ + 4 + 2 * std::size_t{layout_.size});
  return static_cast<std::uint16_t>(next_used_ - used_event - 1) <
         static_cast<std::uint16_t>(next_used_ - published_used_);
}

void VirtQueue::disable_kicks() {
  if (!kicks_enabled_) return;
  // With EVENT_IDX the driver stays silent once its index has passed avail_event (2.7.10).
  if (layout_.event_idx)
    store<std::uint16_t>(used_ + 4 + 8 * std::size_t{layout_.size},
                         static_cast<std::uint16_t>(next_available_ - 1));
  else
    store<std::uint16_t>(used_, used_no_notify);
  kicks_enabled_ = false;
}

std::uint16_t VirtQueue::offered_index() const {
  return load<std::uint16_t>(available_ + 2, std::memory_order_acquire);
}

std::uint16_t VirtQueue::used_index() const {
  return load<std::uint16_t>(used_ + 2, std::memory_order_acquire);
}

void VirtQueue::relay_interrupt() {
  const std::uint16_t used = used_index();
  if (used == published_used_) return;
  counters_->requests.add(static_cast<std::uint16_t>(used - published_used_));
  published_used_ = used;
  counters_->interrupts.add();
  interrupt_();
}

void VirtQueue::take_over() {
  const std::uint16_t used = used_index();
  counters_->requests.add(static_cast<std::uint16_t>(used - published_used_));
  next_available_ = known_available_ = next_used_ = published_used_ = used;
}

bool VirtQueue::enable_kicks() {
  if (layout_.event_idx)
    store<std::uint16_t>(used_ + 4 + 8 * std::size_t{layout_.size}, next_available_);
  else
    store<std::uint16_t>(used_, 0);
  kicks_enabled_ = true;
  full_fence();
  return has_available();
}

}  // namespace hum::virtio
