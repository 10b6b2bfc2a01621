// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "devices/block/block_backend.h"
#include "devices/block/qcow2_image.h"

// Copies of whole disks, for one thread that waits.
namespace hum {

bool is_zero(std::span<const std::byte> bytes);

// Called now and then with how much of the whole is done, bytes. False: stop.
using CopyProgress = std::function<bool(std::uint64_t done, std::uint64_t whole)>;

// unsupported and the errors are those of an image: of the source (the overlay), or of the target.
struct CopyOutcome {
  BlockResult result = BlockResult::ok;
  bool of_source = false;
};
// Nothing: it was stopped.
using CopyResult = std::optional<CopyOutcome>;

// Into an image that reads as zeroes and has room. What reads as zeroes is not written; unit is the smallest
// piece that target can leave out, a power of two, bytes.
CopyResult copy_image(BlockBackend& source, BlockBackend& target, BlockEngine& engine, std::uint64_t unit,
                      const CopyProgress& progress);
// Into an image with any content, of which only what differs is written.
CopyResult copy_differences(BlockBackend& source, BlockBackend& target, BlockEngine& engine,
                            std::uint64_t unit, const CopyProgress& progress);
// Into a new image, with compressed clusters where they are smaller.
CopyResult copy_compressed(BlockBackend& source, Qcow2Image& target, BlockEngine& engine,
                           const CopyProgress& progress);

// Writes what overlay itself has into the image below it, which may be written and grows where it is smaller,
// and then leaves the overlay empty. All of it is safe in the image below before anything in the overlay is
// given up: after a loss of power, or where it was stopped, the overlay's disk reads as before.
CopyResult commit_image(Qcow2Image& overlay, BlockEngine& engine, const CopyProgress& progress);

}  // namespace hum
