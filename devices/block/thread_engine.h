// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include "devices/block/block_backend.h"
#include "vmm/base/fd.h"

namespace hum {

// An engine of plain system calls in threads of its own, for hosts that refuse io_uring.
class ThreadEngine final : public BlockEngine {
 public:
  // threads: system calls at a time, from 1. Throws HostError.
  explicit ThreadEngine(unsigned threads);
  ~ThreadEngine() override;
  ThreadEngine(const ThreadEngine&) = delete;
  ThreadEngine& operator=(const ThreadEngine&) = delete;

  void start(int file, BlockOperation& operation) override;
  void submit() override;
  int ready_fd() const override { return ready_.fd(); }
  bool has_done() override { return any_done_.load(std::memory_order_relaxed); }
  bool reap() override;
  void drain() override;

 private:
  // Operations in order, linked by their next.
  class List {
   public:
    bool empty() const { return first_ == nullptr; }
    void push(BlockOperation& operation);
    BlockOperation& pop();
    void take_all(List& other);

   private:
    BlockOperation* first_ = nullptr;
    BlockOperation* last_ = nullptr;
  };

  void work();
  void stop();

  std::size_t under_way_ = 0;
  List started_;  // not yet submitted
  EventFd ready_;
  std::atomic<bool> any_done_ = false;

  std::mutex mutex_;  // guards the four below
  std::condition_variable more_;
  List waiting_;
  List done_;
  bool end_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hum
