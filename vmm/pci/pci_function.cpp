// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_function.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace hum::pci {
namespace {

constexpr std::uint32_t bar_is_64_bit = 0x4;  // memory, not prefetchable

constexpr std::uint32_t bar_register(unsigned index) {
  return reg_bar0 + 4 * index;
}

}  // namespace

PciFunction::PciFunction(const Identity& identity) {
  set(reg_vendor, identity.vendor);
  set(reg_device, identity.device);
  set<std::uint16_t>(reg_command, 0, command_memory | command_bus_master | command_no_intx);
  set<std::uint32_t>(reg_revision, identity.class_code << 8 | identity.revision);
  set<std::uint8_t>(reg_cache_line, 0, 0xff);
  set(reg_subsystem_vendor, identity.subsystem_vendor);
  set(reg_subsystem, identity.subsystem);
  set<std::uint8_t>(reg_interrupt_line, 0, 0xff);
}

void PciFunction::read_config(std::uint32_t offset, std::span<std::byte> data) {
  for (std::byte& byte : data) {
    byte = offset < config_.size() ? config_[offset] : std::byte{0};
    ++offset;
  }
}

void PciFunction::write_config(std::uint32_t offset, std::span<const std::byte> data) {
  for (const std::byte byte : data) {
    if (offset >= config_.size()) break;
    const std::byte mask = writable_[offset];
    config_[offset] = (config_[offset] & ~mask) | (byte & mask);
    ++offset;
  }
  update_decoding();
}

std::vector<PciFunction::BarSize> PciFunction::bar_sizes() const {
  std::vector<BarSize> sizes;
  for (const Bar& bar : bars_) sizes.push_back({bar.index, bar.size});
  return sizes;
}

void PciFunction::assign_bar(unsigned index, std::uint64_t address) {
  write_config(bar_register(index), bytes_of(address));
}

void PciFunction::attach(AddressDecoder& mmio) {
  mmio_ = &mmio;
  update_decoding();
}

void PciFunction::fields(StateVisitor& visitor) {
  const std::span<const std::byte> then = visitor.bytes("config", config_);
  for (std::size_t at = 0; at < config_.size(); ++at)
    visitor.require(((then[at] ^ config_[at]) & ~writable_[at]) == std::byte{0}, "config",
                    "is that of another function");
  visitor.afterwards([this] { update_decoding(); });
}

std::uint32_t PciFunction::add_capability(std::uint8_t id, std::span<const std::byte> body,
                                          std::span<const std::byte> writable) {
  const std::uint32_t at = next_capability_;
  assert(at + 2 + body.size() <= config_.size() && writable.size() <= body.size());
  set<std::uint8_t>(last_link_, static_cast<std::uint8_t>(at));
  set<std::uint16_t>(reg_status, status_capabilities);
  set<std::uint8_t>(at, id);
  std::copy(body.begin(), body.end(), config_.begin() + at + 2);
  std::copy(writable.begin(), writable.end(), writable_.begin() + at + 2);
  last_link_ = at + 1;
  next_capability_ = static_cast<std::uint32_t>((at + 2 + body.size() + 3) & ~std::size_t{3});
  return at;
}

void PciFunction::add_bar(unsigned index, std::uint64_t size, RegisterWindow& window, std::string name) {
  assert(index % 2 == 0 && index < 6 && std::has_single_bit(size) && size >= 4096);
  // The address bits below the size read as zero: this is how an OS learns the size (6.2.5.1).
  set<std::uint64_t>(bar_register(index), bar_is_64_bit, ~(size - 1));
  bars_.push_back({index, size, &window, std::move(name), {}, {}});
}

void PciFunction::update_decoding() {
  if (mmio_ == nullptr) return;
  const bool decoding = (config<std::uint16_t>(reg_command) & command_memory) != 0;
  for (Bar& bar : bars_) {
    std::optional<std::uint64_t> wanted;
    if (decoding) wanted = config<std::uint64_t>(bar_register(bar.index)) & ~(bar.size - 1);
    if (wanted == bar.decoded) continue;
    bar.mapping.unmap();
    if (wanted) bar.mapping = mmio_->map(bar.name, *wanted, bar.size, *bar.window);
    bar.decoded = wanted;
    bar_moved(bar.index, wanted);
  }
}

}  // namespace hum::pci
