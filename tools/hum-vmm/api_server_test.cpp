// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/api_server.h"

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <list>
#include <optional>
#include <random>
#include <thread>

#include "tools/hum-vmm/testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

using testing::ApiClient;
using testing::TemporaryFolder;

// Answers with what it was asked.
ApiAnswer echo(const ApiRequest& request) {
  if (request.path == "/nothing") return {};
  return {200, request.method + " " + request.path + " " + request.body};
}

struct World {
  explicit World(const HttpServer::Settings& limits = api_server_settings("")) {
    HttpServer::Settings settings = api_server_settings(folder / "api", limits.most_body_bytes);
    settings.most_connections = limits.most_connections;
    settings.most_streams = limits.most_streams;
    settings.keep_alive = limits.keep_alive;
    server.emplace(settings, [this](const ApiRequest& request) -> std::optional<ApiAnswer> {
      ++calls;
      if (request.path == "/close") return {};
      return echo(request);
    });
  }
  ApiClient client() const { return ApiClient(folder / "api"); }

  TemporaryFolder folder;
  std::atomic<unsigned> calls = 0;
  std::optional<HttpThread> server;
};

}  // namespace

TEST_CASE("a connection serves one request after the other") {
  const World world;
  ApiClient client = world.client();
  for (const char* const body : {"{}", "", "[1, 2]"}) {
    const auto answer = client.call("PUT", "/some/path", body);
    REQUIRE(answer);
    CHECK(answer->status == 200);
    CHECK(answer->body == std::string("PUT /some/path ") + body);
    CHECK(client.headers.find("Server: Firecracker API\r\n") != std::string::npos);
    CHECK(client.headers.find("Content-Type: application/json\r\n") != std::string::npos);
  }
}

TEST_CASE("an answer without content says nothing of a length") {
  const World world;
  ApiClient client = world.client();
  const auto answer = client.call("PUT", "/nothing", "{}");
  REQUIRE(answer);
  CHECK(answer->status == 204);
  CHECK(client.headers.find("Content-Length") == std::string::npos);
  CHECK(client.call("GET", "/again")->body == "GET /again ");
}

TEST_CASE("a query is no part of the path, and some headers are handed on") {
  const TemporaryFolder folder;
  ApiRequest seen;
  std::mutex mutex;
  const HttpThread server(api_server_settings(folder / "api"),
                          [&](ApiRequest request) -> std::optional<ApiAnswer> {
                            const std::lock_guard lock(mutex);
                            seen = std::move(request);
                            return ApiAnswer{};
                          });
  ApiClient client(folder / "api");
  client.send(
      "GET /version?x=1 HTTP/1.1\r\nAccept: text/plain\r\nConnection: keep-alive, Upgrade\r\n"
      "Upgrade: some-thing\r\nLast-Event-ID: 7\r\n\r\n");
  REQUIRE(client.answer());
  {
    const std::lock_guard lock(mutex);
    CHECK(seen.path == "/version");
    CHECK(seen.query == "x=1");
    CHECK(seen.accept == "text/plain");
    CHECK(seen.upgrade == "some-thing");
    CHECK(seen.last_event_id == "7");
  }
  client.send("GET /? HTTP/1.1\r\nUpgrade: not-asked-for\r\n\r\n");
  REQUIRE(client.answer());
  const std::lock_guard lock(mutex);
  CHECK(seen.path == "/");
  CHECK(seen.query.empty());
  CHECK(seen.upgrade.empty());
}

TEST_CASE("a path is found behind a scheme and a host, too") {
  const World world;
  ApiClient client = world.client();
  CHECK(client.call("GET", "http://localhost/version")->body == "GET /version ");
  CHECK(client.call("GET", "http://localhost/version?x=http://y/z")->body == "GET /version ");
  for (const char* const other : {"http://localhost", "https://localhost/version", "version", "*"})
    CHECK(client.call("GET", other)->body == std::string("GET ") + other + " ");
}

