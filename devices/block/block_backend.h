// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

namespace hum {

enum class BlockResult : std::uint8_t { ok, io_error, no_space, unsupported };

// One operation on an image. Belongs to whoever started it and stays where it is until it is finished; until
// then all of it is in the hands of those that carry it out, who may change the place and the buffers.
class BlockOperation {
 public:
  enum class Kind : std::uint8_t {
    read,
    write,
    flush,         // what was answered before survives a loss of power once this has
    discard,       // the range's content does not matter any more
    write_zeroes,  // the range reads as zeroes
  };

  virtual ~BlockOperation() = default;
  // The end, on the thread that started it, perhaps before start has returned. After an error any part of the
  // operation may have been done.
  virtual void finished(BlockResult result) = 0;

  Kind kind = Kind::read;
  bool may_unmap = false;      // write_zeroes: the range need not stay allocated
  std::uint64_t offset = 0;    // bytes; not for flush
  std::uint64_t size = 0;      // bytes; not for flush
  std::span<iovec> buffers{};  // read and write: size bytes

  // The engine's.
  int file = -1;
  BlockResult result = BlockResult::ok;
  BlockOperation* next = nullptr;
};

// Carries out operations on files of the host, for one thread: only that thread calls it.
class BlockEngine {
 public:
  virtual ~BlockEngine() = default;

  // Begins operation on a file. Nothing is promised to happen before submit.
  virtual void start(int file, BlockOperation& operation) = 0;
  // Hands over what was started.
  virtual void submit() = 0;
  // Readable when reap has something to do.
  virtual int ready_fd() const = 0;
  // Finishes what is done and does not wait.
  virtual void reap() = 0;
  // Submits, and waits until nothing is under way.
  virtual void drain() = 0;
};

// A disk image as the block device sees it: bytes at offsets. Several threads may each start operations with
// an engine of their own; the callers stay below size().
class BlockBackend {
 public:
  virtual ~BlockBackend() = default;

  virtual std::uint64_t size() const = 0;  // bytes
  // Powers of two from 512, bytes: the unit in which the image's own addresses count (partition tables), and
  // the one in which it is best used.
  virtual std::uint32_t logical_block_size() const = 0;
  virtual std::uint32_t physical_block_size() const = 0;
  // False: discard and write_zeroes are always unsupported. True: an image on the host may still answer so.
  virtual bool has_discard() const = 0;
  // Operations are to come from one thread.
  virtual bool one_thread() const { return false; }
  // The same contract as BlockEngine::start.
  virtual void start(BlockEngine& engine, BlockOperation& operation) = 0;
};

}  // namespace hum
