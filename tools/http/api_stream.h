// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace hum {

// What a client is still to be sent, between those who have something to tell, on any thread, and the server.
// Telling never waits: what finds no room is lost, and the client is told of the gap where it is.
class StreamQueue {
 public:
  // What stands in the place of what was lost.
  using Notice = std::function<std::string(std::uint64_t lost)>;

  // most_bytes: kept for a client that is slow.
  StreamQueue(std::size_t most_bytes, Notice notice) : most_bytes_(most_bytes), notice_(std::move(notice)) {}

  // units: what the piece counts if it is lost. Any thread.
  void push(std::string_view piece, std::uint64_t units = 1);
  // There is nothing more to come. Any thread.
  void end();

  // All that there is, or an empty text; nothing when all was taken and no more comes.
  std::optional<std::string> take();
  // wake is called when take would find something new, by whoever pushed it; empty: no call is under way
  // after that, and none comes.
  void on_more(std::function<void()> wake);

 private:
  void tell();

  const std::size_t most_bytes_;
  const Notice notice_;
  std::mutex mutex_;  // guards all below; held while wake_ is called
  std::string text_;
  std::uint64_t lost_ = 0;
  bool ended_ = false;
  bool told_ = false;  // since the last take
  std::function<void()> wake_;
};

// What a connection goes on with after its answer, until its end or the client's. The server owns it; its
// functions are called on the server's thread.
class ApiStream {
 public:
  virtual ~ApiStream() = default;

  virtual StreamQueue& output() = 0;
  // Takes of what the client sends as much as there is room for; the rest is offered again.
  virtual std::size_t take_input(std::string_view input) { return input.size(); }
  // What is sent when there was nothing to send for some time, so that both sides know of each other.
  virtual std::string_view keep_alive() const { return {}; }
};

}  // namespace hum
