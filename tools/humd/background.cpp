// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/background.h"

#include <boost/asio/post.hpp>
#include <exception>
#include <memory>
#include <utility>

namespace hum {

Task<> Background::run(std::function<void()> work) {
  struct Outcome {
    Notifier ended;
    bool has_ended = false;
    std::exception_ptr error;
  };
  const auto outcome = std::make_shared<Outcome>();
  boost::asio::post(threads_, [outcome, work = std::move(work), &context = context_] {
    std::exception_ptr error;
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    boost::asio::post(context, [outcome, error] {
      outcome->error = error;
      outcome->has_ended = true;
      outcome->ended.notify_all();
    });
  });
  while (!outcome->has_ended) co_await outcome->ended.wait_until();
  if (outcome->error) std::rethrow_exception(outcome->error);
}

}  // namespace hum
