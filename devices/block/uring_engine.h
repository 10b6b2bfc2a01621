// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <memory>

#include "devices/block/block_backend.h"

namespace hum {

// An engine on one io_uring(7), restricted to the operations that it uses.
class UringEngine final : public BlockEngine {
 public:
  // Null where the host refuses io_uring or is too old for it. entries: operations that are submitted with
  // one system call, 1 to 4096; there may be more under way.
  static std::unique_ptr<UringEngine> create(unsigned entries);
  ~UringEngine() override;
  UringEngine(const UringEngine&) = delete;
  UringEngine& operator=(const UringEngine&) = delete;

  void start(int file, BlockOperation& operation) override;
  void submit() override;
  int ready_fd() const override { return ring_.ring_fd; }
  bool has_done() override {
    return ::io_uring_cq_ready(&ring_) != 0 || ::io_uring_cq_has_overflow(&ring_) || wants_task_run();
  }
  bool wait(int fd) override;
  bool reap() override;
  void drain() override;

 private:
  UringEngine() = default;
  bool wants_task_run() const;
  bool restrict_operations();
  void enable();
  io_uring_sqe* next_entry();
  void enter(unsigned wait_for);
  void finish(io_uring_cqe& completion);

  io_uring ring_ = {};
  bool made_ = false;
  bool enabled_ = false;   // by the thread that uses it
  bool watching_ = false;  // the descriptor that wait was given
  bool readable_ = false;  // it was, since the last wait
  std::uint64_t under_way_ = 0;
};

}  // namespace hum
