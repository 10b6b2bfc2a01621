// SPDX-License-Identifier: Apache-2.0
#include "vmm/bus/ioapic.h"

#include <algorithm>
#include <utility>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint32_t register_id = 0x00;
constexpr std::uint32_t register_version = 0x01;
constexpr std::uint32_t register_arbitration = 0x02;
constexpr std::uint32_t register_redirection = 0x10;
constexpr std::uint64_t redirection_writable = 0xff000000'0001afffull;  // not delivery status, not remote IRR
constexpr std::uint64_t redirection_masked = 1u << 16;
constexpr std::uint32_t id_writable = 0x0f000000;
constexpr std::uint32_t first_free_pin = 5;

bool deliverable(std::uint64_t redirection) {
  const std::uint64_t mode = (redirection >> 8) & 7;
  return (redirection & redirection_masked) == 0 && mode != 3 && mode != 6 && mode != 7;
}

MsiMessage message_of(std::uint64_t redirection) {
  const std::uint64_t destination = redirection >> 56;
  const std::uint64_t logical = (redirection >> 11) & 1;
  return {.address = 0xfee00000 | (destination << 12) | (logical << 2),
          .data = static_cast<std::uint32_t>(redirection & 0x7ff)};
}

}  // namespace

Ioapic::Ioapic(AddressDecoder& mmio, MsiController& msi, std::uint32_t pins)
    : msi_(msi), pins_(pins), mapping_(mmio.map("ioapic", ioapic_base, 0x1000, *this)) {}

Interrupt& Ioapic::pin(std::uint32_t number) {
  const std::lock_guard lock(mutex_);
  Pin& pin = pins_.at(number);
  if (!pin.interrupt) {
    pin.interrupt = msi_.create_interrupt();
    apply(pin);
  }
  return *pin.interrupt;
}

std::uint32_t Ioapic::allocate() {
  for (std::uint32_t number = first_free_pin; number < pins_.size(); ++number) {
    {
      const std::lock_guard lock(mutex_);
      if (pins_[number].interrupt) continue;
    }
    pin(number);
    return number;
  }
  throw ConfigError("devices", "", "all interrupt pins are taken", "use --transport pci, which needs none");
}

void Ioapic::set_level(std::uint32_t number, bool high) {
  if (number >= pins_.size()) return;
  Interrupt& interrupt = pin(number);
  const std::lock_guard lock(mutex_);
  if (!std::exchange(pins_[number].high, high) && high) interrupt.trigger();
}

void Ioapic::hold(bool held) {
  const std::lock_guard lock(mutex_);
  held_ = held;
  for (Pin& pin : pins_) apply(pin);
}

void Ioapic::fields(StateVisitor& visitor) {
  const std::lock_guard lock(mutex_);
  visitor.same("pins", pins_.size());
  visitor.number("selected", selected_, 0xff);
  visitor.require((visitor.number("id", id_) & ~id_writable) == 0, "id", "has bits that do not exist");
  for (std::size_t number = 0; number < pins_.size(); ++number)
    visitor.section("pin", number, [&] {
      Pin& pin = pins_[number];
      const std::uint64_t redirection = visitor.number("redirection", pin.redirection);
      visitor.require((redirection & ~redirection_writable) == 0, "redirection",
                      "has bits that do not exist");
      visitor.flag("high", pin.high);
      if (pin.interrupt) pin.interrupt->visit_pending(visitor);
    });
}

void Ioapic::apply(Pin& pin) {
  if (pin.interrupt)
    pin.interrupt->configure(message_of(pin.redirection), held_ || !deliverable(pin.redirection));
}

void Ioapic::read(std::uint64_t offset, std::span<std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (offset == 0x00) return store_le(data, selected_);
  if (offset != 0x10) return store_le(data, 0);
  std::uint32_t value = 0;
  if (selected_ == register_id || selected_ == register_arbitration) {
    value = id_;
  } else if (selected_ == register_version) {
    value = 0x11 | (static_cast<std::uint32_t>(pins_.size() - 1) << 16);
  } else if (selected_ - register_redirection < 2 * pins_.size()) {
    const std::uint32_t word = selected_ - register_redirection;
    value = static_cast<std::uint32_t>(pins_[word / 2].redirection >> (32 * (word % 2)));
  }
  store_le(data, value);
}

void Ioapic::write(std::uint64_t offset, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  const auto value = static_cast<std::uint32_t>(load_le(data));
  if (offset == 0x00) {
    selected_ = value & 0xff;
  } else if (offset == 0x10 && selected_ == register_id) {
    id_ = value & id_writable;
  } else if (offset == 0x10 && selected_ >= register_redirection &&
             selected_ - register_redirection < 2 * pins_.size()) {
    const std::uint32_t word = selected_ - register_redirection;
    Pin& pin = pins_[word / 2];
    const unsigned shift = 32 * (word % 2);
    const std::uint64_t changed =
        (pin.redirection & ~(0xffffffffull << shift)) | (std::uint64_t{value} << shift);
    pin.redirection = changed & redirection_writable;
    apply(pin);
  }
}

}  // namespace hum
