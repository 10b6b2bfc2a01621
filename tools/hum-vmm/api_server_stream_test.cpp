// SPDX-License-Identifier: Apache-2.0
// Connections that go on as streams.
#include <atomic>
#include <chrono>
#include <list>
#include <mutex>
#include <set>
#include <thread>

#include "tools/hum-vmm/api_server.h"
#include "tools/hum-vmm/testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::ApiClient;
using testing::TemporaryFolder;

constexpr const char* ask = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";

// Streams that all get the same, and say what they were sent themselves.
class Source {
 public:
  class Stream final : public ApiStream {
   public:
    explicit Stream(Source& source) : source_(source) {
      const std::lock_guard lock(source_.mutex_);
      source_.streams_.insert(this);
    }
    ~Stream() override {
      const std::lock_guard lock(source_.mutex_);
      source_.streams_.erase(this);
    }
    StreamQueue& output() override { return queue_; }
    std::string_view keep_alive() const override { return "(alive)"; }
    std::size_t take_input(std::string_view input) override {
      if (source_.takes_none) return 0;
      queue_.push("[" + std::string(input.substr(0, 4)) + "]");
      return std::min<std::size_t>(4, input.size());
    }

   private:
    Source& source_;
    StreamQueue queue_{1 << 16, [](std::uint64_t lost) { return "<" + std::to_string(lost) + ">"; }};
  };

  void push(std::string_view text) {
    const std::lock_guard lock(mutex_);
    for (Stream* const each : streams_) each->output().push(text);
  }
  void end() {
    const std::lock_guard lock(mutex_);
    for (Stream* const each : streams_) each->output().end();
  }
  std::size_t count() {
    const std::lock_guard lock(mutex_);
    return streams_.size();
  }
  bool comes_to(std::size_t wanted) {
    for (int tries = 0; tries < 10'000 && count() != wanted; ++tries)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return count() == wanted;
  }

  std::atomic<bool> takes_none = false;

 private:
  std::mutex mutex_;
  std::set<Stream*> streams_;
};

struct World {
  explicit World(const HttpServer::Settings& limits = api_server_settings("")) {
    HttpServer::Settings settings = api_server_settings(folder / "api", limits.most_body_bytes);
    settings.most_connections = limits.most_connections;
    settings.most_streams = limits.most_streams;
    settings.keep_alive = limits.keep_alive;
    server.emplace(settings, [this](const ApiRequest& request) -> std::optional<ApiAnswer> {
      if (request.path == "/stream")
        return ApiAnswer{.status = 200,
                         .content_type = "text/event-stream",
                         .stream = std::make_shared<Source::Stream>(source)};
      if (request.path == "/raw")
        return ApiAnswer{.status = 101,
                         .headers = {{"Upgrade", "raw"}, {"Connection", "Upgrade"}},
                         .stream = std::make_shared<Source::Stream>(source)};
      return ApiAnswer{200, "{}"};
    });
  }
  ApiClient client() const { return ApiClient(folder / "api"); }

  TemporaryFolder folder;
  Source source;
  std::optional<HttpThread> server;
};

}  // namespace

TEST_CASE("a stream sends what comes until it ends, and its end is the connection's") {
  World world;
  ApiClient client = world.client();
  client.send(ask);
  const auto answer = client.answer();
  REQUIRE(answer);
  CHECK(answer->status == 200);
  CHECK(client.headers.find("Content-Type: text/event-stream\r\n") != std::string::npos);
  CHECK(client.headers.find("Connection: close\r\n") != std::string::npos);
  CHECK(client.headers.find("Content-Length") == std::string::npos);
  for (int i = 0; i < 100; ++i) {
    world.source.push("piece " + std::to_string(i) + ".");
    CHECK(client.stream_until(".") == "piece " + std::to_string(i) + ".");
  }
  world.source.end();
  CHECK(client.closed());
}

TEST_CASE("a raw stream goes both ways, and begins with what was sent behind its request") {
  World world;
  ApiClient client = world.client();
  client.send("GET /raw HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nearly");
  const auto answer = client.answer();
  REQUIRE(answer);
  CHECK(answer->status == 101);
  CHECK(client.headers.find("Upgrade: raw\r\n") != std::string::npos);
  CHECK(client.stream_until("[y]") == "[earl][y]");
  client.send("more");
  CHECK(client.stream_until("]") == "[more]");
  world.source.push("output");
  CHECK(client.stream_until("put") == "output");
}

