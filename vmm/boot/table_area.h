// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/memory/guest_memory.h"

namespace hum::boot {

// A file that a loader brought into guest memory besides the kernel, and the text that goes with it.
struct LoadedModule {
  GuestRange range;
  std::string text;
};

// A fixed area of guest memory that is filled from its beginning: the tables a kernel is handed. Each add
// returns where the object went, 8-byte aligned; an area that is full is a ConfigError.
class TableArea {
 public:
  TableArea(const GuestMemory& memory, GuestAddress begin, GuestAddress end)
      : memory_(memory), next_(begin), end_(end) {}

  GuestAddress add(std::span<const std::byte> bytes);
  GuestAddress add_text(const std::string& text);  // with a final zero
  template <class T>
  GuestAddress add_table(const std::vector<T>& table) {
    return add(std::as_bytes(std::span(table)));
  }

 private:
  const GuestMemory& memory_;
  GuestAddress next_;
  GuestAddress end_;
};

}  // namespace hum::boot
