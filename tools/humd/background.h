// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <functional>
#include <utility>

#include "tools/humd/notifier.h"

namespace hum {

// Threads for work that waits for disks or programs, so that the logic's thread does not. Belongs to the
// logic's thread. The destructor waits for what is under way.
class Background {
 public:
  explicit Background(boost::asio::io_context& context) : context_(context) {}
  ~Background() { threads_.join(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // Returns when it is done, with its exception. The caller may be gone by then: work owns what it uses, or
  // what it uses outlives this. Work is a variable at the caller's, not made in the expression that waits
  // (g++ 12 ends such a temporary twice).
  Task<> run(std::function<void()> work);

 private:
  static constexpr std::size_t thread_count = 4;

  boost::asio::io_context& context_;
  boost::asio::thread_pool threads_{thread_count};
};

// One coroutine at a time: from when lock() returns until the turn that it gives has gone.
class TurnTaking {
 public:
  class Turn {
   public:
    explicit Turn(TurnTaking& owner) : owner_(&owner) {}
    Turn(Turn&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (owner_ == nullptr) return;
      owner_->taken_ = false;
      owner_->free_.notify_all();
    }

   private:
    TurnTaking* owner_;
  };

  Task<Turn> take() {
    while (taken_) co_await free_.wait_until();
    taken_ = true;
    co_return Turn(*this);
  }

 private:
  bool taken_ = false;
  Notifier free_;
};

}  // namespace hum
