// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/console_service.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "vmm/base/errors.h"

namespace hum {

std::string console_gap(std::uint64_t lost) {
  return "\r\n[" + std::to_string(lost) + " bytes of output are missing here]\r\n";
}

class ConsoleService::Stream final : public ApiStream {
 public:
  Stream(ConsoleService& service, bool writes)
      : service_(service), writes_(writes), queue_(most_waiting, console_gap) {
    {
      const std::lock_guard lock(service_.mutex_);
      service_.streams_.insert(this);
    }
    subscription_ = service_.hub_.subscribe([this](std::span<const std::byte> output) {
      queue_.push({reinterpret_cast<const char*>(output.data()), output.size()}, output.size());
    });
  }
  ~Stream() override {
    const std::lock_guard lock(service_.mutex_);
    service_.streams_.erase(this);
    if (writes_) service_.has_writer_ = false;
  }

  StreamQueue& output() override { return queue_; }

  std::size_t take_input(std::string_view input) override {
    if (!writes_) return input.size();
    const ssize_t count = ::write(service_.written_end_.get(), input.data(), input.size());
    return count > 0 ? static_cast<std::size_t>(count) : 0;
  }

 private:
  ConsoleService& service_;
  const bool writes_;
  StreamQueue queue_;
  ConsoleHub::Subscription subscription_;  // last: ends before the queue
};

ConsoleService::~ConsoleService() {
  if (thread_) thread_->call([this] { input_.reset(); });
}

std::shared_ptr<ApiStream> ConsoleService::open(bool writes) {
  if (writes) {
    open_input();
    const std::lock_guard lock(mutex_);
    if (has_writer_) return nullptr;
    has_writer_ = true;
  }
  auto stream = std::make_shared<Stream>(*this, writes);
  if (ended_) stream->output().end();
  return stream;
}

void ConsoleService::open_input() {
  if (input_) return;
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0)
    throw HostError(errno, "make a pipe", "raise the limit of open files (ulimit -n)");
  input_end_ = Fd(ends[0]);
  written_end_ = Fd(ends[1]);
  if (!thread_) thread_.emplace("hum-console");
  thread_->call([this] { input_.emplace(thread_->loop(), hub_, input_end_.get(), false, [] {}); });
}

void ConsoleService::end() {
  ended_ = true;
  const std::lock_guard lock(mutex_);
  for (Stream* const each : streams_) each->output().end();
}

}  // namespace hum
