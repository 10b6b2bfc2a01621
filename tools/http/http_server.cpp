// SPDX-License-Identifier: Apache-2.0
#include "tools/http/http_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/http_target.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Local = asio::local::stream_protocol;
using Error = boost::system::error_code;

constexpr int backlog = 64;
constexpr std::chrono::milliseconds accept_pause{100};
constexpr std::chrono::milliseconds input_pause{5};  // until what a stream did not take is offered again
constexpr std::chrono::milliseconds leave_patience{1000};
constexpr std::size_t most_leaving = 64;
constexpr std::chrono::milliseconds hang_up_pause{500};  // between looks for the end of who only listens

// A socket that is left over from a process which was killed.
bool is_abandoned(const std::string& path, const UnixAddress& address) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), address.get(), address.size()) != 0 && errno == ECONNREFUSED;
}

Fd listen_at(const HttpServer::Settings& settings) {
  const std::string& path = settings.path;
  const UnixAddress address = UnixAddress::of(settings.option, path);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) throw HostError(errno, "make the API's socket");
  if (::bind(socket.get(), address.get(), address.size()) != 0) {
    const bool again = errno == EADDRINUSE && is_abandoned(path, address) && ::unlink(path.c_str()) == 0;
    if (!again && errno == EADDRINUSE)
      throw ConfigError(settings.option, path, "there is such a file",
                        "give another path, or remove it if no process uses it");
    if (!again || ::bind(socket.get(), address.get(), address.size()) != 0)
      throw HostError(errno, "make the API's socket '" + path + "'",
                      "give " + settings.option + " a path in a folder that can be written");
  }
  if (settings.mode != 0 && ::chmod(path.c_str(), settings.mode) != 0)
    throw HostError(errno, "change the mode of '" + path + "'");
  if (::listen(socket.get(), backlog) != 0) throw HostError(errno, "listen at '" + path + "'");
  return socket;
}

http::response<http::string_body> response_of(const ApiAnswer& answer, const std::string& server,
                                              unsigned version, bool keep_alive) {
  http::response<http::string_body> response(static_cast<http::status>(answer.status), version);
  response.set(http::field::server, server);
  response.keep_alive(keep_alive);
  if (answer.deprecated) response.set("Deprecation", "true");
  for (const auto& [name, value] : answer.headers) response.set(name, value);
  if (answer.status == static_cast<unsigned>(http::status::no_content)) return response;
  response.set(http::field::content_type, answer.content_type);
  response.body() = answer.body;
  response.prepare_payload();
  return response;
}

// What a stream follows: its end is the connection's.
http::response<http::empty_body> head_of(const ApiAnswer& answer, const std::string& server) {
  http::response<http::empty_body> response(static_cast<http::status>(answer.status), 11);
  response.set(http::field::server, server);
  for (const auto& [name, value] : answer.headers) response.set(name, value);
  if (answer.status == static_cast<unsigned>(http::status::switching_protocols)) return response;
  response.set(http::field::content_type, answer.content_type);
  response.set(http::field::cache_control, "no-store");
  response.keep_alive(false);
  return response;
}

ApiRequest request_of(http::request<http::string_body>& request, uid_t peer) {
  const std::string_view given = request.target();
  const std::string_view path = path_in_target(given);
  const std::string_view target = path.empty() ? given : path;
  const std::size_t mark = std::min(target.find('?'), target.size());
  const bool upgrades = http::token_list(request[http::field::connection]).exists("upgrade");
  return {.method = std::string(request.method_string()),
          .path = std::string(target.substr(0, mark)),
          .body = std::move(request.body()),
          .query = std::string(target.substr(std::min(mark + 1, target.size()))),
          .accept = std::string(request[http::field::accept]),
          .upgrade = upgrades ? std::string(request[http::field::upgrade]) : std::string(),
          .last_event_id = std::string(request["Last-Event-ID"]),
          .if_match = std::string(request[http::field::if_match]),
          .idempotency_key = std::string(request["Idempotency-Key"]),
          .peer = peer};
}

