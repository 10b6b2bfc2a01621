// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/http_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "tools/hum-vmm/fault.h"
#include "vmm/base/errors.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Local = asio::local::stream_protocol;
using Error = boost::system::error_code;

constexpr int backlog = 64;
constexpr std::chrono::milliseconds accept_pause{100};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    throw ConfigError("--api-sock", path, "not the path of a socket", "give one of 1 to 107 bytes");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// A socket that is left over from a process which was killed.
bool is_abandoned(const std::string& path, const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), generic(address), sizeof address) != 0 && errno == ECONNREFUSED;
}

Fd listen_at(const std::string& path) {
  const sockaddr_un address = address_of(path);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) throw HostError(errno, "make the API's socket");
  if (::bind(socket.get(), generic(address), sizeof address) != 0) {
    const bool again = errno == EADDRINUSE && is_abandoned(path, address) && ::unlink(path.c_str()) == 0;
    if (!again && errno == EADDRINUSE)
      throw ConfigError("--api-sock", path, "there is such a file",
                        "give another path, or remove it if no process uses it");
    if (!again || ::bind(socket.get(), generic(address), sizeof address) != 0)
      throw HostError(errno, "make the API's socket '" + path + "'",
                      "give --api-sock a path in a folder that can be written");
  }
  if (::listen(socket.get(), backlog) != 0) throw HostError(errno, "listen at '" + path + "'");
  return socket;
}

http::response<http::string_body> response_of(const ApiAnswer& answer, unsigned version, bool keep_alive) {
  http::response<http::string_body> response(static_cast<http::status>(answer.status), version);
  response.set(http::field::server, "Firecracker API");
  response.keep_alive(keep_alive);
  if (answer.deprecated) response.set("Deprecation", "true");
  if (answer.status == static_cast<unsigned>(http::status::no_content)) return response;
  response.set(http::field::content_type, "application/json");
  response.body() = answer.body;
  response.prepare_payload();
  return response;
}

ApiAnswer no_http(const Error& error) {
  if (error == http::error::body_limit)
    return {413, fault_body("The request's body is longer than --http-api-max-payload-size allows.")};
  return {400, fault_body("The request is no HTTP/1.1: " + error.message() + ".")};
}

}  // namespace

struct HttpServer::Parts {
  Parts(Settings given, Handler handle)
      : settings(std::move(given)), handler(std::move(handle)), listener(listen_at(settings.path)) {
    struct stat status{};
    if (::lstat(settings.path.c_str(), &status) == 0) inode = status.st_ino;
    acceptor.assign(Local(), listener.release());
    asio::co_spawn(context, accept(), asio::detached);
    thread = start_thread("hum-api", [this] { context.run(); });
  }

  ~Parts() {
    context.stop();
    thread.join();
    // Not one that has taken its place.
    struct stat status{};
    if (::lstat(settings.path.c_str(), &status) == 0 && status.st_ino == inode)
      ::unlink(settings.path.c_str());
  }

  asio::awaitable<void> accept();
  asio::awaitable<void> serve(Local::socket socket);

  Settings settings;
  Handler handler;
  Fd listener;
  ino_t inode = 0;
  std::size_t connections = 0;
  asio::io_context context{1};  // ends the connections with it
  Local::acceptor acceptor{context};
  std::thread thread;
};

asio::awaitable<void> HttpServer::Parts::accept() {
  for (;;) {
    Error error;
    Local::socket socket = co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
      asio::co_spawn(context, serve(std::move(socket)), asio::detached);
    } else {  // no descriptor is left: another connection may give one back
      asio::steady_timer pause(context, accept_pause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }
}

asio::awaitable<void> HttpServer::Parts::serve(Local::socket socket) {
  struct Counted {
    explicit Counted(std::size_t& its_count) : count(++its_count) {}
    ~Counted() { --count; }
    std::size_t& count;
  };
  const Counted counted(connections);
  boost::beast::flat_buffer buffer;
  const bool one_too_many = connections > settings.most_connections;
  bool goes_on = true;
  while (goes_on) {
    Error error;
    auto redirected = asio::redirect_error(asio::use_awaitable, error);
    http::request_parser<http::string_body> parser;
    parser.body_limit(settings.most_body_bytes);
    std::optional<ApiAnswer> answer;
    if (one_too_many) {
      answer = {503, fault_body("There are too many connections.")};
      goes_on = false;
    } else {
      co_await http::async_read_header(socket, buffer, parser, redirected);
      if (!error && parser.get()[http::field::expect] == "100-continue") {
        http::response<http::empty_body> go_on(http::status::continue_, parser.get().version());
        co_await http::async_write(socket, go_on, redirected);
      }
      if (!error) co_await http::async_read(socket, buffer, parser, redirected);
      const bool is_wrong =
          error && error.category() == http::make_error_code(http::error::end_of_stream).category();
      if (error == http::error::end_of_stream || error == http::error::partial_message ||
          (error && !is_wrong))
        co_return;
      goes_on = !is_wrong && parser.get().keep_alive();
      if (is_wrong) {
        answer = no_http(error);
      } else {
        auto& request = parser.get();
        const std::string_view target = request.target();
        answer = handler({std::string(request.method_string()),
                          std::string(target.substr(0, target.find('?'))), std::move(request.body())});
      }
    }
    if (!answer) co_return;
    const unsigned version = parser.is_header_done() ? parser.get().version() : 11;
    auto response = response_of(*answer, version, goes_on);
    co_await http::async_write(socket, response, redirected);
    if (error) co_return;
  }
}

HttpServer::HttpServer(Settings settings, Handler handler)
    : parts_(std::make_unique<Parts>(std::move(settings), std::move(handler))) {}

HttpServer::~HttpServer() = default;

}  // namespace hum
