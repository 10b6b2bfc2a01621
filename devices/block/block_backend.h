// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
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
  // Submits, waits until fd is readable or something is done, and reaps; true if fd is readable. Always the
  // same fd.
  virtual bool wait(int fd);
  // False: reap has nothing to do yet, as far as can be told without a system call.
  virtual bool has_done() { return false; }
  // Finishes what is done and does not wait; whether there was anything.
  virtual bool reap() = 0;
  // Submits, and waits until nothing is under way.
  virtual void drain() = 0;
};

// A part of a disk, and where its content is.
struct BlockExtent {
  std::uint64_t size = 0;  // bytes
  unsigned depth = 0;      // 0: this image says it, 1: the one below it, ...
  bool present = true;     // false: none does, it reads as zeroes
  bool zero = false;       // known to read as zeroes
  bool data = true;        // is stored
  bool compressed = false;
  std::optional<std::uint64_t> host = {};  // bytes, in the file of the image that says it
};

// A disk image as the block device sees it: bytes at offsets. Several threads may each start operations with
// an engine of their own; the callers stay below size().
class BlockBackend {
 public:
  virtual ~BlockBackend() = default;

  virtual std::uint64_t size() const = 0;  // bytes; any thread may ask
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
  // The extent that begins at offset, below size(), at most size bytes of it. Waits for the host.
  virtual BlockResult find_extent(std::uint64_t /*offset*/, std::uint64_t size, BlockExtent& extent) {
    extent = {.size = size};
    return BlockResult::ok;
  }
  // The disk has so many bytes, a multiple of 512, from now on and after a loss of power, too; what is new
  // reads as zeroes. The calling thread waits; no operation on the image is under way, none is begun
  // meanwhile, and engine is the one that this thread would use. Unless it is ok, size() stays. unsupported:
  // this image cannot be of that size.
  virtual BlockResult resize(BlockEngine& /*engine*/, std::uint64_t /*size*/) {
    return BlockResult::unsupported;
  }
};

}  // namespace hum
