// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/block/block_backend.h"
#include "devices/block/block_wire.h"
#include "devices/queue_service.h"
#include "devices/rate_limiter.h"
#include "vmm/base/counter.h"
#include "vmm/base/fd.h"
#include "vmm/base/latency_histogram.h"
#include "vmm/base/log.h"
#include "vmm/device/device.h"

namespace hum {

// What all threads of a disk share. What is not atomic changes only while none of them runs.
struct BlockDisk {
  BlockBackend* backend = nullptr;
  std::string name;  // for the log
  std::string id;    // at most 20 bytes; the guest shows it as the disk's serial number
  bool read_only = false;
  std::uint64_t capacity = 0;                // sectors
  std::uint32_t block_size = 512;            // of a request's place and size
  std::atomic<bool> pause_on_error = false;  // a request that the host fails is held until the VM was paused
  // Whether a write is safe only after a flush; otherwise it is once it is answered (virtio 1.2, 5.2.6.2).
  std::atomic<bool> writeback = true;
  std::chrono::microseconds poll{};  // the most that a thread looks for work before it sleeps
  std::atomic<bool> failure_told = false;
  RateLimiter limiter{};
  MachineControl& control;
  const Log& log;
};

// A request that waits for another try at the next activation.
struct HeldRequest {
  std::uint16_t queue = 0;
  std::uint16_t head = 0;
};

// What one thread of a disk has done.
struct BlockCounters {
  Counter bytes_read;
  Counter bytes_written;
  Counter bytes_discarded;
  Counter flushes;
  Counter errors;     // requests that were answered with an error
  Counter throttled;  // times that a limit held requests up
};

// How long the requests of one queue took that succeeded.
struct BlockLatencies {
  LatencyHistogram read;
  LatencyHistogram write;
  LatencyHistogram flush;
};

// One thread of a disk, over one activation: serves some of its queues with an engine of its own. Requests
// are answered in the order in which the host finishes them.
class BlockWorker {
 public:
  // What the worker counts, with the latencies of all queues of the disk.
  struct Counts {
    BlockCounters& all;
    std::span<BlockLatencies> latencies;
  };

  // All but the queues outlives the worker, which begins with those of the held requests that are its
  // queues'. Throws HostError; GuestError if these are not the requests that the device has.
  BlockWorker(BlockDisk& disk, std::unique_ptr<BlockEngine> engine, std::vector<virtio::ActiveQueue> queues,
              std::span<const HeldRequest> held, virtio::DeviceEvents& events, const Counts& counts);
  ~BlockWorker();
  BlockWorker(const BlockWorker&) = delete;
  BlockWorker& operator=(const BlockWorker&) = delete;

  // Ends when all requests that were begun are answered, or held: those are appended. Once.
  std::vector<virtio::ActiveQueue> stop(std::vector<HeldRequest>& held);

  // The limits have changed.
  void serve_all();

 private:
  class Request;
  struct Lane;

  Lane& lane(std::uint16_t index);
  Request& take_free(Lane& lane);
  void give_back(Request& request);
  void try_again();
  void serve(std::uint16_t index);
  void serve_after(TokenBucket::Clock::duration wait);
  bool finish_some();
  void publish();

  void begin(Request& request);
  void begin_data(Request& request, BlockOperation::Kind kind, std::uint64_t sector, std::span<iovec> buffers,
                  std::uint64_t bytes);
  void begin_segments(Request& request, std::span<const iovec> out, std::uint64_t bytes);
  void next_segment(Request& request);
  void step(Request& request, BlockResult result);
  void fail(Request& request, BlockResult result);
  void write_zeroes(Request& request);
  void make_durable(Request& request);
  void succeed(Request& request);
  void answer(Request& request, std::uint8_t status, std::uint64_t written = 0);
  bool in_range(std::uint64_t sector, std::uint64_t bytes) const;

  BlockDisk& disk_;
  std::unique_ptr<BlockEngine> engine_;
  BlockCounters& counters_;
  std::vector<Lane> lanes_;
  std::optional<Timer> limit_timer_;  // from the first request on that a limit held up
  QueueService service_;              // last: its thread ends before what it uses
};

}  // namespace hum
