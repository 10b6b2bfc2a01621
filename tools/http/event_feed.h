// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>

#include "tools/http/api_stream.h"

namespace hum {

// What happens to a VM, as server-sent events for any number of clients: those that there have been, as far
// as they are kept, and then each as it comes. A client that is slow is told how many it has missed. publish,
// open and end belong to one thread; the streams go whenever their connections do, also after the feed.
class EventFeed {
 public:
  static constexpr std::size_t most_kept = 256;
  static constexpr std::size_t most_waiting = 256 * 1024;  // bytes, for a client

  // type: a word; data: one JSON value.
  void publish(std::string_view type, const nlohmann::json& data);
  // data: a JSON text on one line.
  void publish_text(std::string_view type, const std::string& data);
  // A client's stream: the events after the one with that number; 0: all that are kept.
  std::shared_ptr<ApiStream> open(std::uint64_t last_seen);
  // There are no more events.
  void end();

 private:
  class Stream;
  struct Event {
    std::uint64_t number;
    std::string text;
  };

  std::deque<Event> kept_;
  std::uint64_t last_ = 0;
  bool ended_ = false;
  struct Streams {
    std::mutex mutex;  // guards the one below
    std::set<Stream*> all;
  };
  std::shared_ptr<Streams> streams_ = std::make_shared<Streams>();
};

}  // namespace hum
