// SPDX-License-Identifier: Apache-2.0
#include "devices/block/block_worker.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "devices/block/file_operation.h"
#include "vmm/base/errors.h"

namespace hum {

using namespace block_wire;

namespace {

using Kind = BlockOperation::Kind;

// Of a request, without its header and its status.
std::uint64_t data_bytes(const virtio::DescriptorChain& chain) {
  const std::uint64_t all = chain.readable_bytes + chain.writable_bytes;
  return all - std::min<std::uint64_t>(all, sizeof(Header) + 1);
}

// The parts without their last byte, which is there.
std::span<iovec> without_last_byte(std::span<iovec> parts) {
  return --parts.back().iov_len == 0 ? parts.first(parts.size() - 1) : parts;
}

alignas(4096) constexpr std::array<std::byte, 65536> zeroes{};

}  // namespace

// A request of the guest on its way, reused for the next one.
class BlockWorker::Request final : public BlockOperation {
 public:
  void finished(BlockResult how) override { worker->step(*this, how); }

  BlockWorker* worker = nullptr;
  Lane* lane = nullptr;
  Request* next_free = nullptr;
  virtio::DescriptorChain chain;
  iovec status = {};
  std::uint32_t type = 0;
  std::uint64_t bytes = 0;
  std::chrono::steady_clock::time_point begun;
  std::array<Segment, most_segments> segments = {};
  std::size_t segment_count = 0;
  std::size_t next_segment = 0;
  // What is left of a segment that is written as zeroes, bytes on the disk; and the buffers for that.
  std::uint64_t zero_begin = 0;
  std::uint64_t zero_end = 0;
  std::array<iovec, 16> zero_parts = {};
};

// A queue, with a request for each that the driver can have with the device.
struct BlockWorker::Lane {
  std::uint16_t index;
  virtio::VirtQueue* queue;
  BlockLatencies* latencies;
  std::unique_ptr<Request[]> requests;
  Request* free;
  std::vector<std::uint16_t> held;  // heads, with room for all
};

BlockWorker::BlockWorker(BlockDisk& disk, std::unique_ptr<BlockEngine> engine,
                         std::vector<virtio::ActiveQueue> queues, std::span<const HeldRequest> held,
                         virtio::DeviceEvents& events, const Counts& counts)
    : disk_(disk),
      engine_(std::move(engine)),
      counters_(counts.all),
      service_("disk", std::move(queues), events) {
  for (const std::uint16_t index : service_.indices()) {
    virtio::VirtQueue* const queue = service_.queue(index);
    const std::size_t size = queue->layout().size;
    std::vector<std::uint16_t> heads;
    heads.reserve(size);
    for (const HeldRequest& each : held)
      if (each.queue == index) heads.push_back(each.head);
    if (heads.size() != queue->with_device())
      throw GuestError("the requests to be tried again are not those that the queue misses");
    lanes_.push_back({index, queue, &counts.latencies[index], std::make_unique<Request[]>(size), nullptr,
                      std::move(heads)});
  }
  for (Lane& each : lanes_) {
    for (std::size_t i = each.queue->layout().size; i-- != 0;) {
      Request& request = each.requests[i];
      request.worker = this;
      request.lane = &each;
      request.next_free = std::exchange(each.free, &request);
    }
  }
  service_.wait_with([this](int fd) {
    const bool readable = engine_->wait(fd);
    finish_some();
    return readable;
  });
  service_.poll(disk_.poll, [this] { return engine_->has_done() && finish_some(); });
  service_.start([this](std::uint16_t index) { serve(index); });
  service_.call([this] { try_again(); });
}

BlockWorker::~BlockWorker() {
  service_.stop([this] { engine_->drain(); });
}

std::vector<virtio::ActiveQueue> BlockWorker::stop(std::vector<HeldRequest>& held) {
  return service_.stop([&] {
    engine_->drain();
    publish();
    for (const Lane& each : lanes_)
      for (const std::uint16_t head : each.held) held.push_back({each.index, head});
  });
}

void BlockWorker::serve_all() {
  service_.call([this] {
    for (const Lane& each : lanes_) serve(each.index);
  });
}

BlockWorker::Lane& BlockWorker::lane(std::uint16_t index) {
  return *std::find_if(lanes_.begin(), lanes_.end(), [&](const Lane& each) { return each.index == index; });
}

// There is one: the queue never gives out more requests than it has entries.
BlockWorker::Request& BlockWorker::take_free(Lane& lane) {
  return *std::exchange(lane.free, lane.free->next_free);
}

void BlockWorker::give_back(Request& request) {
  request.next_free = std::exchange(request.lane->free, &request);
}

// The guest has paid for them when they were first tried.
void BlockWorker::try_again() {
  for (Lane& lane : lanes_) {
    const std::vector<std::uint16_t> heads(lane.held);
    lane.held.clear();
    for (const std::uint16_t head : heads) {
      Request& request = take_free(lane);
      lane.queue->pop_again(head, request.chain);
      begin(request);
    }
  }
  engine_->submit();
  finish_some();
}

void BlockWorker::serve(std::uint16_t index) {
  Lane& lane = this->lane(index);
  service_.drain(index, [&](virtio::DescriptorChain& chain) {
    const auto wait = disk_.limiter.take(data_bytes(chain));
    if (wait != wait.zero()) {
      counters_.throttled.add();
      lane.queue->undo_pop();
      serve_after(wait);
      return false;
    }
    Request& request = take_free(lane);
    std::swap(request.chain, chain);
    begin(request);
    return true;
  });
  engine_->submit();
  finish_some();
}

void BlockWorker::serve_after(TokenBucket::Clock::duration wait) {
  if (!limit_timer_) {
    limit_timer_.emplace();
    service_.watch(limit_timer_->fd(), EventLoop::Interest::readable, [this] {
      limit_timer_->stop();
      for (const Lane& each : lanes_) serve(each.index);
    });
  }
  limit_timer_->set(wait);
}

bool BlockWorker::finish_some() {
  const bool any = engine_->reap();
  engine_->submit();
  publish();
  return any;
}

void BlockWorker::publish() {
  for (const Lane& each : lanes_) each.queue->publish();
}

void BlockWorker::begin(Request& request) {
  request.begun = std::chrono::steady_clock::now();
  virtio::DescriptorChain& chain = request.chain;
  if (chain.writable_bytes == 0) throw GuestError("a block request has no byte for its status");
  const iovec& last = chain.writable.back();
  request.status = {static_cast<std::byte*>(last.iov_base) + last.iov_len - 1, 1};
  Header header;
  if (chain.readable_bytes < sizeof header) return answer(request, status_ioerr);
  copy_from(chain.readable, 0, writable_bytes_of(header));
  const std::span<iovec> out = without_front(chain.readable, sizeof header);
  const std::span<iovec> in = without_last_byte(chain.writable);
  request.type = header.type;
  switch (request.type) {
    case type_in:
      return begin_data(request, Kind::read, header.sector, in, chain.writable_bytes - 1);
    case type_out:
      return begin_data(request, Kind::write, header.sector, out, chain.readable_bytes - sizeof header);
    case type_flush:
      counters_.flushes.add();
      request.kind = Kind::flush;
      return disk_.backend->start(*engine_, request);
    case type_get_id: {
      std::array<char, id_size> id = {};
      std::copy_n(disk_.id.begin(), std::min(disk_.id.size(), id.size()), id.begin());
      return answer(request, status_ok, copy_to(in, 0, bytes_of(id)));
    }
    case type_discard:
    case type_write_zeroes:
      if (!disk_.read_only && disk_.backend->has_discard())
        return begin_segments(request, out, chain.readable_bytes - sizeof header);
      break;
    default:
      break;
  }
  answer(request, status_unsupp);
}

void BlockWorker::begin_data(Request& request, Kind kind, std::uint64_t sector, std::span<iovec> buffers,
                             std::uint64_t bytes) {
  if ((kind == Kind::write && disk_.read_only) || !in_range(sector, bytes))
    return answer(request, status_ioerr);
  request.kind = kind;
  request.offset = sector * sector_size;
  request.size = bytes;
  request.bytes = bytes;
  request.buffers = buffers;
  if (bytes == 0) return step(request, BlockResult::ok);
  disk_.backend->start(*engine_, request);
}

// 5.2.6.2: all is checked before anything is done.
void BlockWorker::begin_segments(Request& request, std::span<const iovec> out, std::uint64_t bytes) {
  if (bytes == 0 || bytes % sizeof(Segment) != 0 || bytes > sizeof request.segments)
    return answer(request, status_ioerr);
  request.segment_count = bytes / sizeof(Segment);
  request.next_segment = 0;
  request.bytes = 0;
  const std::span<Segment> segments = std::span(request.segments).first(request.segment_count);
  copy_from(out, 0, std::as_writable_bytes(segments));
  const std::uint32_t known_flags = request.type == type_write_zeroes ? segment_unmap : 0;
  for (const Segment& each : segments)
    if ((each.flags & ~known_flags) != 0) return answer(request, status_unsupp);
  for (const Segment& each : segments) {
    if (each.sectors > most_segment_sectors || !in_range(each.sector, each.sectors * sector_size))
      return answer(request, status_ioerr);
    request.bytes += each.sectors * sector_size;
  }
  next_segment(request);
}

void BlockWorker::next_segment(Request& request) {
  while (request.next_segment < request.segment_count && request.segments[request.next_segment].sectors == 0)
    ++request.next_segment;
  if (request.next_segment == request.segment_count)
    return request.type == type_discard ? succeed(request) : make_durable(request);
  const Segment& segment = request.segments[request.next_segment++];
  request.kind = request.type == type_discard ? Kind::discard : Kind::write_zeroes;
  request.may_unmap = (segment.flags & segment_unmap) != 0;
  request.offset = segment.sector * sector_size;
  request.size = segment.sectors * sector_size;
  disk_.backend->start(*engine_, request);
}

// After each operation.
void BlockWorker::step(Request& request, BlockResult result) {
  // A discard is a hint.
  if (request.kind == Kind::discard && result == BlockResult::unsupported) result = BlockResult::ok;
  if (request.kind == Kind::write_zeroes && result == BlockResult::unsupported) {
    request.zero_begin = request.offset;
    request.zero_end = request.offset + request.size;
    return write_zeroes(request);
  }
  if (result != BlockResult::ok) return fail(request, result);
  switch (request.kind) {
    case Kind::read:
    case Kind::flush:
      return succeed(request);
    case Kind::write:
      return request.type == type_write_zeroes ? write_zeroes(request) : make_durable(request);
    case Kind::discard:
    case Kind::write_zeroes:
      return next_segment(request);
  }
}

// For hosts without another way to zero a range.
void BlockWorker::write_zeroes(Request& request) {
  if (request.zero_begin == request.zero_end) return next_segment(request);
  request.kind = Kind::write;
  request.offset = request.zero_begin;
  request.size = 0;
  std::size_t count = 0;
  while (count < request.zero_parts.size() && request.zero_begin != request.zero_end) {
    const auto size = std::min<std::uint64_t>(zeroes.size(), request.zero_end - request.zero_begin);
    request.zero_parts[count++] = {const_cast<std::byte*>(zeroes.data()), size};
    request.zero_begin += size;
    request.size += size;
  }
  request.buffers = std::span(request.zero_parts).first(count);
  disk_.backend->start(*engine_, request);
}

void BlockWorker::make_durable(Request& request) {
  if (disk_.writeback.load(std::memory_order_relaxed)) return succeed(request);
  request.kind = Kind::flush;
  disk_.backend->start(*engine_, request);
}

void BlockWorker::succeed(Request& request) {
  const auto took = std::chrono::steady_clock::now() - request.begun;
  switch (request.type) {
    case type_in:
      counters_.bytes_read.add(request.bytes);
      request.lane->latencies->read.add(took);
      return answer(request, status_ok, request.bytes);
    case type_out:
      counters_.bytes_written.add(request.bytes);
      request.lane->latencies->write.add(took);
      break;
    case type_flush:
      request.lane->latencies->flush.add(took);
      break;
    case type_discard:
    case type_write_zeroes:
      counters_.bytes_discarded.add(request.bytes);
      break;
    default:
      break;
  }
  answer(request, status_ok);
}

void BlockWorker::answer(Request& request, std::uint8_t status, std::uint64_t written) {
  if (status != status_ok) counters_.errors.add();
  copy_to({&request.status, 1}, 0, bytes_of(status));
  // The used length counts from the first byte on, so the status counts only behind complete data.
  const bool complete = written == request.chain.writable_bytes - 1;
  request.lane->queue->push(request.chain.head, static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                                    written + (complete ? 1 : 0), UINT32_MAX)));
  give_back(request);
}

bool BlockWorker::in_range(std::uint64_t sector, std::uint64_t bytes) const {
  const std::uint64_t sectors_per_block = disk_.block_size / sector_size;
  return bytes % disk_.block_size == 0 && sector % sectors_per_block == 0 && sector <= disk_.capacity &&
         bytes / sector_size <= disk_.capacity - sector;
}

void BlockWorker::fail(Request& request, BlockResult result) {
  if (result == BlockResult::unsupported) return answer(request, status_unsupp);
  const auto reason = [&] {
    return "disk '" + disk_.name + "': " +
           (result == BlockResult::no_space ? "no space left on the host" : "the host reports an I/O error");
  };
  // The host forgets what a failed flush was about: another one would seem to succeed.
  const bool may_try_again = request.kind != Kind::flush || result == BlockResult::no_space;
  if (disk_.pause_on_error.load(std::memory_order_relaxed) && may_try_again) {
    request.lane->held.push_back(request.chain.head);
    give_back(request);
    return disk_.control.want_pause(reason());
  }
  if (!disk_.failure_told.exchange(true, std::memory_order_relaxed))
    disk_.log.warning(reason() + "; the guest is told of an I/O error");
  answer(request, status_ioerr);
}

}  // namespace hum
