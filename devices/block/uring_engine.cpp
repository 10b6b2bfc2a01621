// SPDX-License-Identifier: Apache-2.0
#include "devices/block/uring_engine.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <utility>

#include "devices/block/file_operation.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using Kind = BlockOperation::Kind;

constexpr std::array<std::uint8_t, 5> operations_in_use = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
                                                           IORING_OP_FALLOCATE, IORING_OP_POLL_ADD};

// liburing 2.3 has functions for what needs this, and its shared library does not export them.
bool register_at(int ring, unsigned what, void* argument, unsigned count) {
  return ::syscall(__NR_io_uring_register, ring, what, argument, count) == 0;
}

void prepare(io_uring_sqe* entry, int file, BlockOperation& operation) {
  const std::span<iovec> parts = one_call(operation);
  switch (operation.kind) {
    case Kind::read:
      ::io_uring_prep_readv(entry, file, parts.data(), static_cast<unsigned>(parts.size()), operation.offset);
      break;
    case Kind::write:
      ::io_uring_prep_writev(entry, file, parts.data(), static_cast<unsigned>(parts.size()),
                             operation.offset);
      break;
    case Kind::flush:
      ::io_uring_prep_fsync(entry, file, IORING_FSYNC_DATASYNC);
      break;
    case Kind::discard:
    case Kind::write_zeroes:
      ::io_uring_prep_fallocate(entry, file, fallocate_mode(operation), static_cast<off_t>(operation.offset),
                                static_cast<off_t>(operation.size));
      break;
  }
}

}  // namespace

std::unique_ptr<UringEngine> UringEngine::create(unsigned entries) {
  std::unique_ptr<UringEngine> engine(new UringEngine);
  // Completions need not interrupt this thread: it comes for them itself. By how much the kernel knows.
  for (const unsigned flags :
       {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0u}) {
    io_uring_params parameters = {};
    parameters.flags = flags | IORING_SETUP_R_DISABLED;
    const int error = ::io_uring_queue_init_params(entries, &engine->ring_, &parameters);
    if (error == -EINVAL) continue;
    if (error != 0) return nullptr;
    engine->made_ = true;
    // No completion may be lost however many there are.
    if (!(parameters.features & IORING_FEAT_NODROP) || !engine->restrict_operations()) return nullptr;
    return engine;
  }
  return nullptr;
}

UringEngine::~UringEngine() {
  if (!made_) return;
  drain();
  ::io_uring_queue_exit(&ring_);
}

bool UringEngine::restrict_operations() {
  std::array<io_uring_restriction, operations_in_use.size()> allowed = {};
  for (std::size_t i = 0; i < allowed.size(); ++i) {
    allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
    allowed[i].sqe_op = operations_in_use[i];
  }
  return register_at(ring_.ring_fd, IORING_REGISTER_RESTRICTIONS, allowed.data(), allowed.size());
}

// The thread that does this is the one that may use the ring from now on.
void UringEngine::enable() {
  if (std::exchange(enabled_, true)) return;
  if (!register_at(ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0))
    throw HostError(errno, "io_uring_register");
}

bool UringEngine::wants_task_run() const {
  return (std::atomic_ref(*ring_.sq.kflags).load(std::memory_order_relaxed) & IORING_SQ_TASKRUN) != 0;
}

io_uring_sqe* UringEngine::next_entry() {
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    submit();
    entry = ::io_uring_get_sqe(&ring_);
  }
  return entry;
}

void UringEngine::start(int file, BlockOperation& operation) {
  io_uring_sqe* const entry = next_entry();
  prepare(entry, file, operation);
  ::io_uring_sqe_set_data(entry, &operation);
  operation.file = file;
  ++under_way_;
}

void UringEngine::submit() {
  while (::io_uring_sq_ready(&ring_) != 0) enter(0);
}

void UringEngine::enter(unsigned wait_for) {
  enable();
  const int count = ::io_uring_submit_and_wait(&ring_, wait_for);
  // The host is short of memory, or of room for completions: taking some makes room.
  if (count == -EAGAIN || count == -EBUSY)
    reap();
  else if (count < 0 && count != -EINTR)
    throw HostError(-count, "io_uring_enter");
}

// The watch stays until it has told something: a wait that ends for an operation need not renew it.
bool UringEngine::wait(int fd) {
  if (!readable_ && !std::exchange(watching_, true)) {
    io_uring_sqe* const entry = next_entry();
    ::io_uring_prep_poll_add(entry, fd, POLLIN);
    ::io_uring_sqe_set_data(entry, nullptr);
  }
  enter(readable_ ? 0 : 1);
  reap();
  return std::exchange(readable_, false);
}

bool UringEngine::reap() {
  io_uring_cqe* completion = nullptr;
  bool any = false;
  while (::io_uring_peek_cqe(&ring_, &completion) == 0) {
    finish(*completion);
    any = true;
  }
  return any;
}

void UringEngine::drain() {
  while (under_way_ != 0) {
    submit();
    io_uring_cqe* completion = nullptr;
    if (::io_uring_wait_cqe(&ring_, &completion) == 0) finish(*completion);
  }
}

void UringEngine::finish(io_uring_cqe& completion) {
  auto* const operation = static_cast<BlockOperation*>(::io_uring_cqe_get_data(&completion));
  const int returned = completion.res;
  ::io_uring_cqe_seen(&ring_, &completion);
  if (operation == nullptr) {
    watching_ = false;
    readable_ = true;
    return;
  }
  --under_way_;
  if (const auto result = take_result(*operation, returned))
    operation->finished(*result);
  else
    start(operation->file, *operation);
}

}  // namespace hum
