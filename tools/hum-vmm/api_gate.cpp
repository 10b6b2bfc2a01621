// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/api_gate.h"

#include <utility>

namespace hum {

std::optional<ApiAnswer> ApiGate::call(const ApiRequest& request) {
  std::unique_lock lock(mutex_);
  if (closed_) return {};
  request_ = &request;
  loop_.post([this] { serve(); });
  changed_.wait(lock, [this] { return closed_ || answer_; });
  request_ = nullptr;
  return std::exchange(answer_, {});
}

void ApiGate::serve() {
  const ApiRequest* request = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    request = request_;
  }
  // The caller waits, and only this thread closes: the request stays.
  ApiAnswer answer = handler_(*request);
  const std::lock_guard lock(mutex_);
  answer_ = std::move(answer);
  changed_.notify_one();
}

void ApiGate::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_one();
}

}  // namespace hum
