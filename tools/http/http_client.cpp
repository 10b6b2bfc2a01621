// SPDX-License-Identifier: Apache-2.0
#include "tools/http/http_client.h"

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <memory>
#include <utility>

#include "vmm/base/errors.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Local = asio::local::stream_protocol;
using Error = boost::system::error_code;

http::request<http::string_body> request_of(const HttpCall& call) {
  http::request<http::string_body> request;
  request.version(11);
  request.method_string(call.method);
  request.target(call.target);
  request.set(http::field::host, "localhost");
  request.set(http::field::user_agent, "hum");
  request.keep_alive(false);
  if (!call.if_match.empty()) request.set(http::field::if_match, call.if_match);
  if (!call.idempotency_key.empty()) request.set("Idempotency-Key", call.idempotency_key);
  if (!call.body.empty()) request.set(http::field::content_type, "application/json");
  request.body() = call.body;
  request.prepare_payload();
  return request;
}

HttpReply reply_of(http::response<http::string_body>&& response) {
  return {.status = response.result_int(),
          .body = std::move(response.body()),
          .content_type = std::string(response[http::field::content_type]),
          .etag = std::string(response[http::field::etag])};
}

[[noreturn]] void fail(const Error& error, const std::string& socket) {
  const bool garbled = error.category() == http::make_error_code(http::error::end_of_stream).category();
  if (garbled && error != http::error::end_of_stream && error != http::error::partial_message)
    throw HttpError("what '" + socket + "' answers is no HTTP: " + error.message());
  const int number = garbled || error == asio::error::eof ? ECONNRESET : error.value();
  throw HostError(number, "ask '" + socket + "'");
}

using Connection = std::shared_ptr<Local::socket>;

// connect: there is none to that path yet.
asio::awaitable<HttpReply> exchange(Connection connection, bool connect, std::string name, HttpCall call,
                                    std::chrono::milliseconds patience) {
  // Shared with the alarm, which may go off late.
  const auto timed_out = std::make_shared<bool>(false);
  asio::steady_timer alarm(connection->get_executor(), patience);
  alarm.async_wait([connection, timed_out](const Error& cancelled) {
    if (cancelled) return;
    *timed_out = true;
    Error ignored;
    connection->close(ignored);
  });
  Error error;
  auto redirected = asio::redirect_error(asio::use_awaitable, error);
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(call.largest_reply);
  const auto request = request_of(call);
  if (connect) co_await connection->async_connect(Local::endpoint(name), redirected);
  if (!error) co_await http::async_write(*connection, request, redirected);
  // Whoever refuses a request may close before it has read all of it: what it says counts.
  if (!error || error == asio::error::broken_pipe)
    co_await http::async_read(*connection, buffer, parser, redirected);
  alarm.cancel();
  if (*timed_out) throw HostError(ETIMEDOUT, "ask '" + name + "'");
  if (error) fail(error, name);
  co_return reply_of(parser.release());
}

HttpReply stream(Local::socket& connection, const std::string& name, const HttpCall& call,
                 const std::function<bool(std::string_view piece)>& take) {
  Error error;
  boost::beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  http::write(connection, request_of(call), error);
  if (!error) http::read_header(connection, buffer, parser, error);
  if (error) fail(error, name);
  HttpReply reply{.status = parser.get().result_int()};
  std::array<char, 16384> piece;
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    http::read_some(connection, buffer, parser, error);
    const std::string_view come(piece.data(), piece.size() - parser.get().body().size);
    if (reply.status != 200)
      reply.body += come;
    else if (!come.empty() && !take(come))
      return reply;
    if (error == http::error::need_buffer) error = {};
    if (error == http::error::end_of_stream || error == http::error::partial_message) break;
    if (error) fail(error, name);
  }
  return reply;
}

}  // namespace

asio::awaitable<HttpReply> http_call(std::string socket, HttpCall call, std::chrono::milliseconds patience) {
  UnixAddress::of("socket", socket);  // checks its length
  auto connection = std::make_shared<Local::socket>(co_await asio::this_coro::executor);
  co_return co_await exchange(std::move(connection), true, std::move(socket), std::move(call), patience);
}

HttpReply blocking_http_call(const std::string& socket, const HttpCall& call,
                             std::chrono::milliseconds patience) {
  asio::io_context context{1};
  auto reply = asio::co_spawn(context, http_call(socket, call, patience), asio::use_future);
  context.run();
  return reply.get();
}

HttpReply blocking_http_call(Fd connection, const std::string& name, const HttpCall& call,
                             std::chrono::milliseconds patience) {
  asio::io_context context{1};
  auto socket = std::make_shared<Local::socket>(context, Local(), connection.release());
  auto reply =
      asio::co_spawn(context, exchange(std::move(socket), false, name, call, patience), asio::use_future);
  context.run();
  return reply.get();
}

HttpReply blocking_http_stream(const std::string& socket, const HttpCall& call,
                               const std::function<bool(std::string_view piece)>& take) {
  UnixAddress::of("socket", socket);  // checks its length
  asio::io_context context{1};
  Local::socket connection(context);
  Error error;
  connection.connect(Local::endpoint(socket), error);
  if (error) fail(error, socket);
  return stream(connection, socket, call, take);
}

HttpReply blocking_http_stream(Fd connection, const std::string& name, const HttpCall& call,
                               const std::function<bool(std::string_view piece)>& take) {
  asio::io_context context{1};
  Local::socket socket(context, Local(), connection.release());
  return stream(socket, name, call, take);
}

}  // namespace hum
