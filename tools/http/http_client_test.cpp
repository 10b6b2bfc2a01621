// SPDX-License-Identifier: Apache-2.0
#include "tools/http/http_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <functional>
#include <thread>
#include <utility>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::TemporaryFolder;

constexpr milliseconds short_patience{200};
constexpr milliseconds long_patience{20'000};
constexpr milliseconds spare{5'000};  // for a host that has other things to do
const std::string ok = "HTTP/1.1 200 OK\r\n";

// A server of one connection, which does with it what it is told; ends with the client's.
class Server {
 public:
  using Behaviour = std::function<void(int connection)>;
  explicit Server(Behaviour behaviour) : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const UnixAddress address = UnixAddress::of("path", path());
    REQUIRE(::bind(listener_.get(), address.get(), address.size()) == 0);
    REQUIRE(::listen(listener_.get(), 8) == 0);
    thread_ = std::thread([this, behaviour = std::move(behaviour)] {
      const Fd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (connection) behaviour(connection.get());
    });
  }
  ~Server() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::string path() const { return folder_ / "sock"; }

 private:
  TemporaryFolder folder_;
  Fd listener_;
  std::thread thread_;
};

// False: the client is gone.
bool say(int connection, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::send(connection, text.data(), text.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

void hear_request(int connection) {
  std::string text;
  std::array<char, 4096> piece{};
  while (text.find("\r\n\r\n") == std::string::npos) {
    const ssize_t count = ::recv(connection, piece.data(), piece.size(), 0);
    if (count <= 0) return;
    text.append(piece.data(), static_cast<std::size_t>(count));
  }
}

void wait_for_hang_up(int connection) {
  std::array<char, 4096> piece{};
  while (::recv(connection, piece.data(), piece.size(), 0) > 0) {
  }
}

// Hears a request, answers that, and closes.
Server::Behaviour answering(std::string answer) {
  return [answer = std::move(answer)](int connection) {
    hear_request(connection);
    say(connection, answer);
  };
}

// As answering, and does not close.
Server::Behaviour hanging_after(std::string answer) {
  return [answer = std::move(answer)](int connection) {
    hear_request(connection);
    say(connection, answer);
    wait_for_hang_up(connection);
  };
}

// A byte each time, for ever after that.
Server::Behaviour dripping(std::string answer, milliseconds pause) {
  return [answer = std::move(answer), pause](int connection) {
    hear_request(connection);
    for (std::size_t at = 0;; ++at) {
      if (!say(connection, at < answer.size() ? answer.substr(at, 1) : "x")) return;
      std::this_thread::sleep_for(pause);
    }
  };
}

HttpReply ask(const Server& server, milliseconds patience = long_patience, HttpCall call = {}) {
  return blocking_http_call(server.path(), call, patience);
}

int error_of(const std::function<void()>& asking) {
  try {
    asking();
  } catch (const HostError& error) {
    return error.code().value();
  }
  return 0;
}

}  // namespace

TEST_CASE("an answer is what the server has sent, in whatever pieces it comes") {
  const std::string body = R"({"a": 1})";
  const std::string length = "Content-Length: " + std::to_string(body.size()) + "\r\n";
  const std::string chunked =
      "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n5;x=y\r\n\": 1}\r\n0\r\nT: x\r\n\r\n";
  const std::string headers = "ETag: \"7\"\r\nContent-Type: application/json\r\n";
  for (const std::string& answer :
       {ok + headers + length + "\r\n" + body, ok + headers + "\r\n" + body, ok + headers + chunked}) {
    INFO(answer);
    const auto in_pieces = [&](int connection) {
      hear_request(connection);
      for (const char each : answer) say(connection, std::string(1, each));
    };
    for (const Server::Behaviour& behaviour : {answering(answer), Server::Behaviour(in_pieces)}) {
      const Server server(behaviour);
      const HttpReply reply = ask(server);
      CHECK(reply.status == 200);
      CHECK(reply.body == body);
      CHECK(reply.etag == "\"7\"");
      CHECK(reply.content_type == "application/json");
    }
  }
}

TEST_CASE("where nobody listens, or a file is no socket, a call ends at once with the host's error") {
  const TemporaryFolder folder;
  const auto call = [](const std::string& path) {
    return error_of([&] { blocking_http_call(path, {}, long_patience); });
  };
  CHECK(call(folder / "none") == ENOENT);
  CHECK(call(folder / "none/below") == ENOENT);
  {
    const Fd left(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const UnixAddress address = UnixAddress::of("path", folder / "left");
    REQUIRE(::bind(left.get(), address.get(), address.size()) == 0);
  }
  CHECK(call(folder / "left") == ECONNREFUSED);
  CHECK(call(folder.path()) == ECONNREFUSED);
  CHECK_THROWS_AS(blocking_http_call("/" + std::string(200, 'x'), {}, long_patience), ConfigError);
}

TEST_CASE("a call takes no longer than its patience, wherever the server hangs") {
  const std::string length = "Content-Length: 1000\r\n\r\n";
  const std::pair<const char*, Server::Behaviour> cases[] = {
      {"hears nothing", wait_for_hang_up},
      {"answers nothing", hanging_after("")},
      {"stops in the status line", hanging_after("HTTP/1.")},
      {"stops in the header", hanging_after(ok + "Content-")},
      {"stops in the body", hanging_after(ok + length + "xx")},
      {"stops before the end of a body without a length", hanging_after(ok + "\r\nxx")},
      {"stops in a chunk", hanging_after(ok + "Transfer-Encoding: chunked\r\n\r\n100\r\nxx")},
      {"a byte now and then", dripping(ok + length, milliseconds(20))},
      {"a byte now and then without end", dripping(ok + "\r\n", milliseconds(20))},
  };
  for (const auto& [name, behaviour] : cases) {
    INFO(name);
    const Server server(behaviour);
    const auto begin = steady_clock::now();
    const int error = error_of([&] { ask(server, short_patience); });
    const auto took = steady_clock::now() - begin;
    CHECK(error == ETIMEDOUT);
    CHECK(took >= short_patience - milliseconds(10));
    CHECK(took < short_patience + spare);
  }
}

TEST_CASE("a request that the server does not read ends with the patience, too") {
  const Server server([](int connection) {
    pollfd entry{.fd = connection, .events = POLLRDHUP, .revents = 0};
    ::poll(&entry, 1, 20'000);
  });
  HttpCall call;
  call.method = "POST";
  call.body = std::string(10'000'000, 'x');
  CHECK(error_of([&] { ask(server, short_patience, call); }) == ETIMEDOUT);
}

TEST_CASE("a server that refuses a request before it has read all of it is heard") {
  const Server server([](int connection) {
    say(connection, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    std::array<char, 4096> piece{};
    ::recv(connection, piece.data(), piece.size(), 0);
  });
  HttpCall call;
  call.method = "POST";
  call.body = std::string(10'000'000, 'x');
  const HttpReply reply = ask(server, long_patience, call);
  CHECK(reply.status == 413);
  CHECK(reply.body == "no");
}

TEST_CASE("a server that closes before its answer is whole is told as such") {
  for (const std::string& answer :
       {std::string(), std::string("HTTP/1.1 2"), ok, ok + "Content-Length: 10\r\n\r\nxx",
        ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nxx",
        ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n"}) {
    INFO(answer);
    const Server server(answering(answer));
    CHECK(error_of([&] { ask(server); }) == ECONNRESET);
  }
}

TEST_CASE("what is no HTTP is an error of its own") {
  for (const std::string& answer :
       {std::string("\x01\x02 nothing\r\n\r\n"), std::string("HTTP/9.9 200 OK\r\n\r\n"),
        std::string("HTTP/1.1 abc OK\r\n\r\n"), std::string("HTTP/1.1 99999 OK\r\n\r\n"),
        std::string("HTTP/1.1\r\n\r\n"), std::string("SSH-2.0-x\r\n"), std::string(10'000, 'x'),
        ok + "no colon\r\n\r\n", ok + "Content-Length: -1\r\n\r\n", ok + "Content-Length: x\r\n\r\n",
        ok + "Content-Length: 99999999999999999999\r\n\r\n",
        ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        ok + "X: " + std::string(1'000'000, 'x') + "\r\n\r\n"}) {
    INFO(answer.substr(0, 100));
    const Server server(answering(answer));
    CHECK_THROWS_AS(ask(server), HttpError);
  }
}

TEST_CASE(
    "a body over the largest that a call takes is an error, said or not, and one of that size is none") {
  constexpr std::size_t most = 100'000;
  HttpCall call;
  call.largest_reply = most;
  const auto said = [](std::size_t size) {
    return ok + "Content-Length: " + std::to_string(size) + "\r\n\r\n" + std::string(size, 'x');
  };
  const auto unsaid = [](std::size_t size) { return ok + "\r\n" + std::string(size, 'x'); };
  for (const std::string& answer : {said(most), unsaid(most)}) {
    const Server server(answering(answer));
    CHECK(ask(server, long_patience, call).body.size() == most);
  }
  for (const std::string& answer : {said(most + 1), unsaid(most + 1)}) {
    const Server server(answering(answer));
    CHECK_THROWS_AS(ask(server, long_patience, call), HttpError);
  }
  const Server endless([](int connection) {
    hear_request(connection);
    say(connection, ok + "\r\n");
    while (say(connection, std::string(65536, 'x'))) {
    }
  });
  CHECK_THROWS_AS(ask(endless, long_patience, call), HttpError);
}

TEST_CASE("a stream is taken until it is enough or the server closes, and an error's body is returned") {
  std::string taken;
  const auto take = [&](std::string_view piece) {
    taken += piece;
    return taken.size() < 100;
  };
  {
    const Server server(dripping(ok + "\r\n", milliseconds(0)));
    CHECK(blocking_http_stream(server.path(), {}, take).status == 200);
    CHECK(taken.size() >= 100);
  }
  taken.clear();
  {
    const Server server(answering(ok + "\r\nabc"));
    CHECK(blocking_http_stream(server.path(), {}, take).status == 200);
    CHECK(taken == "abc");
  }
  taken.clear();
  {
    const Server server(answering("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"));
    const HttpReply reply = blocking_http_stream(server.path(), {}, take);
    CHECK(reply.status == 403);
    CHECK(reply.body == "no");
    CHECK(taken.empty());
  }
  {
    const Server server(answering("nothing of that kind\r\n\r\n"));
    CHECK_THROWS_AS(blocking_http_stream(server.path(), {}, take), HttpError);
  }
}

}  // namespace hum
