// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/mmio_transport.h"

#include <array>
#include <string_view>
#include <utility>

#include "vmm/base/endian.h"

namespace hum::virtio {
namespace {

// Registers (4.2.2).
enum : std::uint64_t {
  reg_magic = 0x000,
  reg_version = 0x004,
  reg_device = 0x008,
  reg_vendor = 0x00c,
  reg_device_features = 0x010,
  reg_device_features_select = 0x014,
  reg_driver_features = 0x020,
  reg_driver_features_select = 0x024,
  reg_queue_select = 0x030,
  reg_queue_size_max = 0x034,
  reg_queue_size = 0x038,
  reg_queue_ready = 0x044,
  reg_queue_notify = 0x050,
  reg_interrupt_status = 0x060,
  reg_interrupt_acknowledge = 0x064,
  reg_status = 0x070,
  reg_queue_descriptors = 0x080,
  reg_queue_available = 0x090,
  reg_queue_used = 0x0a0,
  reg_shared_memory_length = 0x0b0,
  reg_shared_memory_base_high = 0x0bc,
  reg_generation = 0x0fc,
  reg_config = 0x100,
};
constexpr std::uint64_t high_half = 4;

constexpr std::uint32_t magic = 0x74726976;   // "virt"
constexpr std::uint32_t vendor = 0x004d5548;  // "HUM"
constexpr std::uint32_t interrupt_used = 1;
constexpr std::uint32_t interrupt_changed = 2;

std::string node_name(unsigned number) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  return {'V', 'I', digits[number / 16 % 16], digits[number % 16]};
}

}  // namespace

MmioTransport::MmioTransport(const TransportContext& context, std::unique_ptr<VirtioDevice> device,
                             std::string name, std::uint32_t base, IrqPins& irqs)
    : base_(base),
      pin_(irqs.allocate()),
      interrupt_(irqs.pin(pin_)),
      core_(context, std::move(device), name, *this),
      mapping_(context.mmio.map(name, base, window_bytes, *this)) {}

void MmioTransport::apply(const OptionValues& options) {
  const std::lock_guard lock(mutex_);
  core_.apply(options);
}

void MmioTransport::request(std::string_view verb) {
  const std::lock_guard lock(mutex_);
  core_.request(verb);
}

void MmioTransport::flush(int give_up_fd) {
  const std::lock_guard lock(mutex_);
  core_.flush(give_up_fd);
}

bool MmioTransport::in_use() {
  const std::lock_guard lock(mutex_);
  return core_.in_use();
}

void MmioTransport::stop() {
  const std::lock_guard lock(mutex_);
  core_.stop();
}

// The pin is held and released with all the others of its controller.
void MmioTransport::pause() {
  const std::lock_guard lock(mutex_);
  core_.pause();
}

void MmioTransport::resume() {
  const std::lock_guard lock(mutex_);
  core_.resume();
}

void MmioTransport::fields(StateVisitor& visitor) {
  visitor.number("interrupt-status", interrupt_status_, interrupt_used | interrupt_changed);
  visitor.number("offered-word", offered_word_);
  visitor.number("driver-word", driver_word_);
  visitor.number("selected-queue", selected_queue_);
  core_.fields(visitor);
}

acpi::Aml MmioTransport::acpi_node(unsigned number) const {
  using namespace acpi;
  const auto bytes = static_cast<std::uint32_t>(window_bytes);
  return device(node_name(number), {name("_HID", string("LNRO0005")), name("_UID", integer(number)),
                                    name("_CRS", resources({memory32(base_, bytes), interrupt_edge(pin_)}))});
}

// Registers are words; only the configuration space behind them takes any width.
void MmioTransport::read(std::uint64_t offset, std::span<std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (offset >= reg_config)
    core_.read_config(offset - reg_config, data);
  else if (data.size() == 4 && offset % 4 == 0)
    store_le(data, read_register(offset));
}

void MmioTransport::write(std::uint64_t offset, std::span<const std::byte> data) {
  if (offset == reg_queue_notify && data.size() == 4) {
    core_.notify(static_cast<std::uint32_t>(load_le(data)));
    return;
  }
  const std::lock_guard lock(mutex_);
  if (offset >= reg_config)
    core_.write_config(offset - reg_config, data);
  else if (data.size() == 4 && offset % 4 == 0)
    write_register(offset, static_cast<std::uint32_t>(load_le(data)));
}

std::uint32_t MmioTransport::read_register(std::uint64_t offset) const {
  switch (offset) {
    case reg_magic:
      return magic;
    case reg_version:
      return 2;
    case reg_device:
      return core_.device().type();
    case reg_vendor:
      return vendor;
    case reg_device_features:
      return core_.offered_features(offered_word_);
    case reg_queue_size_max:
      return core_.largest_size(selected_queue_);
    case reg_queue_ready: {
      const VirtioCore::Queue* const queue = core_.queue(selected_queue_);
      return queue != nullptr && queue->enabled ? 1 : 0;
    }
    case reg_interrupt_status:
      return interrupt_status_.load(std::memory_order_acquire);
    case reg_status:
      return core_.status();
    case reg_generation:
      return core_.generation();
    default:
      // There is no shared memory region: its length and base read as all ones (4.2.2).
      return offset >= reg_shared_memory_length && offset <= reg_shared_memory_base_high ? ~0u : 0u;
  }
}

void MmioTransport::write_register(std::uint64_t offset, std::uint32_t value) {
  using Ring = VirtioCore::Ring;
  switch (offset) {
    case reg_device_features_select:
      offered_word_ = value;
      break;
    case reg_driver_features:
      core_.write_driver_features(driver_word_, value);
      break;
    case reg_driver_features_select:
      driver_word_ = value;
      break;
    case reg_queue_select:
      selected_queue_ = value;
      break;
    case reg_queue_size:
      core_.write_size(selected_queue_, value);
      break;
    case reg_queue_ready:
      core_.write_enabled(selected_queue_, value == 1);
      break;
    case reg_interrupt_acknowledge:
      interrupt_status_.fetch_and(~value, std::memory_order_acq_rel);
      break;
    case reg_status:
      core_.write_status(static_cast<std::uint8_t>(value));
      if (value == 0) interrupt_status_.store(0, std::memory_order_release);
      break;
    case reg_queue_descriptors:
    case reg_queue_descriptors + high_half:
      core_.write_address(selected_queue_, Ring::descriptors, offset & high_half, value);
      break;
    case reg_queue_available:
    case reg_queue_available + high_half:
      core_.write_address(selected_queue_, Ring::available, offset & high_half, value);
      break;
    case reg_queue_used:
    case reg_queue_used + high_half:
      core_.write_address(selected_queue_, Ring::used, offset & high_half, value);
      break;
    default:
      break;
  }
}

// The driver reads the reason when the interrupt arrives: first the reason, then the edge.
void MmioTransport::interrupt_queue(std::uint16_t /*queue*/) {
  interrupt_status_.fetch_or(interrupt_used, std::memory_order_acq_rel);
  interrupt_.trigger();
}

void MmioTransport::interrupt_config() {
  interrupt_status_.fetch_or(interrupt_changed, std::memory_order_acq_rel);
  interrupt_.trigger();
}

std::optional<KickAddress> MmioTransport::kick_address(std::uint16_t queue) const {
  return KickAddress{base_ + reg_queue_notify, 4, queue};
}

}  // namespace hum::virtio
