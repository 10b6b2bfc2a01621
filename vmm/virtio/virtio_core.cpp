// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/virtio_core.h"

#include <bit>
#include <utility>

#include "vmm/base/errors.h"

namespace hum::virtio {
namespace {

// What a driver sets itself.
constexpr std::uint8_t driver_bits =
    status_acknowledge | status_driver | status_driver_ok | status_features_ok | status_failed;

constexpr unsigned most_complaints = 10;

std::uint32_t word_of(std::uint64_t bits, std::uint32_t word) {
  return word < 2 ? static_cast<std::uint32_t>(bits >> (32 * word)) : 0;
}

void set_half(std::uint64_t& bits, bool high, std::uint32_t value) {
  bits = high ? (bits & 0xffffffff) | std::uint64_t{value} << 32 : (bits & ~0xffffffffull) | value;
}

}  // namespace

VirtioCore::VirtioCore(const TransportContext& context, std::unique_ptr<VirtioDevice> device,
                       std::string name, Port& port)
    : memory_(context.memory),
      kicks_(context.kicks),
      log_(context.log),
      broke_(context.broke),
      device_(std::move(device)),
      name_(std::move(name)),
      port_(port),
      offered_(device_->features() | feature_version_1 | device_->ring_features()),
      queues_(device_->queue_sizes().size()) {
  for (std::uint16_t index = 0; index < queue_count(); ++index)
    queues_[index].queue.size = largest_size(index);
}

std::uint8_t VirtioCore::status() const {
  return static_cast<std::uint8_t>(status_ |
                                   (needs_reset_.load(std::memory_order_acquire) ? status_needs_reset : 0));
}

void VirtioCore::write_status(std::uint8_t value) {
  if (value == 0) {
    reset();
    return;
  }
  auto added = static_cast<std::uint8_t>(value & driver_bits & ~status_);
  // 2.2.2, 3.1.1: the driver reads back whether its choice of features stands.
  const bool acceptable =
      (accepted_ & ~offered_) == 0 && (accepted_ & feature_version_1) != 0 && !accepted_unknown_;
  if (!acceptable) added &= static_cast<std::uint8_t>(~status_features_ok);
  if (!((status_ | added) & status_features_ok)) added &= static_cast<std::uint8_t>(~status_driver_ok);
  status_ |= added;
  if (added & status_driver_ok) activate();
}

std::uint32_t VirtioCore::offered_features(std::uint32_t word) const {
  return word_of(offered_, word);
}

std::uint32_t VirtioCore::driver_features(std::uint32_t word) const {
  return word_of(accepted_, word);
}

void VirtioCore::write_driver_features(std::uint32_t word, std::uint32_t value) {
  if (status_ & status_features_ok) return;
  if (word < 2)
    set_half(accepted_, word == 1, value);
  else if (value != 0)
    accepted_unknown_ = true;
}

const VirtioCore::Queue* VirtioCore::queue(std::uint32_t index) const {
  return index < queues_.size() ? &queues_[index].queue : nullptr;
}

std::uint16_t VirtioCore::largest_size(std::uint32_t index) const {
  return index < queues_.size() ? device_->queue_sizes()[index] : std::uint16_t{0};
}

VirtioCore::Slot* VirtioCore::writable(std::uint32_t index) {
  return index < queues_.size() && !(status_ & status_driver_ok) ? &queues_[index] : nullptr;
}

void VirtioCore::write_size(std::uint32_t index, std::uint32_t size) {
  Slot* const slot = writable(index);
  if (slot == nullptr || slot->queue.enabled || !std::has_single_bit(size) || size > largest_size(index))
    return;
  slot->queue.size = static_cast<std::uint16_t>(size);
}

void VirtioCore::write_address(std::uint32_t index, Ring ring, bool high_half, std::uint32_t value) {
  Slot* const slot = writable(index);
  if (slot == nullptr || slot->queue.enabled) return;
  Queue& queue = slot->queue;
  set_half(ring == Ring::descriptors ? queue.descriptors
           : ring == Ring::available ? queue.available
                                     : queue.used,
           high_half, value);
}

void VirtioCore::write_enabled(std::uint32_t index, bool enabled) {
  if (Slot* const slot = writable(index)) slot->queue.enabled = enabled;
}

void VirtioCore::notify(std::uint32_t index) const {
  if (index < queues_.size()) queues_[index].kick.signal();
}

void VirtioCore::read_config(std::uint64_t offset, std::span<std::byte> data) const {
  device_->read_config(static_cast<std::uint32_t>(offset), data);
}

void VirtioCore::write_config(std::uint64_t offset, std::span<const std::byte> data) {
  device_->write_config(static_cast<std::uint32_t>(offset), data);
}

QueueLayout VirtioCore::layout_of(const Queue& queue, std::uint64_t features) const {
  return {queue.size,
          {queue.descriptors},
          {queue.available},
          {queue.used},
          (features & feature_event_idx) != 0,
          (features & feature_indirect_desc) != 0};
}

void VirtioCore::activate() {
  try {
    std::vector<ActiveQueue> active;
    for (std::uint16_t index = 0; index < queue_count(); ++index) {
      Slot& slot = queues_[index];
      if (!slot.queue.enabled) continue;
      slot.kick.drain();
      active.push_back({index,
                        std::make_unique<VirtQueue>(
                            memory_, layout_of(slot.queue, accepted_),
                            [this, index] { port_.interrupt_queue(index); }, slot.position, slot.with_device),
                        slot.kick.fd(), port_.interrupt_fd(index)});
      active.back().queue->count_in(slot.counters);
    }
    device_->activate(accepted_, std::move(active), *this);
  } catch (const std::exception& error) {  // GuestError, HostError
    device_->deactivate();                 // some of its queues may be served already
    needs_reset(error.what());
    return;
  }
  active_ = true;
  bind_kicks();
}

void VirtioCore::reset() {
  unbind_kicks();
  device_->deactivate();
  active_ = false;
  paused_ = false;
  status_ = 0;
  accepted_ = 0;
  accepted_unknown_ = false;
  needs_reset_.store(false, std::memory_order_release);
  for (std::uint16_t index = 0; index < queue_count(); ++index) {
    queues_[index].queue = {.size = largest_size(index)};
    queues_[index].position = 0;
    queues_[index].with_device = 0;
  }
}

void VirtioCore::bind_kicks() {
  for (std::uint16_t index = 0; index < queue_count(); ++index) {
    Slot& slot = queues_[index];
    if (!slot.queue.enabled) continue;
    const auto where = port_.kick_address(index);
    if (where && kicks_.bind(*where, slot.kick.fd())) slot.bound = where;
  }
}

void VirtioCore::unbind_kicks() {
  for (Slot& slot : queues_)
    if (const auto where = std::exchange(slot.bound, {})) kicks_.unbind(*where, slot.kick.fd());
}

void VirtioCore::rebind_kicks() {
  unbind_kicks();
  if (active_) bind_kicks();
}

void VirtioCore::reactivate() {
  if (!active_ || !device_->uses_call_fds()) return;
  pause();
  resume();
}

void VirtioCore::flush(int give_up_fd) {
  if (active_) device_->flush(give_up_fd);
}

DeviceReport VirtioCore::report() const {
  DeviceReport report{.name = name_,
                      .broken_rings = complaints_.load(),
                      .queues = {},
                      .counters = device_->report(),
                      .latencies = device_->latencies()};
  for (std::uint16_t index = 0; index < queue_count(); ++index) {
    const QueueCounters& counted = queues_[index].counters;
    const DeviceReport::Queue queue{index,
                                    counted.requests.get(),
                                    counted.bytes_from_guest.get(),
                                    counted.bytes_to_guest.get(),
                                    counted.notifications.get(),
                                    counted.interrupts.get()};
    if (queue != DeviceReport::Queue{.index = index}) report.queues.push_back(queue);
  }
  return report;
}

// A device that needs a reset does not get its queues again.
void VirtioCore::apply(const OptionValues& options) {
  if (needs_reset_.load(std::memory_order_acquire)) pause();
  device_->apply(options);
}

void VirtioCore::pause() {
  if (!std::exchange(active_, false)) return;
  unbind_kicks();
  for (const ActiveQueue& each : device_->suspend()) {
    queues_[each.index].position = each.queue->next_available();
    queues_[each.index].with_device = each.queue->with_device();
  }
  paused_ = !needs_reset_.load(std::memory_order_acquire);
}

void VirtioCore::resume() {
  if (std::exchange(paused_, false)) activate();
}

void VirtioCore::fields(StateVisitor& visitor) {
  visitor.same("type", device_->type());
  const std::uint8_t status = visitor.number("status", status_, driver_bits);
  const std::uint64_t accepted = visitor.number("features", accepted_);
  const bool unknown = visitor.flag("unknown-features", accepted_unknown_);
  visitor.require(!(status & status_features_ok) ||
                      ((accepted & ~offered_) == 0 && (accepted & feature_version_1) != 0 && !unknown),
                  "features", "are not those that this device offers");
  const bool broken = visitor.flag("needs-reset", needs_reset_);
  const bool live = visitor.flag("live", paused_);
  visitor.require(!live || ((status & status_driver_ok) && (status & status_features_ok) && !broken), "live",
                  "does not go with the device's status");
  visitor.number("generation", generation_);
  for (std::uint16_t index = 0; index < queue_count(); ++index)
    visitor.section("queue", index, [&] {
      Slot& slot = queues_[index];
      Queue queue;
      queue.size = visitor.number("size", slot.queue.size, largest_size(index));
      visitor.require(std::has_single_bit(queue.size), "size", "is not a power of two");
      queue.enabled = visitor.flag("enabled", slot.queue.enabled);
      queue.descriptors = visitor.number("descriptors", slot.queue.descriptors);
      queue.available = visitor.number("available", slot.queue.available);
      queue.used = visitor.number("used", slot.queue.used);
      const std::uint16_t position = visitor.number("position", slot.position);
      const std::uint16_t with_device = visitor.number("with-device", slot.with_device, queue.size);
      if (!live || !queue.enabled) return;
      try {
        const VirtQueue check(memory_, layout_of(queue, accepted), {}, position, with_device);
      } catch (const GuestError& error) {
        visitor.refuse("enabled", error.what());
      }
    });
  visitor.section("device", [&] { device_->fields(visitor); });
}

// 2.5.1: the driver sees another generation before it learns of the change.
void VirtioCore::config_changed() {
  generation_.fetch_add(1, std::memory_order_acq_rel);
  port_.interrupt_config();
}

// 2.1.2.
void VirtioCore::needs_reset(std::string_view reason) {
  if (needs_reset_.exchange(true, std::memory_order_acq_rel)) return;
  if (complaints_.fetch_add(1, std::memory_order_relaxed) < most_complaints)
    log_.warning(name_ + ": the device needs a reset by its driver: " + std::string(reason));
  broke_(reason);
  port_.interrupt_config();
}

}  // namespace hum::virtio
