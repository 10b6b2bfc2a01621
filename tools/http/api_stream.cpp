// SPDX-License-Identifier: Apache-2.0
#include "tools/http/api_stream.h"

#include <utility>

namespace hum {

void StreamQueue::push(std::string_view piece, std::uint64_t units) {
  const std::lock_guard lock(mutex_);
  if (ended_) return;
  // A gap stays one until the client has come to it.
  if (lost_ != 0 || piece.size() > most_bytes_ - text_.size())
    lost_ += units;
  else
    text_ += piece;
  tell();
}

void StreamQueue::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  tell();
}

std::optional<std::string> StreamQueue::take() {
  const std::lock_guard lock(mutex_);
  told_ = false;
  std::string text = std::exchange(text_, {});
  if (lost_ != 0) text += notice_(std::exchange(lost_, 0));
  if (text.empty() && ended_) return {};
  return text;
}

void StreamQueue::on_more(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

void StreamQueue::tell() {
  if (!std::exchange(told_, true) && wake_) wake_();
}

}  // namespace hum