TEST_CASE("a client that has ended its sending goes on listening, one that has gone is forgotten") {
  World world;
  {
    ApiClient client = world.client();
    client.send(ask);
    client.end_sending();
    REQUIRE(client.answer());
    world.source.push("still here.");
    CHECK(client.stream_until(".") == "still here.");
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    world.source.push("and now.");
    CHECK(client.stream_until(".") == "and now.");
    CHECK(world.source.count() == 1);
  }
  CHECK(world.source.comes_to(0));
  {
    ApiClient client = world.client();
    client.send(ask);
    REQUIRE(client.answer());
  }
  CHECK(world.source.comes_to(0));
}

TEST_CASE("a stream that is quiet says that it is there") {
  World world({.path = {}, .keep_alive = std::chrono::milliseconds(20)});
  ApiClient client = world.client();
  client.send(ask);
  REQUIRE(client.answer());
  for (int i = 0; i < 3; ++i) CHECK(client.stream_until(")") == "(alive)");
  world.source.push("x.");
  CHECK(client.stream_until(".").find("x.") != std::string::npos);
}

TEST_CASE("a client that does not read, or whose input nobody takes, holds up nobody") {
  World world;
  ApiClient slow = world.client();
  slow.send(ask);
  REQUIRE(slow.answer());
  ApiClient quick = world.client();
  quick.send(ask);
  REQUIRE(quick.answer());
  const std::string piece(10'000, 'x');
  for (int i = 0; i < 1000; ++i) {
    world.source.push(piece + ".");
    REQUIRE(quick.stream_until(".").size() == piece.size() + 1);
  }
  world.source.takes_none = true;
  quick.send("nobody takes that");
  world.source.push("end.");
  CHECK(quick.stream_until("end.") == "end.");
  CHECK(world.client().call("GET", "/other")->status == 200);
  const std::string got = slow.stream_until("<");
  CHECK(got.size() > 1 << 16);
  CHECK(got.back() == '<');  // of a gap
}

TEST_CASE("a client that has gone is forgotten, though nobody has taken all that it sent") {
  World world;
  world.source.takes_none = true;
  {
    ApiClient client = world.client();
    client.send(ask);
    REQUIRE(client.answer());
    client.send("nobody takes that");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // it was read by now, most of the time
    CHECK(world.source.count() == 1);
  }
  CHECK(world.source.comes_to(0));
}

TEST_CASE("streams leave some connections to requests, and more of them are told so") {
  World world({.path = {}, .most_connections = 4, .most_streams = 2});
  std::list<ApiClient> streams;
  for (int i = 0; i < 2; ++i) {
    streams.emplace_back(world.folder / "api").send(ask);
    REQUIRE(streams.back().answer());
  }
  ApiClient third = world.client();
  third.send(ask);
  CHECK(third.answer()->status == 503);
  CHECK(third.call("GET", "/other")->status == 200);
  CHECK(world.source.count() == 2);
  streams.pop_front();
  REQUIRE(world.source.comes_to(1));
  third.send(ask);
  CHECK(third.answer()->status == 200);
}

TEST_CASE("a server that finishes waits for its streams' ends, but for no client that does not read") {
  World world;
  ApiClient quick = world.client();
  ApiClient slow = world.client();
  for (ApiClient* const each : {&quick, &slow}) {
    each->send(ask);
    REQUIRE(each->answer());
  }
  const std::string much(60'000, 'x');
  for (int i = 0; i < 20; ++i) {
    world.source.push(much + ".");
    REQUIRE(quick.stream_until(".").size() == much.size() + 1);
  }
  world.source.push("last words");
  world.source.end();
  const auto begin = std::chrono::steady_clock::now();
  world.server->finish(std::chrono::milliseconds(50));
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(50));
  CHECK(quick.stream_until("words") == "last words");
  CHECK(quick.closed());
  std::thread reader([&] { slow.stream_until("never"); });
  world.server->finish(std::chrono::seconds(20));
  reader.join();
  CHECK(world.source.count() == 0);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
}

TEST_CASE("a server may end while streams are open and pushed to") {
  World world;
  std::list<ApiClient> clients;
  for (int i = 0; i < 5; ++i) {
    clients.emplace_back(world.folder / "api").send(ask);
    REQUIRE(clients.back().answer());
  }
  std::atomic<bool> goes_on = true;
  std::thread pusher([&] {
    while (goes_on) world.source.push("x");
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  world.server.reset();
  goes_on = false;
  pusher.join();
  CHECK(world.source.count() == 0);
}

}  // namespace hum
