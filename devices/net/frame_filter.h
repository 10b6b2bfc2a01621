// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace hum {

// A frame on its way, without its net_wire::Header. What a filter decides by is in `start`, which nobody can
// change any more; the rest is the guest's memory, and may.
struct Frame {
  static constexpr std::size_t most_start_bytes = 128;

  std::span<const std::byte> start;  // the first bytes, up to most_start_bytes: a copy
  std::span<const iovec> rest;       // what comes behind it
  std::size_t bytes = 0;             // of the whole frame
  // Where the host will put a checksum of two bytes, whatever is there now; 0: nowhere.
  std::size_t checksum_at = 0;
};

// One link of the chain between queue and endpoint: rate limits, captures, what a host does not let through.
// Several threads use it at once, one for each pair of queues.
class FrameFilter {
 public:
  enum class Direction : std::uint8_t { from_guest, to_guest };
  enum class Verdict : std::uint8_t {
    pass,
    drop,  // counted; the sender is not told
    hold,  // ask again after Answer::wait: the frames of this direction wait until then
  };
  struct Answer {
    Verdict verdict = Verdict::pass;
    std::chrono::steady_clock::duration wait{};
  };

  virtual ~FrameFilter() = default;

  // Lets everything pass as it is set: need not be asked, nor the start of a frame be copied for it.
  virtual bool idle() const { return false; }

  // Asked for each frame, once more after a hold. The filters before this one have let it pass.
  virtual Answer decide(Direction direction, const Frame& frame) = 0;
};

}  // namespace hum
