// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/virt_queue.h"

namespace hum {

// Whether the requests that are not answered are the last ones offered, which is all that the indices of a
// ring can say. They are not once a request was answered before an older one: then some are lost and others
// done twice if the ring goes on from its used index. The rings still hold the last offers and answers; over
// the places of which both are there (none if the ring is full) the same requests must have been offered and
// answered. first is the index that the ring began at. Throws GuestError if the rings are not in RAM.
bool answered_in_order(const GuestMemory& memory, const virtio::QueueLayout& layout, std::uint16_t first);

}  // namespace hum
