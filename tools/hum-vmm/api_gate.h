// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>

#include "tools/http/api_message.h"
#include "vmm/base/event_loop.h"

namespace hum {

// Brings requests from the server's thread to the one that owns the VM, and the answers back.
class ApiGate {
 public:
  using Handler = std::function<ApiAnswer(const ApiRequest&)>;

  // handler is called by the loop. The loop outlives the gate.
  ApiGate(EventLoop& loop, Handler handler) : loop_(loop), handler_(std::move(handler)) {}

  // On the server's thread: waits for the answer; none if the gate was closed.
  std::optional<ApiAnswer> call(const ApiRequest& request);
  // On the loop's thread, or when the loop has ended: whoever waits is let go, and nobody waits again.
  void close();

 private:
  void serve();

  EventLoop& loop_;
  Handler handler_;
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  const ApiRequest* request_ = nullptr;
  std::optional<ApiAnswer> answer_;
  bool closed_ = false;
};

}  // namespace hum
