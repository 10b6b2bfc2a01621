// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_bus.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"

namespace hum::pci {
namespace {

constexpr std::uint16_t port_address = 0xcf8;
constexpr std::uint16_t port_data = 0xcfc;

// Bits of the address word that exist: enable, bus, device, function, register.
constexpr std::uint32_t address_bits = 0x80fffffc;
constexpr std::uint32_t address_enable = 1u << 31;

// A host bridge without registers of its own, under the identifier that is registered for a generic one.
constexpr Identity host_bridge{.vendor = 0x1b36, .device = 0x0008, .class_code = 0x060000};

// The first multiple of size in a window, both ends inside, that no used range (in ascending order) overlaps.
std::optional<std::uint64_t> fit(std::uint64_t first, std::uint64_t last, std::uint64_t size,
                                 std::span<const GuestRange> used) {
  const auto aligned = [size](std::uint64_t address) { return (address + size - 1) & ~(size - 1); };
  std::uint64_t at = aligned(first);
  for (const GuestRange& range : used)
    if (range.begin.value < at + size && at < range.begin.value + range.size)
      at = aligned(range.begin.value + range.size);
  if (at < first || at > last || last - at < size - 1) return {};
  return at;
}

// Bus, device and function lie 4 bits lower than in an ECAM address.
std::optional<std::uint64_t> selected_address(std::uint32_t selected, std::uint64_t offset,
                                              std::size_t size) {
  if (!(selected & address_enable) || offset + size > 4) return {};
  return (std::uint64_t{selected & 0xffff00} << 4 | (selected & 0xfc)) + offset;
}

}  // namespace

PciBus::PciBus(const PciLayout& layout, AddressDecoder& ports, AddressDecoder& mmio,
               WriteCollector& collector)
    : layout_(layout), mmio_(mmio), collector_(collector), host_bridge_(host_bridge) {
  add(host_bridge_);
  mappings_ = {mmio.map("pci-ecam", layout.ecam.value, ecam_bytes, ecam_),
               // Only a four-byte access at the first port is one to the address word: the ports behind it
               // stay free for others (0xcf9 is a reset register).
               ports.map("pci-ports", port_address, 1, address_port_),
               ports.map("pci-ports", port_data, 4, data_port_)};
}

unsigned PciBus::add(PciFunction& function, std::optional<unsigned> wanted) {
  const std::lock_guard lock(mutex_);
  const auto empty = [](const Slot& slot) { return slot.function == nullptr; };
  const auto slot =
      wanted ? slots_.begin() + std::min(*wanted, slots) : std::find_if(slots_.begin(), slots_.end(), empty);
  if (slot == slots_.end())
    throw ConfigError("transport", "pci", "the PCI bus has room for 31 devices", "use fewer devices");
  if (!empty(*slot)) throw ConfigError("slot", std::to_string(*wanted), "is taken", "give another, or none");
  Slot taken{&function, false, {}};
  for (const auto& bar : function.bar_sizes()) {
    const std::uint64_t address = allocate(bar.size, taken.bars);
    taken.bars.push_back({{address}, bar.size});
    function.assign_bar(bar.index, address);
  }
  function.attach(mmio_);
  *slot = std::move(taken);
  return static_cast<unsigned>(slot - slots_.begin());
}

void PciBus::hide(unsigned slot) {
  const std::lock_guard lock(mutex_);
  slots_[slot].hidden = true;
}

void PciBus::remove(unsigned slot) {
  const std::lock_guard lock(mutex_);
  slots_[slot] = {};
}

// The lowest free address. Below 4 GiB while there is room, for guests that do not reach further.
std::uint64_t PciBus::allocate(std::uint64_t size, std::span<const GuestRange> more) const {
  std::vector<GuestRange> used(more.begin(), more.end());
  for (const Slot& slot : slots_) used.insert(used.end(), slot.bars.begin(), slot.bars.end());
  std::sort(used.begin(), used.end(), [](const GuestRange& left, const GuestRange& right) {
    return left.begin.value < right.begin.value;
  });
  for (const auto& [first, last] :
       {std::pair<std::uint64_t, std::uint64_t>(layout_.mmio32_first, layout_.mmio32_last),
        {layout_.mmio64_first, layout_.mmio64_last}})
    if (const auto at = fit(first, last, size, used)) return *at;
  throw ConfigError("transport", "pci",
                    "no address space is left for a BAR of " + std::to_string(size >> 10) + " KiB",
                    "use fewer devices");
}

PciFunction* PciBus::find(std::uint64_t address, std::size_t size) const {
  // Function 0 of each device only, and no access across the end of a function.
  const std::uint64_t slot = address >> 15;
  if (slot >= slots || (address >> 12 & 7) != 0 || (address & 0xfff) + size > 0x1000) return nullptr;
  return slots_[slot].hidden ? nullptr : slots_[slot].function;
}

void PciBus::read_config(std::uint64_t address, std::span<std::byte> data) {
  if (PciFunction* const function = find(address, data.size()))
    function->read_config(static_cast<std::uint32_t>(address & 0xfff), data);
}

void PciBus::write_config(std::uint64_t address, std::span<const std::byte> data) {
  if (PciFunction* const function = find(address, data.size()))
    function->write_config(static_cast<std::uint32_t>(address & 0xfff), data);
}

void PciBus::read_ecam(std::uint64_t offset, std::span<std::byte> data) {
  const std::lock_guard lock(mutex_);
  read_config(offset, data);
}

void PciBus::write_ecam(std::uint64_t offset, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  write_config(offset, data);
}

void PciBus::read_address_port(std::uint64_t /*offset*/, std::span<std::byte> data) {
  if (data.size() != 4) return;
  const std::lock_guard lock(mutex_);
  store_le(data, selected_);
}

void PciBus::write_address_port(std::uint64_t /*offset*/, std::span<const std::byte> data) {
  if (data.size() != 4) return;
  const std::lock_guard lock(mutex_);
  // Every access is a write here and one to the data port: half of the exits less.
  if (!std::exchange(collected_, true)) collector_.collect_writes(port_address, 4);
  selected_ = static_cast<std::uint32_t>(load_le(data)) & address_bits;
}

void PciBus::read_data_port(std::uint64_t offset, std::span<std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (const auto address = selected_address(selected_, offset, data.size())) read_config(*address, data);
}

void PciBus::write_data_port(std::uint64_t offset, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (const auto address = selected_address(selected_, offset, data.size())) write_config(*address, data);
}

void PciBus::fields(StateVisitor& visitor) {
  const std::uint32_t selected = visitor.number("address", selected_);
  visitor.require((selected & ~address_bits) == 0, "address", "has bits that do not exist");
  if (visitor.flag("collected", collected_))
    visitor.afterwards([this] { collector_.collect_writes(port_address, 4); });
  visitor.section("bridge", [&] { host_bridge_.fields(visitor); });
  // What was given out once is taken: functions that have come and gone left gaps.
  for (std::size_t slot = 0; slot < slots; ++slot)
    for (std::size_t bar = 0; bar < slots_[slot].bars.size(); ++bar)
      visitor.section("slot", slot, [&] {
        GuestRange& range = slots_[slot].bars[bar];
        const std::string name = "bar" + std::to_string(bar);
        const std::uint64_t then = visitor.number(name, range.begin.value);
        visitor.require(then % range.size == 0, name, "is not a multiple of its size");
      });
}

acpi::Aml PciBus::acpi_node() const {
  using namespace acpi;
  const bool wide = layout_.mmio64_first <= layout_.mmio64_last;
  const auto ecam = static_cast<std::uint32_t>(layout_.ecam.value);
  return join(
      {device("PCI0",
              {name("_HID", eisa_id("PNP0A08")), name("_CID", eisa_id("PNP0A03")), name("_UID", integer(0)),
               name("_SEG", integer(0)), name("_BBN", integer(0)),
               name("_CRS",
                    resources({bus_range(0, 0), io_port(port_address, 8), io_window(0, port_address - 1),
                               io_window(0xd00, 0xffff),
                               memory_window32(layout_.mmio32_first, layout_.mmio32_last),
                               wide ? memory_window64(layout_.mmio64_first, layout_.mmio64_last) : Aml{}}))}),
       // Without this (and the range in the memory map) Linux does not trust ECAM.
       device("ECAM", {name("_HID", eisa_id("PNP0C02")), name("_UID", string("ECAM")),
                       name("_CRS", resources({memory32(ecam, static_cast<std::uint32_t>(ecam_bytes))}))})});
}

}  // namespace hum::pci
