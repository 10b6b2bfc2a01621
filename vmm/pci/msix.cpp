// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/msix.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "vmm/base/endian.h"

namespace hum::pci {
namespace {

constexpr std::uint16_t control_enable = 1 << 15;
constexpr std::uint16_t control_mask_all = 1 << 14;

// An entry of the table.
constexpr std::size_t entry_bytes = 16;
constexpr std::size_t entry_address = 0;
constexpr std::size_t entry_data = 8;
constexpr std::size_t entry_control = 12;
constexpr std::byte vector_masked{1};

// The writable bits of a byte of an entry: all but the address's lowest two and the control word's reserved.
std::byte writable_bits(std::size_t byte) {
  if (byte == entry_address) return std::byte{0xfc};
  if (byte == entry_control) return vector_masked;
  return byte < entry_control ? std::byte{0xff} : std::byte{0};
}

}  // namespace

Msix::Msix(std::uint16_t vectors, MsiController& msi) : table_(entry_bytes * vectors) {
  assert(vectors >= 1 && vectors <= 2048);
  for (std::size_t vector = 0; vector < vectors; ++vector) {
    table_[vector * entry_bytes + entry_control] = vector_masked;
    interrupts_.push_back(msi.create_interrupt());
  }
}

Msix::Capability Msix::capability(unsigned bar, std::uint32_t table_offset,
                                  std::uint32_t pending_offset) const {
  assert(table_offset % 8 == 0 && pending_offset % 8 == 0);
  const struct {
    le16 control;
    le16 table[2];
    le16 pending[2];
  } body{
      static_cast<std::uint16_t>(vectors() - 1),
      {static_cast<std::uint16_t>(table_offset | bar), static_cast<std::uint16_t>(table_offset >> 16)},
      {static_cast<std::uint16_t>(pending_offset | bar), static_cast<std::uint16_t>(pending_offset >> 16)}};
  static_assert(sizeof body == 10);
  Capability capability{};
  std::memcpy(capability.body.data(), &body, sizeof body);
  store_le(std::span(capability.writable).first(2), control_enable | control_mask_all);
  return capability;
}

void Msix::set_control(std::uint16_t control) {
  const bool enable = (control & control_enable) != 0;
  const bool mask_all = (control & control_mask_all) != 0;
  const std::lock_guard lock(mutex_);
  if (enable == enabled() && mask_all == all_masked_) return;
  enabled_.store(enable, std::memory_order_relaxed);
  all_masked_ = mask_all;
  for (std::size_t vector = 0; vector < interrupts_.size(); ++vector) apply(vector);
}

void Msix::hold(bool held) {
  const std::lock_guard lock(mutex_);
  held_ = held;
  for (std::size_t vector = 0; vector < interrupts_.size(); ++vector) apply(vector);
}

void Msix::fields(StateVisitor& visitor) {
  const std::span<const std::byte> table = visitor.bytes("table", table_);
  for (std::size_t at = 0; at < table.size(); ++at)
    visitor.require((table[at] & ~writable_bits(at % entry_bytes)) == std::byte{0}, "table",
                    "has bits that do not exist");
  for (std::size_t vector = 0; vector < interrupts_.size(); ++vector)
    visitor.section("vector", vector, [&] { interrupts_[vector]->visit_pending(visitor); });
}

void Msix::read_table(std::uint64_t offset, std::span<std::byte> data) const {
  const std::lock_guard lock(mutex_);
  if (offset > table_.size() || data.size() > table_.size() - offset) return;
  std::memcpy(data.data(), table_.data() + offset, data.size());
}

void Msix::write_table(std::uint64_t offset, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (data.empty() || offset > table_.size() || data.size() > table_.size() - offset) return;
  for (std::size_t each = 0; each < data.size(); ++each) {
    const std::byte mask = writable_bits((offset + each) % entry_bytes);
    std::byte& byte = table_[offset + each];
    byte = (byte & ~mask) | (data[each] & mask);
  }
  for (std::size_t vector = offset / entry_bytes; vector <= (offset + data.size() - 1) / entry_bytes;
       ++vector)
    apply(vector);
}

void Msix::read_pending(std::uint64_t offset, std::span<std::byte> data) const {
  const std::lock_guard lock(mutex_);
  if (offset > pending_bytes() || data.size() > pending_bytes() - offset) return;
  std::fill(data.begin(), data.end(), std::byte{0});
  for (std::size_t bit = 0; bit < 8 * data.size(); ++bit) {
    const std::size_t vector = 8 * offset + bit;
    if (vector < interrupts_.size() && masked(vector) && interrupts_[vector]->pending())
      data[bit / 8] |= std::byte{1} << bit % 8;
  }
}

bool Msix::masked(std::size_t vector) const {
  return !enabled() || all_masked_ || table_[vector * entry_bytes + entry_control] == vector_masked;
}

void Msix::apply(std::size_t vector) {
  const std::byte* const entry = table_.data() + vector * entry_bytes;
  interrupts_[vector]->configure(
      {load_le({entry + entry_address, 8}), static_cast<std::uint32_t>(load_le({entry + entry_data, 4}))},
      held_ || masked(vector));
}

}  // namespace hum::pci
