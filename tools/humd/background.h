// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <functional>
#include <memory>
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

// One coroutine at a time: from when take() returns until the turn that it gives has gone, which may be after
// this.
class TurnTaking {
  struct State {
    bool taken = false;
    Notifier free;
  };

 public:
  class Turn {
   public:
    explicit Turn(std::shared_ptr<State> state) : state_(std::move(state)) {}
    Turn(Turn&&) noexcept = default;
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (!state_) return;
      state_->taken = false;
      state_->free.notify_all();
    }

   private:
    std::shared_ptr<State> state_;
  };

  Task<Turn> take() {
    const std::shared_ptr<State> state = state_;
    while (state->taken) co_await state->free.wait_until();
    state->taken = true;
    co_return Turn(state);
  }

 private:
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace hum
