// SPDX-License-Identifier: Apache-2.0
#include "tools/http/event_feed.h"

#include <nlohmann/json.hpp>

#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;

std::string event(int number, const std::string& type, const std::string& data) {
  return "id: " + std::to_string(number) + "\nevent: " + type + "\ndata: " + data + "\n\n";
}

}  // namespace

TEST_CASE("a client sees what has happened and what happens, each event with its number") {
  EventFeed feed;
  feed.publish("state", {{"state", "running"}});
  const auto stream = feed.open(0);
  CHECK(stream->output().take() == event(1, "state", R"({"state":"running"})"));
  feed.publish("end", "with\na line end");
  CHECK(stream->output().take() == event(2, "end", R"("with\na line end")"));
  feed.end();
  CHECK_FALSE(stream->output().take());
}

TEST_CASE("a client that comes again goes on behind what it has seen") {
  EventFeed feed;
  for (int i = 1; i <= 3; ++i) feed.publish("x", i);
  CHECK(feed.open(1)->output().take() == event(2, "x", "2") + event(3, "x", "3"));
  CHECK(feed.open(3)->output().take() == "");
  CHECK(feed.open(UINT64_MAX)->output().take() == "");
  feed.end();
  CHECK(feed.open(2)->output().take() == event(3, "x", "3"));
  CHECK_FALSE(feed.open(3)->output().take());
}

TEST_CASE("a client that comes late is told how many events are no longer kept") {
  EventFeed feed;
  const int count = static_cast<int>(EventFeed::most_kept) + 10;
  for (int i = 1; i <= count; ++i) feed.publish("x", i);
  const auto from = [&](std::uint64_t last) { return feed.open(last)->output().take().value(); };
  CHECK(from(0).find("event: gap\ndata: {\"lost\":10}\n\n" + event(11, "x", "11")) == 0);
  CHECK(from(9).find("event: gap\ndata: {\"lost\":1}\n\n" + event(11, "x", "11")) == 0);
  CHECK(from(10).find(event(11, "x", "11")) == 0);
}

TEST_CASE("a client that does not read is told how many it has missed, and holds up nobody") {
  EventFeed feed;
  const auto slow = feed.open(0);
  const auto quick = feed.open(0);
  const std::string text(1000, 'x');
  for (int i = 0; i < 1000; ++i) {
    feed.publish("x", text);
    CHECK(quick->output().take()->size() > text.size());
  }
  const std::string all = slow->output().take().value();
  CHECK(all.size() <= EventFeed::most_waiting + 100);
  const std::size_t mark = all.find("event: gap\ndata: {\"lost\":");
  REQUIRE(mark != std::string::npos);
  std::size_t got = 0;
  for (std::size_t at = 0; (at = all.find("id: ", at)) != std::string::npos; ++at) ++got;
  CHECK(std::stoul(all.substr(mark + 25)) == 1000 - got);
}

TEST_CASE("a client that has gone is forgotten") {
  EventFeed feed;
  feed.open(0).reset();
  feed.publish("x", 1);
  feed.end();
  CHECK(feed.open(0)->output().take() == event(1, "x", "1"));
}

TEST_CASE("a stream may outlive its feed") {
  std::shared_ptr<ApiStream> stream;
  {
    EventFeed feed;
    feed.publish("a", {});
    stream = feed.open(0);
    feed.end();
  }
  CHECK(stream.use_count() == 1);
  stream.reset();
}

}  // namespace hum