// Whether the client has closed its socket, and not only ended its sending.
bool has_hung_up(Local::socket& socket) {
  pollfd entry{.fd = socket.native_handle(), .events = 0, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

asio::awaitable<void> discard_input(Local::socket& socket) {
  Error error;
  std::array<char, 4096> buffer{};
  while (!error)
    co_await socket.async_read_some(asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
}

struct Counted {
  explicit Counted(std::size_t& its_count) : count(++its_count) {}
  ~Counted() { --count; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  std::size_t& count;
};

// Of the process at the other end; nobody's where there is none to be told.
uid_t peer_of(Local::socket& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return static_cast<uid_t>(-1);
  return peer.uid;
}

}  // namespace

struct HttpServer::Parts : std::enable_shared_from_this<HttpServer::Parts> {
  Parts(asio::io_context& its_context, Settings given, Handler handle)
      : settings(std::move(given)), handler(std::move(handle)), context(its_context), acceptor(its_context) {
    if (settings.listener >= 0) {
      acceptor.assign(Local(), settings.listener);
      return;
    }
    Fd listener = listen_at(settings);
    struct stat status{};
    if (::lstat(settings.path.c_str(), &status) == 0) inode = status.st_ino;
    acceptor.assign(Local(), listener.release());
  }

  void close() {
    is_open = false;
    Error ignored;
    acceptor.close(ignored);
    for (StreamQueue* const each : queues) each->on_more({});
    // Not one that has taken its place.
    struct stat status{};
    if (inode != 0 && ::lstat(settings.path.c_str(), &status) == 0 && status.st_ino == inode)
      ::unlink(settings.path.c_str());
  }

  ApiAnswer error_answer(unsigned status, const std::string& text) const {
    return {.status = status, .body = settings.error_body ? settings.error_body(status, text) : text};
  }
  ApiAnswer no_http(const Error& error) const {
    if (error == http::error::body_limit) return error_answer(413, settings.too_long);
    return error_answer(400, "The request is no HTTP/1.1: " + error.message() + ".");
  }

  // Each holds the parts, and they the context's work.
  static asio::awaitable<void> accept(std::shared_ptr<Parts> self);
  static asio::awaitable<void> serve(std::shared_ptr<Parts> self, Local::socket socket, uid_t peer);
  asio::awaitable<std::optional<ApiAnswer>> ask(ApiRequest request);
  asio::awaitable<void> stream(Local::socket& socket, ApiAnswer answer, std::string_view first_input);
  asio::awaitable<void> send_output(Local::socket& socket, ApiStream& stream, asio::steady_timer& timer);
  asio::awaitable<void> take_input(Local::socket& socket, ApiStream& stream, std::string_view first);
  asio::awaitable<void> take_leave(Local::socket& socket);
  void begin_answer();
  void end_answer();

  Settings settings;
  Handler handler;
  bool is_open = true;
  ino_t inode = 0;
  std::size_t connections = 0;
  std::size_t leaving = 0;        // connections that are served no more
  std::set<StreamQueue*> queues;  // of the streams
  std::mutex mutex;               // guards unsent
  std::condition_variable sent;
  std::size_t unsent = 0;  // answers on their way, and streams
  asio::io_context& context;
  Local::acceptor acceptor;
};

asio::awaitable<void> HttpServer::Parts::accept(std::shared_ptr<Parts> self) {
  asio::io_context& context = self->context;
  while (self->is_open) {
    Error error;
    Local::socket socket =
        co_await self->acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
      const uid_t peer = self->settings.asks_peer ? peer_of(socket) : static_cast<uid_t>(-1);
      asio::co_spawn(context, serve(self, std::move(socket), peer), asio::detached);
    } else if (self->is_open) {  // no descriptor is left: another connection may give one back
      asio::steady_timer pause(context, accept_pause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }
}

void HttpServer::Parts::begin_answer() {
  const std::lock_guard lock(mutex);
  ++unsent;
}

void HttpServer::Parts::end_answer() {
  const std::lock_guard lock(mutex);
  --unsent;
  sent.notify_all();
}

asio::awaitable<void> HttpServer::Parts::send_output(Local::socket& socket, ApiStream& stream,
                                                     asio::steady_timer& timer) {
  Error error;
  auto redirected = asio::redirect_error(asio::use_awaitable, error);
  for (;;) {
    std::optional<std::string> text = stream.output().take();
    if (!text) co_return;
    if (text->empty()) {
      timer.expires_after(settings.keep_alive);
      co_await timer.async_wait(redirected);
      if (error) continue;
      text = stream.keep_alive();
    }
    co_await asio::async_write(socket, asio::buffer(*text), redirected);
    if (error) co_return;
  }
}

asio::awaitable<void> HttpServer::Parts::take_input(Local::socket& socket, ApiStream& stream,
                                                    std::string_view first) {
  Error error;
  auto redirected = asio::redirect_error(asio::use_awaitable, error);
  asio::steady_timer pause(context);
  std::array<char, 4096> buffer{};
  for (std::string_view input = first; !error;) {
    while (!input.empty()) {
      input.remove_prefix(stream.take_input(input));
      if (input.empty()) break;
      if (has_hung_up(socket)) co_return;
      pause.expires_after(input_pause);
      co_await pause.async_wait(redirected);
    }
    const std::size_t count = co_await socket.async_read_some(asio::buffer(buffer), redirected);
    input = {buffer.data(), error ? 0 : count};
  }
  while (!has_hung_up(socket)) {
    pause.expires_after(hang_up_pause);
    co_await pause.async_wait(redirected);
  }
}

asio::awaitable<void> HttpServer::Parts::stream(Local::socket& socket, ApiAnswer answer,
                                                std::string_view first_input) {
  using namespace asio::experimental::awaitable_operators;
  Error error;
  const auto head = head_of(answer, settings.name);
  http::serializer<false, http::empty_body> serializer(head);
  co_await http::async_write_header(socket, serializer, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return;
  // Shared with what wakes it, which may come late.
  const auto timer = std::make_shared<asio::steady_timer>(context);
  struct Listening {
    Listening(Parts& its_parts, StreamQueue& its_queue, const std::shared_ptr<asio::steady_timer>& its_timer)
        : parts(its_parts), queue(its_queue) {
      parts.queues.insert(&queue);
      queue.on_more([&context = parts.context, its_timer] {
        asio::post(context, [its_timer] { its_timer->cancel(); });
      });
    }
    ~Listening() {
      queue.on_more({});
      parts.queues.erase(&queue);
    }
    Parts& parts;
    StreamQueue& queue;
  };
  const Listening listening(*this, answer.stream->output(), timer);
  co_await (send_output(socket, *answer.stream, *timer) || take_input(socket, *answer.stream, first_input));
}

// A client that is still writing what is not wanted any more would see an error before the answer: it is
// taken, for a while and of some clients.
asio::awaitable<void> HttpServer::Parts::take_leave(Local::socket& socket) {
  using namespace asio::experimental::awaitable_operators;
  if (leaving >= most_leaving) co_return;
  const Counted counted(leaving);
  Error error;
  socket.shutdown(Local::socket::shutdown_send, error);
  if (error) co_return;
  asio::steady_timer alarm(context, leave_patience);
  co_await (discard_input(socket) || alarm.async_wait(asio::use_awaitable));
}

// The answer may come at once, or whenever it is there.
asio::awaitable<std::optional<ApiAnswer>> HttpServer::Parts::ask(ApiRequest request) {
  struct Pending {
    explicit Pending(asio::io_context& its_context)
        : come(its_context, asio::steady_timer::time_point::max()) {}
    std::optional<ApiAnswer> answer;
    bool is_done = false;
    asio::steady_timer come;
  };
  const auto pending = std::make_shared<Pending>(context);
  handler(std::move(request), [pending](std::optional<ApiAnswer> answer) {
    pending->answer = std::move(answer);
    pending->is_done = true;
    pending->come.cancel();
  });
  while (!pending->is_done) {
    Error error;
    co_await pending->come.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
  co_return std::move(pending->answer);
}

asio::awaitable<void> HttpServer::Parts::serve(std::shared_ptr<Parts> self, Local::socket socket,
                                               uid_t peer) {
  const Settings& settings = self->settings;
  struct Unsent {
    explicit Unsent(Parts& its_parts) : parts(its_parts) { parts.begin_answer(); }
    ~Unsent() { parts.end_answer(); }
    Parts& parts;
  };
  std::optional<Counted> counted(std::in_place, self->connections);
  boost::beast::flat_buffer buffer;
  const bool one_too_many = self->connections > settings.most_connections;
  bool goes_on = true;
  while (goes_on) {
    Error error;
    auto redirected = asio::redirect_error(asio::use_awaitable, error);
    http::request_parser<http::string_body> parser;
    parser.body_limit(settings.most_body_bytes);
    std::optional<ApiAnswer> answer;
    std::optional<Unsent> unsent_answer;
    if (one_too_many) {
      answer = self->error_answer(503, "There are too many connections.");
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
      unsent_answer.emplace(*self);
      if (is_wrong)
        answer = self->no_http(error);
      else if (self->is_open)
        answer = co_await self->ask(request_of(parser.get(), peer));
    }
    if (!answer) co_return;
    if (answer->stream && self->queues.size() >= settings.most_streams)
      answer = self->error_answer(503, "There are too many streams.");
    if (answer->stream) {
      const auto sent_already = buffer.data();
      co_return co_await self->stream(socket, std::move(*answer),
                                      {static_cast<const char*>(sent_already.data()), sent_already.size()});
    }
    const unsigned version = parser.is_header_done() ? parser.get().version() : 11;
    auto response = response_of(*answer, settings.name, version, goes_on);
    http::response_serializer<http::string_body> serializer(response);
    // What follows the head of an answer to HEAD would be taken for the next answer (RFC 9110, 9.3.2).
    if (parser.get().method() == http::verb::head)
      co_await http::async_write_header(socket, serializer, redirected);
    else
      co_await http::async_write(socket, serializer, redirected);
    if (error) co_return;
    if (!goes_on && !parser.is_done()) {
      counted.reset();
      unsent_answer.reset();
      co_return co_await self->take_leave(socket);
    }
  }
}

HttpServer::HttpServer(asio::io_context& context, Settings settings, Handler handler)
    : parts_(std::make_shared<Parts>(context, std::move(settings), std::move(handler))) {
  asio::co_spawn(context, Parts::accept(parts_), asio::detached);
}

HttpServer::~HttpServer() {
  parts_->close();
}

void HttpServer::serve(Fd connection, uid_t peer) {
  Local::socket socket(parts_->context);
  Error error;
  socket.assign(Local(), connection.get(), error);
  if (error) return;  // closed
  connection.release();
  asio::co_spawn(parts_->context, Parts::serve(parts_, std::move(socket), peer), asio::detached);
}

std::size_t HttpServer::unsent() const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->unsent;
}

void HttpServer::finish(std::chrono::milliseconds patience) {
  std::unique_lock lock(parts_->mutex);
  parts_->sent.wait_for(lock, patience, [this] { return parts_->unsent == 0; });
}

}  // namespace hum
