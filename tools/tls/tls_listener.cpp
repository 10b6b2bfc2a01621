// SPDX-License-Identifier: Apache-2.0
#include "tools/tls/tls_listener.h"

#include <openssl/x509.h>
#include <pwd.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/verify_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdio>
#include <thread>
#include <utility>

#include "tools/tls/tcp_address.h"
#include "tools/tls/tls_carry.h"
#include "vmm/base/errors.h"
#include "vmm/base/event_loop.h"

namespace hum {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using Local = asio::local::stream_protocol;
using Tcp = asio::ip::tcp;
using Error = boost::system::error_code;
using std::chrono::steady_clock;

constexpr int backlog = 64;
constexpr std::chrono::milliseconds accept_pause{100};
constexpr std::chrono::seconds telling_pause{1};  // at least, between lines about clients that were refused
// A client that went without a word is noticed within two minutes.
constexpr int silence = 60;
constexpr int probe_pause = 15;
constexpr int probes = 4;

// As /etc/passwd has it: a static program cannot load other places that a host may have users from.
std::optional<uid_t> local_user(const std::string& name) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen("/etc/passwd", "re"), &std::fclose);
  if (!file) return {};
  while (const passwd* const entry = ::fgetpwent(file.get()))
    if (name == entry->pw_name) return entry->pw_uid;
  return {};
}

