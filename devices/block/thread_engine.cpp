// SPDX-License-Identifier: Apache-2.0
#include "devices/block/thread_engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "devices/block/file_operation.h"
#include "vmm/base/event_loop.h"

namespace hum {
namespace {

ssize_t call(const BlockOperation& operation) {
  using Kind = BlockOperation::Kind;
  const std::span<iovec> parts = one_call(operation);
  const auto offset = static_cast<off_t>(operation.offset);
  switch (operation.kind) {
    case Kind::read:
      return ::preadv(operation.file, parts.data(), static_cast<int>(parts.size()), offset);
    case Kind::write:
      return ::pwritev(operation.file, parts.data(), static_cast<int>(parts.size()), offset);
    case Kind::flush:
      return ::fdatasync(operation.file);
    case Kind::discard:
    case Kind::write_zeroes:
      return ::fallocate(operation.file, fallocate_mode(operation), offset,
                         static_cast<off_t>(operation.size));
  }
  return 0;
}

BlockResult carry_out(BlockOperation& operation) {
  while (true) {
    const ssize_t returned = call(operation);
    if (const auto result = take_result(operation, returned < 0 ? -errno : returned)) return *result;
  }
}

}  // namespace

void ThreadEngine::List::push(BlockOperation& operation) {
  operation.next = nullptr;
  (first_ == nullptr ? first_ : last_->next) = &operation;
  last_ = &operation;
}

BlockOperation& ThreadEngine::List::pop() {
  return *std::exchange(first_, first_->next);
}

void ThreadEngine::List::take_all(List& other) {
  if (other.empty()) return;
  (first_ == nullptr ? first_ : last_->next) = std::exchange(other.first_, nullptr);
  last_ = other.last_;
}

ThreadEngine::ThreadEngine(unsigned threads) {
  try {
    for (unsigned i = 0; i < threads; ++i) threads_.push_back(start_thread("disk-io", [this] { work(); }));
  } catch (...) {
    stop();
    throw;
  }
}

ThreadEngine::~ThreadEngine() {
  drain();
  stop();
}

void ThreadEngine::stop() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  more_.notify_all();
  for (std::thread& each : threads_) each.join();
}

void ThreadEngine::start(int file, BlockOperation& operation) {
  operation.file = file;
  started_.push(operation);
  ++under_way_;
}

void ThreadEngine::submit() {
  if (started_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    waiting_.take_all(started_);
  }
  more_.notify_all();
}

bool ThreadEngine::reap() {
  ready_.drain();
  List done;
  {
    const std::lock_guard lock(mutex_);
    done.take_all(done_);
    any_done_.store(false, std::memory_order_relaxed);
  }
  const bool any = !done.empty();
  while (!done.empty()) {
    BlockOperation& operation = done.pop();
    --under_way_;
    operation.finished(operation.result);
  }
  return any;
}

void ThreadEngine::drain() {
  while (under_way_ != 0) {
    submit();
    pollfd ready{ready_.fd(), POLLIN, 0};
    ::poll(&ready, 1, -1);
    reap();
  }
}

void ThreadEngine::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    more_.wait(lock, [this] { return end_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    BlockOperation& operation = waiting_.pop();
    lock.unlock();
    operation.result = carry_out(operation);
    lock.lock();
    const bool first = done_.empty();
    done_.push(operation);
    any_done_.store(true, std::memory_order_relaxed);
    if (first) ready_.signal();
  }
}

}  // namespace hum
