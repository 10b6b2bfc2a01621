// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/pci_transport.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/base/endian.h"

namespace hum::virtio {
namespace {

constexpr std::uint16_t virtio_vendor = 0x1af4;
constexpr std::uint16_t first_device = 0x1040;  // and the device type on top (4.1.2.1)

// The BAR: a page for each structure, so that an OS may give each its own mapping.
constexpr std::uint32_t page = 0x1000;
constexpr std::uint32_t common_at = 0 * page;
constexpr std::uint32_t isr_at = 1 * page;
constexpr std::uint32_t device_at = 2 * page;
constexpr std::uint32_t notify_at = 3 * page;
constexpr std::uint32_t table_at = 4 * page;
constexpr std::uint32_t pending_at = 5 * page;
constexpr std::uint32_t bar_bytes = 8 * page;
constexpr std::uint32_t notify_multiplier = 4;
constexpr std::uint32_t most_vectors = page / 16;

constexpr std::uint16_t no_vector = 0xffff;
constexpr std::uint8_t isr_used = 1;
constexpr std::uint8_t isr_changed = 2;

// A vendor capability behind its first two bytes (4.1.4).
constexpr std::uint8_t capability_vendor = 0x09;
enum class Structure : std::uint8_t { common = 1, notify = 2, isr = 3, device = 4, pci_access = 5 };
struct Capability {
  std::uint8_t length = 16;
  std::uint8_t type = 0;
  std::uint8_t bar = 0;
  std::uint8_t padding[3] = {};
  le16 offset[2] = {};
  le16 bytes[2] = {};
  le16 more[2] = {};  // notify: the multiplier; pci_access: the data
};
static_assert(sizeof(Capability) == 18);
constexpr std::size_t short_capability = 14;  // without `more`

Capability describe(Structure type, std::uint32_t offset, std::uint32_t bytes) {
  Capability capability;
  capability.type = static_cast<std::uint8_t>(type);
  capability.offset[0] = static_cast<std::uint16_t>(offset);
  capability.bytes[0] = static_cast<std::uint16_t>(bytes);
  return capability;
}

// Offsets within the pci_access capability.
constexpr std::uint32_t peek_bar = 4;
constexpr std::uint32_t peek_offset = 8;
constexpr std::uint32_t peek_length = 12;
constexpr std::uint32_t peek_data = 16;

// What an OS without a driver for it shows (PCI Code and ID Assignment, 1).
std::uint32_t class_of(std::uint32_t type) {
  switch (type) {
    case 1:
      return 0x020000;  // network: Ethernet
    case 2:
      return 0x018000;  // block: mass storage
    case 3:
      return 0x078000;  // console: communication
    case 8:
      return 0x010000;  // SCSI
    case 16:
      return 0x038000;  // graphics
    case 18:
      return 0x098000;  // input
    case 19:
      return 0x028000;  // socket: network
    case 20:
      return 0x108000;  // cryptography
    case 25:
      return 0x040100;  // sound
    case 26:
      return 0x018000;  // file system
    default:
      return 0xff0000;
  }
}

pci::Identity identity(const VirtioDevice& device) {
  const auto id = static_cast<std::uint16_t>(first_device + device.type());
  return {.vendor = virtio_vendor,
          .device = id,
          .revision = 1,
          .class_code = class_of(device.type()),
          .subsystem_vendor = virtio_vendor,
          .subsystem = id};
}

std::uint16_t vectors_for(const VirtioDevice& device) {
  return static_cast<std::uint16_t>(std::min<std::size_t>(device.queue_sizes().size() + 1, most_vectors));
}

}  // namespace

// 4.1.4.3.
struct PciTransport::CommonConfig {
  le32 device_feature_select;
  le32 device_feature;
  le32 driver_feature_select;
  le32 driver_feature;
  le16 config_msix_vector;
  le16 num_queues;
  std::uint8_t device_status;
  std::uint8_t config_generation;
  le16 queue_select;
  le16 queue_size;
  le16 queue_msix_vector;
  le16 queue_enable;
  le16 queue_notify_off;
  le64 queue_desc;
  le64 queue_driver;
  le64 queue_device;
  le16 queue_notify_data;
  le16 queue_reset;
  std::uint32_t padding;
};

PciTransport::PciTransport(const TransportContext& context, std::unique_ptr<VirtioDevice> device,
                           const std::string& name, MsiController& msi)
    : PciFunction(identity(*device)),
      msix_(vectors_for(*device), msi),
      queue_vectors_(device->queue_sizes().size()),
      config_vector_(no_vector),
      core_(context, std::move(device), name, *this) {
  for (auto& vector : queue_vectors_) vector.store(no_vector, std::memory_order_relaxed);
  add_bar(0, bar_bytes, *this, name);

  const pci::Msix::Capability msix = msix_.capability(0, table_at, pending_at);
  msix_at_ = add_capability(pci::capability_msix, msix.body, msix.writable);
  const auto add = [this](const Capability& capability) {
    add_capability(capability_vendor, bytes_of(capability).first(short_capability));
  };
  add(describe(Structure::common, common_at, sizeof(CommonConfig)));
  add(describe(Structure::isr, isr_at, 1));
  add(describe(Structure::device, device_at, page));
  Capability notify = describe(Structure::notify, notify_at, page);
  notify.length = sizeof notify + 2;
  notify.more[0] = notify_multiplier;
  add_capability(capability_vendor, bytes_of(notify));
  Capability access = describe(Structure::pci_access, 0, 0);
  access.length = sizeof access + 2;
  Capability writable{};
  writable.length = 0;
  writable.bar = 0xff;
  for (auto* const field : {writable.offset, writable.bytes, writable.more})
    field[0] = field[1] = std::uint16_t{0xffff};
  peek_at_ = add_capability(capability_vendor, bytes_of(access), bytes_of(writable));
}

void PciTransport::apply(const OptionValues& options) {
  const std::lock_guard lock(mutex_);
  core_.apply(options);
}

void PciTransport::request(std::string_view verb) {
  const std::lock_guard lock(mutex_);
  core_.request(verb);
}

void PciTransport::flush(int give_up_fd) {
  const std::lock_guard lock(mutex_);
  core_.flush(give_up_fd);
}

bool PciTransport::in_use() {
  const std::lock_guard lock(mutex_);
  return core_.in_use();
}

void PciTransport::stop() {
  const std::lock_guard lock(mutex_);
  core_.stop();
}

// Interrupts are held last and released first, so that the device's last one counts, and its first one too.
void PciTransport::pause() {
  const std::lock_guard lock(mutex_);
  core_.pause();
  msix_.hold(true);
}

void PciTransport::resume() {
  const std::lock_guard lock(mutex_);
  msix_.hold(false);
  core_.resume();
}

void PciTransport::fields(StateVisitor& visitor) {
  PciFunction::fields(visitor);
  visitor.section("msix", [&] { msix_.fields(visitor); });
  visitor.afterwards([this] { msix_.set_control(config<std::uint16_t>(msix_at_ + 2)); });
  visitor.number("interrupt-status", interrupt_status_, isr_used | isr_changed);
  const auto vector = [&](std::string_view name, std::atomic<std::uint16_t>& value) {
    const std::uint16_t then = visitor.number(name, value);
    visitor.require(checked_vector(then) == then, name, "is no vector of this device");
  };
  vector("config-vector", config_vector_);
  for (std::size_t queue = 0; queue < queue_vectors_.size(); ++queue)
    vector("vector" + std::to_string(queue), queue_vectors_[queue]);
  visitor.number("offered-word", offered_word_);
  visitor.number("driver-word", driver_word_);
  visitor.number("selected-queue", selected_queue_);
  core_.fields(visitor);
}

void PciTransport::read_config(std::uint32_t offset, std::span<std::byte> data) {
  PciFunction::read_config(offset, data);
  if (const auto at = peek(offset, data.size())) read(at->offset, data.first(at->bytes));
}

void PciTransport::write_config(std::uint32_t offset, std::span<const std::byte> data) {
  PciFunction::write_config(offset, data);
  const bool msix_before = msix_.enabled();
  msix_.set_control(config<std::uint16_t>(msix_at_ + 2));
  if (msix_.enabled() != msix_before) {
    const std::lock_guard lock(mutex_);
    core_.reactivate();
  }
  if (const auto at = peek(offset, data.size())) write(at->offset, data.first(at->bytes));
}

// The BAR's access that goes with an access to the capability's data, if the driver has described one.
std::optional<PciTransport::Peek> PciTransport::peek(std::uint32_t offset, std::size_t size) const {
  if (offset != peek_at_ + peek_data) return {};
  const auto at = config<std::uint32_t>(peek_at_ + peek_offset);
  const auto bytes = config<std::uint32_t>(peek_at_ + peek_length);
  if (config<std::uint8_t>(peek_at_ + peek_bar) != 0 || (bytes != 1 && bytes != 2 && bytes != 4) ||
      bytes > size || at % bytes != 0 || at >= bar_bytes)
    return {};
  return Peek{at, bytes};
}

void PciTransport::bar_moved(unsigned /*index*/, std::optional<std::uint64_t> address) {
  const std::lock_guard lock(mutex_);
  bar_ = address;
  core_.rebind_kicks();
}

void PciTransport::read(std::uint64_t offset, std::span<std::byte> data) {
  const std::uint64_t at = offset % page;
  switch (static_cast<std::uint32_t>(offset - at)) {
    case common_at: {
      const std::lock_guard lock(mutex_);
      const CommonConfig common = common_config();
      if (at + data.size() <= sizeof common)
        std::memcpy(data.data(), bytes_of(common).data() + at, data.size());
      break;
    }
    case isr_at:
      // Reading takes the reasons away (4.1.4.5).
      if (at == 0) store_le(data, interrupt_status_.exchange(0, std::memory_order_acq_rel));
      break;
    case device_at: {
      const std::lock_guard lock(mutex_);
      core_.read_config(at, data);
      break;
    }
    case notify_at:
      store_le(data, 0);
      break;
    case table_at:
      msix_.read_table(at, data);
      break;
    case pending_at:
      msix_.read_pending(at, data);
      break;
    default:
      break;
  }
}

void PciTransport::write(std::uint64_t offset, std::span<const std::byte> data) {
  const std::uint64_t at = offset % page;
  switch (static_cast<std::uint32_t>(offset - at)) {
    case common_at: {
      const std::lock_guard lock(mutex_);
      write_common(at, data);
      break;
    }
    case device_at: {
      const std::lock_guard lock(mutex_);
      core_.write_config(at, data);
      break;
    }
    case notify_at:
      // The place says which queue.
      if (at % notify_multiplier == 0) core_.notify(static_cast<std::uint32_t>(at / notify_multiplier));
      break;
    case table_at:
      msix_.write_table(at, data);
      break;
    default:
      break;
  }
}

PciTransport::CommonConfig PciTransport::common_config() const {
  static_assert(sizeof(CommonConfig) == 0x40);
  static_assert(offsetof(CommonConfig, queue_select) == 0x16 && offsetof(CommonConfig, queue_desc) == 0x20 &&
                offsetof(CommonConfig, queue_reset) == 0x3a);
  CommonConfig common{};
  common.device_feature_select = offered_word_;
  common.device_feature = core_.offered_features(offered_word_);
  common.driver_feature_select = driver_word_;
  common.driver_feature = core_.driver_features(driver_word_);
  common.config_msix_vector = config_vector_.load(std::memory_order_relaxed);
  common.num_queues = core_.queue_count();
  common.device_status = core_.status();
  common.config_generation = static_cast<std::uint8_t>(core_.generation());
  common.queue_select = selected_queue_;
  common.queue_msix_vector = no_vector;
  if (const VirtioCore::Queue* const queue = core_.queue(selected_queue_)) {
    common.queue_size = queue->size;
    common.queue_msix_vector = queue_vectors_[selected_queue_].load(std::memory_order_relaxed);
    common.queue_enable = queue->enabled ? std::uint16_t{1} : std::uint16_t{0};
    common.queue_notify_off = selected_queue_;
    common.queue_desc = queue->descriptors;
    common.queue_driver = queue->available;
    common.queue_device = queue->used;
  }
  return common;
}

// Each field at its own width (4.1.3.1); the addresses also as two words.
void PciTransport::write_common(std::uint64_t offset, std::span<const std::byte> data) {
  using Ring = VirtioCore::Ring;
  const std::uint64_t value = load_le(data);
  const auto address = [&](Ring ring, std::uint64_t field) {
    const bool high = offset != field;
    if (data.size() == 4 || (data.size() == 8 && !high))
      core_.write_address(selected_queue_, ring, high, static_cast<std::uint32_t>(value));
    if (data.size() == 8 && !high)
      core_.write_address(selected_queue_, ring, true, static_cast<std::uint32_t>(value >> 32));
  };
  switch (offset) {
    case offsetof(CommonConfig, queue_desc):
    case offsetof(CommonConfig, queue_desc) + 4:
      return address(Ring::descriptors, offsetof(CommonConfig, queue_desc));
    case offsetof(CommonConfig, queue_driver):
    case offsetof(CommonConfig, queue_driver) + 4:
      return address(Ring::available, offsetof(CommonConfig, queue_driver));
    case offsetof(CommonConfig, queue_device):
    case offsetof(CommonConfig, queue_device) + 4:
      return address(Ring::used, offsetof(CommonConfig, queue_device));
    default:
      break;
  }
  if (data.size() == 4) {
    const auto word = static_cast<std::uint32_t>(value);
    if (offset == offsetof(CommonConfig, device_feature_select)) offered_word_ = word;
    if (offset == offsetof(CommonConfig, driver_feature_select)) driver_word_ = word;
    if (offset == offsetof(CommonConfig, driver_feature)) core_.write_driver_features(driver_word_, word);
  } else if (data.size() == 2) {
    const auto half = static_cast<std::uint16_t>(value);
    if (offset == offsetof(CommonConfig, config_msix_vector))
      config_vector_.store(checked_vector(half), std::memory_order_relaxed);
    if (offset == offsetof(CommonConfig, queue_select)) selected_queue_ = half;
    if (offset == offsetof(CommonConfig, queue_size)) core_.write_size(selected_queue_, half);
    if (offset == offsetof(CommonConfig, queue_msix_vector) && selected_queue_ < queue_vectors_.size() &&
        queue_vectors_[selected_queue_].exchange(checked_vector(half)) != checked_vector(half))
      core_.reactivate();
    // Only 1 may be written (4.1.4.3.2): a reset is what disables a queue.
    if (offset == offsetof(CommonConfig, queue_enable) && half == 1)
      core_.write_enabled(selected_queue_, true);
  } else if (data.size() == 1 && offset == offsetof(CommonConfig, device_status)) {
    core_.write_status(static_cast<std::uint8_t>(value));
    if (value != 0) return;
    interrupt_status_.store(0, std::memory_order_release);
    config_vector_.store(no_vector, std::memory_order_relaxed);
    for (auto& vector : queue_vectors_) vector.store(no_vector, std::memory_order_relaxed);
  }
}

// A vector that does not exist reads back as none (4.1.5.1.2.2).
std::uint16_t PciTransport::checked_vector(std::uint16_t vector) const {
  return vector < msix_.vectors() ? vector : no_vector;
}

void PciTransport::interrupt_queue(std::uint16_t queue) {
  // The status says why a shared interrupt came; with MSI-X the vector says it (4.1.4.5.1).
  if (msix_.enabled())
    msix_.trigger(queue_vectors_[queue].load(std::memory_order_relaxed));
  else
    interrupt_status_.fetch_or(isr_used, std::memory_order_acq_rel);
}

int PciTransport::interrupt_fd(std::uint16_t queue) const {
  return msix_.fd(queue_vectors_[queue].load(std::memory_order_relaxed));
}

void PciTransport::interrupt_config() {
  interrupt_status_.fetch_or(isr_changed, std::memory_order_acq_rel);
  msix_.trigger(config_vector_.load(std::memory_order_relaxed));
}

std::optional<KickAddress> PciTransport::kick_address(std::uint16_t queue) const {
  if (!bar_) return {};
  return KickAddress{*bar_ + notify_at + notify_multiplier * queue};
}

}  // namespace hum::virtio