std::vector<std::string> common_names(const X509* certificate) {
  std::vector<std::string> names;
  const X509_NAME* const subject = ::X509_get_subject_name(certificate);
  for (int at = -1; (at = ::X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
    unsigned char* text = nullptr;
    const int length =
        ::ASN1_STRING_to_UTF8(&text, ::X509_NAME_ENTRY_get_data(::X509_NAME_get_entry(subject, at)));
    // One that cannot be read is none of the administrator's.
    names.emplace_back(
        length < 0 ? "user:" : std::string(reinterpret_cast<char*>(text), static_cast<std::size_t>(length)));
    if (length >= 0) ::OPENSSL_free(text);
  }
  return names;
}

void watch_silence(Tcp::socket& socket) {
  const int number = socket.native_handle();
  const auto set = [&](int level, int option, int value) {
    ::setsockopt(number, level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, silence);
  set(IPPROTO_TCP, TCP_KEEPINTVL, probe_pause);
  set(IPPROTO_TCP, TCP_KEEPCNT, probes);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
}

struct Counted {
  explicit Counted(std::size_t& its_count) : count(++its_count) {}
  ~Counted() { --count; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  std::size_t& count;
};

}  // namespace

std::optional<uid_t> user_of_names(const std::vector<std::string>& names, uid_t administrator) {
  constexpr std::string_view mark = "user:";
  if (names.size() > 1) return {};
  if (names.empty() || !names.front().starts_with(mark)) return administrator;
  return local_user(names.front().substr(mark.size()));
}

struct TlsListener::Parts {
  explicit Parts(Settings given)
      : settings(std::move(given)),
        tls(make_tls_context(TlsSide::server, settings.files)),
        acceptor(context) {
    // A client that is nobody learns it from its handshake.
    tls.set_verify_callback([this](bool is_good, ssl::verify_context& verified) {
      X509_STORE_CTX* const store = verified.native_handle();
      if (!is_good || ::X509_STORE_CTX_get_error_depth(store) != 0) return is_good;
      if (user_of(::X509_STORE_CTX_get_current_cert(store))) return true;
      ::X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
      return false;
    });
    const TcpAddress address = TcpAddress::parse("--listen", settings.address);
    Error error;
    const Tcp::endpoint endpoint(asio::ip::make_address(address.host, error), address.port);
    if (error) throw ConfigError("--listen", settings.address, "no address of a host", "give it in numbers");
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(Tcp::acceptor::reuse_address(true), error);
    if (!error && endpoint.address().is_v6()) acceptor.set_option(asio::ip::v6_only(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(backlog, error);
    if (error)
      throw ConfigError("--listen", settings.address, "cannot be listened at: " + error.message(),
                        "give an address of this host and a port that is free");
  }
  ~Parts() {
    context.stop();
    if (thread.joinable()) thread.join();
  }

  std::optional<uid_t> user_of(const X509* certificate) const {
    return user_of_names(common_names(certificate), settings.administrator);
  }
  void tell_refused(const std::string& from, const std::string& why) {
    const auto now = steady_clock::now();
    if (now < quiet_until) return;
    quiet_until = now + telling_pause;
    tell("a client at " + from + " was refused: " + why);
  }

  asio::awaitable<void> accept();
  asio::awaitable<void> serve(Tcp::socket socket, std::string from);
  // Null: the client was refused.
  asio::awaitable<std::shared_ptr<TlsStream>> welcome(Tcp::socket socket, std::string from);

  Settings settings;
  ssl::context tls;
  Take take;
  Tell tell;
  std::size_t handshakes = 0;
  std::size_t connections = 0;
  steady_clock::time_point quiet_until{};
  asio::io_context context{1};  // ends the connections with it, which use what is above
  Tcp::acceptor acceptor;
  std::thread thread;
};

asio::awaitable<void> TlsListener::Parts::accept() {
  for (;;) {
    Error error;
    Tcp::endpoint client;
    Tcp::socket socket =
        co_await acceptor.async_accept(client, asio::redirect_error(asio::use_awaitable, error));
    if (error) {  // no descriptor is left: another connection may give one back
      asio::steady_timer pause(context, accept_pause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    std::string from = client.address().to_string();
    // There is nothing to say before the handshake, and none is begun.
    if (handshakes >= settings.most_handshakes || connections >= settings.most_connections)
      tell_refused(from, "there are too many");
    else
      asio::co_spawn(context, serve(std::move(socket), from),
                     [this, from](const std::exception_ptr& failure) {
                       if (failure) tell_refused(from, "there is no memory for it");
                     });
  }
}

asio::awaitable<std::shared_ptr<TlsStream>> TlsListener::Parts::welcome(Tcp::socket socket,
                                                                        std::string from) {
  const Counted counted(handshakes);
  watch_silence(socket);
  auto stream = std::make_shared<TlsStream>(std::move(socket), tls);
  TlsAlarm alarm(stream, settings.handshake_patience);
  Error error;
  co_await stream->async_handshake(ssl::stream_base::server,
                                   asio::redirect_error(asio::use_awaitable, error));
  alarm.cancel();
  if (!error && !alarm.has_gone_off()) co_return stream;
  tell_refused(from, alarm.has_gone_off() ? "its handshake took too long" : error.message());
  co_return nullptr;
}

asio::awaitable<void> TlsListener::Parts::serve(Tcp::socket socket, std::string from) {
  const Counted counted(connections);
  std::shared_ptr<TlsStream> stream = co_await welcome(std::move(socket), from);
  if (!stream) co_return;
  const std::unique_ptr<X509, decltype(&::X509_free)> certificate(
      ::SSL_get1_peer_certificate(stream->native_handle()), &::X509_free);
  const std::optional<uid_t> user = certificate ? user_of(certificate.get()) : std::nullopt;
  std::array<int, 2> ends{};
  if (!user || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
    co_return;
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  Local::socket local(context);
  Error error;
  local.assign(Local(), ours.get(), error);
  if (error) co_return;
  ours.release();
  take(std::move(theirs), *user);
  co_await carry(std::move(stream), std::move(local));
}

TlsListener::TlsListener(Settings settings) : parts_(std::make_unique<Parts>(std::move(settings))) {}
TlsListener::~TlsListener() = default;

std::string TlsListener::address() const {
  const Tcp::endpoint endpoint = parts_->acceptor.local_endpoint();
  return TcpAddress{.host = endpoint.address().to_string(), .port = endpoint.port()}.text();
}

void TlsListener::start(Take take, Tell tell) {
  parts_->take = std::move(take);
  parts_->tell = std::move(tell);
  asio::co_spawn(parts_->context, parts_->accept(), asio::detached);
  parts_->thread = start_thread("humd-tls", [parts = parts_.get()] { parts->context.run(); });
}

}  // namespace hum
