// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/virt_queue.h"

namespace hum::virtio {

// Which requests the other side has of a ring that is served elsewhere, seen by looking at the ring now and
// then: whenever something was given back, say. Both sides run meanwhile, so it may be unknown for some time,
// until the ring has been seen empty; up to 65,535 requests between two looks are told from others. Nothing
// that the rings hold is trusted. Belongs to one thread.
class RingWatch {
 public:
  // From a ring on with nothing on the other side. memory outlives the watch.
  RingWatch(const GuestMemory& memory, const QueueLayout& layout);

  void look();

  // The other side is gone. Makes what it still had the next requests behind the used index, so that its
  // successor can begin there; false where that is not known. This writes to the available ring, which is the
  // driver's (virtio 1.2, 2.7.6), but only to places whose content the driver does not need any more.
  bool put_back();

 private:
  std::uint16_t offered_index() const;
  std::uint16_t used_index() const;
  GuestAddress offer_at(std::uint16_t index) const;
  bool follow(std::uint16_t offered, std::uint16_t used);

  const GuestMemory& memory_;
  QueueLayout layout_;
  std::vector<std::int8_t> with_other_side_;  // by head: 1
  std::uint16_t offered_;
  std::uint16_t used_;
  bool known_ = true;
};

}  // namespace hum::virtio
