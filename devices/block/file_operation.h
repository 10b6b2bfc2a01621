// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>

#include "devices/block/block_backend.h"

// What the engines have in common: an operation as the host's system calls see it.
namespace hum {

// The parts without their first bytes, of which there are as many.
std::span<iovec> without_front(std::span<iovec> parts, std::uint64_t bytes);

// What a system call's return value (negative: an errno) means for an operation; nothing if its rest has to
// be tried again, which the operation then is.
std::optional<BlockResult> take_result(BlockOperation& operation, ssize_t returned);

// What an errno means.
BlockResult result_of(int error);

// The buffers that go into one system call.
std::span<iovec> one_call(const BlockOperation& operation);

// fallocate(2)'s mode for discard and write_zeroes.
int fallocate_mode(const BlockOperation& operation);

}  // namespace hum
