// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/virtio_disk.h"

// What the hostile images share: a disk that is attacked, and an entropy device beside it, the bystander,
// that must not notice. Their checks have the numbers from 101 on.
namespace guest {

// The disk, live with a queue of 16 entries and those of the wanted features that are offered. The bystander
// is live as well.
VirtioDisk& open_victim(const BootInfo& boot, std::uint64_t wanted_features = 0);

// Makes a chain available and notifies. The disk must then say that it needs a reset and not answer.
void expect_broken(std::uint16_t head);
// The same where the ring was changed otherwise.
void expect_broken();

// The bystander alone, for images that attack another device: makes it live, and has it answer.
void open_bystander(const BootInfo& boot);
void expect_bystander();

// The bystander answers; the disk works after a reset. May be called after each of several attacks: the
// victim is then as open_victim left it.
void expect_recovery();

}  // namespace guest
