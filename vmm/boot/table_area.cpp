// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/table_area.h"

#include <algorithm>

#include "vmm/base/errors.h"

namespace hum::boot {

GuestAddress TableArea::add(std::span<const std::byte> bytes) {
  if (bytes.size() > end_.value - next_.value)
    throw ConfigError("modules", "", "there are too many modules, or their strings are too long",
                      "give fewer modules or shorter strings");
  const GuestAddress address = next_;
  memory_.write_bytes(address, bytes);
  next_.value = std::min((address.value + bytes.size() + 7) & ~std::uint64_t{7}, end_.value);
  return address;
}

GuestAddress TableArea::add_text(const std::string& text) {
  return add(std::as_bytes(std::span(text.c_str(), text.size() + 1)));
}

}  // namespace hum::boot
