// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <span>
#include <string_view>

#include "tools/humd/cancelled.h"
#include "tools/humd/file_task.h"
#include "tools/humd/journal.h"
#include "tools/humd/notifier.h"

namespace hum {

class Manager;

// An operation that is under way. Belongs to the logic's thread.
class Run {
 public:
  explicit Run(Operation its_operation) : operation(std::move(its_operation)) {}

  // Until something has changed for the operation, or the time comes: false then. Throws Cancelled.
  Task<bool> wait_until(TimePoint deadline) {
    if (cancel_wanted && !operation.undoing) throw Cancelled();
    const bool told = co_await changed.wait_until(deadline);
    if (cancel_wanted && !operation.undoing) throw Cancelled();
    co_return told;
  }
  Task<bool> wait(std::chrono::microseconds time) {
    return wait_until(std::chrono::steady_clock::now() + time);
  }
  void cancel() {
    if (is_final) return;
    cancel_wanted = true;
    stop_work = true;
    changed.notify_all();
  }
  // For work in the background: it tells how far it is, and stops when the operation is cancelled, unless it
  // undoes. Part of the run, which outlives the work.
  FileTask file_task() {
    FileTask task;
    task.progress = [this](std::uint64_t now, std::uint64_t all) {
      done = now;
      whole = all;
    };
    if (!operation.undoing) task.cancelled = &stop_work;
    return task;
  }

  Operation operation;
  Notifier changed;
  Notifier ended;
  bool is_final = false;
  bool cancel_wanted = false;
  std::atomic<bool> stop_work = false;
  std::atomic<std::uint64_t> done = 0;   // bytes
  std::atomic<std::uint64_t> whole = 0;  // bytes; 0: not known
  std::string_view step;                 // that it has come to
};

// Each may be done again after it was done in part or whole, and so may its undoing: a daemon that was killed
// knows only which step had begun.
struct Step {
  std::string_view name;
  Task<> (*act)(Manager& manager, Run& run);
  Task<> (*undo)(Manager& manager, Run& run) = nullptr;
};

struct Workflow {
  std::string_view kind;
  std::span<const Step> steps;
  bool is_final = false;  // once begun it goes to its end, and is not cancelled
  // What it makes outlives the host, so that it is known there before it is begun.
  bool is_lasting = false;
};

// What stopped a step, for clients.
Operation::Failure failure_of(const std::exception_ptr& error);

// Does what is left of an operation, forwards or back, and stores its end. A store that cannot be written
// holds it up until it can.
Task<> carry_out(Manager& manager, Journal& journal, Store& store, const Workflow& workflow, Run& run);

}  // namespace hum
