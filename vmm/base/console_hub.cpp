// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/console_hub.h"

#include <algorithm>
#include <utility>

namespace hum {

ConsoleHub::Subscription::Subscription(Subscription&& other) noexcept
    : hub_(std::exchange(other.hub_, nullptr)), reader_(other.reader_) {}

ConsoleHub::Subscription& ConsoleHub::Subscription::operator=(Subscription&& other) noexcept {
  std::swap(hub_, other.hub_);
  std::swap(reader_, other.reader_);
  return *this;
}

ConsoleHub::Subscription::~Subscription() {
  if (hub_ == nullptr) return;
  const std::lock_guard lock(hub_->mutex_);
  hub_->readers_.erase(reader_);
}

ConsoleHub::Subscription ConsoleHub::subscribe(Reader reader, bool replay) {
  const std::lock_guard lock(mutex_);
  if (replay && !ring_.empty()) {
    reader(std::span(ring_).subspan(start_));
    if (start_ != 0) reader(std::span(ring_).first(start_));
  }
  Subscription subscription;
  subscription.hub_ = this;
  subscription.reader_ = readers_.insert(readers_.end(), std::move(reader));
  return subscription;
}

void ConsoleHub::write(std::span<const std::byte> output) {
  const std::lock_guard lock(mutex_);
  output_.add(output.size());
  for (const Reader& reader : readers_) reader(output);
  for (const std::byte byte : output.last(std::min(output.size(), capacity_))) {
    if (ring_.size() < capacity_) {
      ring_.push_back(byte);
    } else {
      ring_[start_] = byte;
      start_ = start_ + 1 == capacity_ ? 0 : start_ + 1;
    }
  }
}

bool ConsoleHub::send(std::span<const std::byte> input) {
  {
    const std::lock_guard lock(input_mutex_);
    if (input.size() > input_capacity - input_.size()) return false;
    input_.insert(input_.end(), input.begin(), input.end());
  }
  const std::lock_guard lock(input_ready_mutex_);
  if (input_ready_) input_ready_();
  return true;
}

std::size_t ConsoleHub::take_input(std::span<std::byte> to) {
  const std::lock_guard lock(input_mutex_);
  const std::size_t count = std::min(to.size(), input_.size());
  std::copy_n(input_.begin(), count, to.begin());
  input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(count));
  input_taken_.add(count);
  return count;
}

void ConsoleHub::on_input(InputReady ready) {
  const std::lock_guard lock(input_ready_mutex_);
  input_ready_ = std::move(ready);
}

void ConsoleHub::fields(StateVisitor& visitor) {
  const std::lock_guard lock(input_mutex_);
  visitor.list("input", input_, input_capacity);
}

std::vector<std::string> ConsoleHub::last_lines(std::size_t lines) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> all(1);
  for (std::size_t i = 0; i < ring_.size(); ++i) {
    const auto character = static_cast<unsigned char>(ring_[(start_ + i) % ring_.size()]);
    if (character == '\n') {
      all.emplace_back();
    } else if (character == '\t' || (character >= 0x20 && character != 0x7f)) {
      all.back() += static_cast<char>(character);
    }
  }
  if (all.back().empty()) all.pop_back();
  if (all.size() > lines) all.erase(all.begin(), all.end() - static_cast<std::ptrdiff_t>(lines));
  return all;
}

}  // namespace hum
