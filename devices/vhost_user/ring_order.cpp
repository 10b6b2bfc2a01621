// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/ring_order.h"

#include <algorithm>
#include <vector>

#include "vmm/base/endian.h"

namespace hum {

bool answered_in_order(const GuestMemory& memory, const virtio::QueueLayout& layout, std::uint16_t first) {
  const auto used = memory.load_acquire<std::uint16_t>(layout.used + 2);
  const auto offered = memory.load_acquire<std::uint16_t>(layout.available + 2);
  const auto outstanding = static_cast<std::uint16_t>(offered - used);
  if (outstanding > layout.size) return false;

  const auto place = [&](int index) { return static_cast<std::uint64_t>(index) & (layout.size - 1u); };
  const auto offer = [&](int index) -> std::size_t {
    return memory.read<le16>(layout.available + (4 + 2 * place(index))) & (layout.size - 1u);
  };
  const auto answer = [&](int index) -> std::size_t {
    return memory.read<le32>(layout.used + (4 + 8 * place(index))) & (layout.size - 1u);
  };
  std::vector<int> balance(layout.size);  // by head
  for (int i = 0; i < outstanding; ++i)
    if (++balance[offer(used + i)] > 1) return false;
  std::fill(balance.begin(), balance.end(), 0);
  const int answered = static_cast<std::uint16_t>(used - first);
  const int kept = std::min(layout.size - outstanding, answered);
  for (int back = 1; back <= kept; ++back) {
    ++balance[offer(used - back)];
    --balance[answer(used - back)];
  }
  return std::all_of(balance.begin(), balance.end(), [](int each) { return each == 0; });
}

}  // namespace hum
