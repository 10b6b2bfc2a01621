// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <list>

namespace hum {

template <typename T = void>
using Task = boost::asio::awaitable<T>;
using TimePoint = std::chrono::steady_clock::time_point;

// Coroutines of one thread wait here until something has changed. What has changed is not said: they look.
class Notifier {
 public:
  Notifier() = default;
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  void notify_all() {
    for (boost::asio::steady_timer* const each : waiting_) each->cancel();
  }

  // False: the time has come first. The notifier may end before the wait does: whoever waits holds what
  // owns it.
  Task<bool> wait_until(TimePoint deadline = TimePoint::max()) {
    boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, deadline);
    const auto place = waiting_.insert(waiting_.end(), &timer);
    boost::system::error_code error;
    co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
    waiting_.erase(place);
    co_return error == boost::asio::error::operation_aborted;
  }

 private:
  std::list<boost::asio::steady_timer*> waiting_;
};

}  // namespace hum
