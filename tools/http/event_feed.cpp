// SPDX-License-Identifier: Apache-2.0
#include "tools/http/event_feed.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace hum {
namespace {

using nlohmann::json;

// https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.5: a JSON text on one line has no line
// ends. A gap has no number: the client is still behind the event before it.
std::string gap(std::uint64_t lost) {
  return "event: gap\ndata: " + json{{"lost", lost}}.dump() + "\n\n";
}

}  // namespace

class EventFeed::Stream final : public ApiStream {
 public:
  explicit Stream(std::shared_ptr<Streams> streams)
      : streams_(std::move(streams)), queue_(most_waiting, gap) {
    const std::lock_guard lock(streams_->mutex);
    streams_->all.insert(this);
  }
  ~Stream() override {
    const std::lock_guard lock(streams_->mutex);
    streams_->all.erase(this);
  }

  StreamQueue& output() override { return queue_; }
  std::string_view keep_alive() const override { return ":\n\n"; }

 private:
  const std::shared_ptr<Streams> streams_;
  StreamQueue queue_;
};

void EventFeed::publish(std::string_view type, const json& data) {
  publish_text(type, data.dump(-1, ' ', false, json::error_handler_t::replace));
}

void EventFeed::publish_text(std::string_view type, const std::string& data) {
  const std::uint64_t number = ++last_;
  kept_.push_back({number, "id: " + std::to_string(number) + "\nevent: " + std::string(type) +
                               "\ndata: " + data + "\n\n"});
  if (kept_.size() > most_kept) kept_.pop_front();
  const std::lock_guard lock(streams_->mutex);
  for (Stream* const each : streams_->all) each->output().push(kept_.back().text);
}

std::shared_ptr<ApiStream> EventFeed::open(std::uint64_t last_seen) {
  auto stream = std::make_shared<Stream>(streams_);
  if (!kept_.empty() && last_seen < kept_.front().number - 1)
    stream->output().push(gap(kept_.front().number - 1 - last_seen));
  for (const Event& each : kept_)
    if (each.number > last_seen) stream->output().push(each.text);
  if (ended_) stream->output().end();
  return stream;
}

void EventFeed::end() {
  ended_ = true;
  const std::lock_guard lock(streams_->mutex);
  for (Stream* const each : streams_->all) each->output().end();
}

}  // namespace hum