TEST_CASE("an answer to HEAD is its head, and the next one follows") {
  const World world;
  ApiClient client = world.client();
  client.send("HEAD", "/some/path", "");
  CHECK(client.stream_until("\r\n\r\n").find("Content-Length: 16\r\n") != std::string::npos);
  client.send("GET", "/next", "");
  CHECK(client.stream_until("\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_CASE("requests that were sent at once are answered in their order") {
  const World world;
  ApiClient client = world.client();
  for (int i = 0; i < 20; ++i) client.send("PUT", "/" + std::to_string(i), "{}");
  for (int i = 0; i < 20; ++i) CHECK(client.answer()->body == "PUT /" + std::to_string(i) + " {}");
}

TEST_CASE("a client that is slow to send holds up nobody") {
  const World world;
  ApiClient slow = world.client();
  slow.send("PUT /slow HTTP/1.1\r\nContent-Length: 4\r\n\r\n{");
  CHECK(world.client().call("GET", "/other")->body == "GET /other ");
  CHECK(world.calls == 1);
  slow.send("\"\"}");
  CHECK(slow.answer()->body == "PUT /slow {\"\"}");
}

TEST_CASE("a client that waits to be asked for its body is asked") {
  const World world;
  ApiClient client = world.client();
  client.send("PUT /long HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  CHECK(client.answer()->status == 100);
  client.send("{}");
  CHECK(client.answer()->body == "PUT /long {}");
}

TEST_CASE("a client that has ended its sending gets its answer, and then the end") {
  const World world;
  ApiClient client = world.client();
  client.send("GET", "/last", "");
  client.end_sending();
  CHECK(client.answer()->body == "GET /last ");
  CHECK(client.closed());
}

TEST_CASE("a client that ends within a request is let go") {
  const World world;
  {
    ApiClient client = world.client();
    client.send("PUT /cut HTTP/1.1\r\nContent-Length: 400\r\n\r\n{");
    client.end_sending();
    CHECK(client.closed());
  }
  CHECK(world.calls == 0);
  CHECK(world.client().call("GET", "/next")->status == 200);
}

TEST_CASE("a body may be as long as allowed and no longer") {
  const World world({.path = {}, .most_body_bytes = 100, .most_connections = 4});
  ApiClient client = world.client();
  CHECK(client.call("PUT", "/a", std::string(100, ' '))->status == 200);
  const auto refused = client.call("PUT", "/a", std::string(101, ' '));
  REQUIRE(refused);
  CHECK(refused->status == 413);
  CHECK(refused->body.find("fault_message") != std::string::npos);
  CHECK(world.calls == 1);
  CHECK(world.client().call("GET", "/b")->status == 200);
}

TEST_CASE("a body without a length may be as long as allowed and no longer") {
  const World world({.path = {}, .most_body_bytes = 100, .most_connections = 4});
  const auto chunked = [](std::size_t bytes) {
    std::string text = "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (; bytes != 0; --bytes) text += "1\r\nx\r\n";
    return text + "0\r\n\r\n";
  };
  ApiClient client = world.client();
  client.send(chunked(100));
  CHECK(client.answer()->body == "PUT /a " + std::string(100, 'x'));
  client.send(chunked(101));
  CHECK(client.answer()->status == 413);
  CHECK(world.calls == 1);
}

TEST_CASE(
    "a client that writes far more than is taken, or comes when there is no room, reads the answer without "
    "an error") {
  const World world({.path = {}, .most_body_bytes = 100, .most_connections = 1});
  const bool is_full = GENERATE(false, true);
  std::optional<ApiClient> other;
  if (is_full) {
    other.emplace(world.client());
    CHECK(other->call("GET", "/a")->status == 200);
  }
  ApiClient client = world.client();
  // More than a socket holds, in pieces with time between them.
  client.send("PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
  const std::string piece(100'000, 'x');
  bool is_sent = true;
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    is_sent = is_sent && client.try_send(piece);
  }
  CHECK(is_sent);
  const auto answer = client.answer();
  REQUIRE(answer);
  CHECK(answer->status == (is_full ? 503 : 413));
  CHECK(client.closed());
}

TEST_CASE("a header without an end is refused, and a name or a line of it as long as it likes") {
  const World world;
  const std::string text =
      GENERATE("GET /" + std::string(100'000, 'a'), "GET / HTTP/1.1\r\nX: " + std::string(100'000, 'a'),
               "GET / HTTP/1.1\r\n" + std::string(100'000, 'a'));
  ApiClient client = world.client();
  client.send(text);
  const auto answer = client.answer();
  REQUIRE(answer);
  CHECK(answer->status == 400);
  CHECK(world.calls == 0);
  CHECK(world.client().call("GET", "/b")->status == 200);
}

TEST_CASE("what is no HTTP is told so and its connection closed") {
  const World world;
  const auto* const text = GENERATE("hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n",
                                    "PUT /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                                    "PUT /a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n");
  ApiClient client = world.client();
  client.send(text);
  const auto answer = client.answer();
  REQUIRE(answer);
  CHECK((answer->status == 400 || answer->status == 413));
  CHECK(client.closed());
  CHECK(world.calls == 0);
}

TEST_CASE("ten thousand requests of garbage leave a server that serves") {
  const World world;
  std::mt19937 random(1);
  for (int connection = 0; connection < 10'000; ++connection) {
    const ApiClient client = world.client();
    std::string text;
    for (int i = 0; i < 2; ++i) {
      for (auto length = random() % 40; length != 0; --length) text += static_cast<char>(random());
      text += "\r\n\r\n";
    }
    client.send(text);
  }
  CHECK(world.client().call("GET", "/alive")->body == "GET /alive ");
}

TEST_CASE("more connections than allowed are told so") {
  const World world({.path = {}, .most_body_bytes = 100, .most_connections = 2});
  std::list<ApiClient> clients;
  for (int i = 0; i < 2; ++i)
    CHECK(clients.emplace_back(world.folder / "api").call("GET", "/")->status == 200);
  ApiClient third = world.client();
  third.send("GET", "/", "");
  CHECK(third.answer()->status == 503);
  clients.pop_back();
  bool served = false;
  for (int tries = 0; tries < 1000 && !served; ++tries) {  // until the server has seen the end
    ApiClient again = world.client();
    const auto answer = again.call("GET", "/");
    served = answer && answer->status == 200;
  }
  CHECK(served);
}

TEST_CASE("a request without an answer ends its connection only") {
  const World world;
  ApiClient client = world.client();
  client.send("GET", "/close", "");
  CHECK(client.closed());
  CHECK(world.client().call("GET", "/")->status == 200);
}

TEST_CASE("the socket of a process that was killed is taken over, one that is served and a file are not") {
  const TemporaryFolder folder;
  const std::string path = folder / "api";
  const auto serve = [&] { return HttpThread(api_server_settings(path), echo); };
  {
    const Fd left(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const UnixAddress address = UnixAddress::of("path", path);
    REQUIRE(::bind(left.get(), address.get(), address.size()) == 0);
  }
  {
    const HttpThread server(api_server_settings(path), echo);
    CHECK(ApiClient(path).call("GET", "/")->status == 200);
    CHECK_THROWS_AS(serve(), ConfigError);
    CHECK(ApiClient(path).call("GET", "/")->status == 200);
  }
  CHECK_FALSE(std::filesystem::exists(path));
  std::ofstream(path) << "precious";
  CHECK_THROWS_AS(serve(), ConfigError);
  CHECK(std::filesystem::file_size(path) == 8);
}

TEST_CASE("a socket's path that is too long, or in no folder, is an error") {
  CHECK_THROWS_AS(HttpThread(api_server_settings(std::string(108, 'a')), echo), ConfigError);
  CHECK_THROWS_AS(HttpThread(api_server_settings(""), echo), ConfigError);
  CHECK_THROWS_AS(HttpThread(api_server_settings("/no-such-folder/api"), echo), HostError);
}

}  // namespace hum
