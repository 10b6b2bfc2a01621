// SPDX-License-Identifier: Apache-2.0
#include "tools/tls/tls_listener.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <mutex>
#include <thread>

#include "tools/tls/tcp_address.h"
#include "tools/tls/tls_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using asio::ip::tcp;
using testing::TestAuthority;
using testing::TestCertificate;
using Error = boost::system::error_code;

// A server whose answer is the client's user, and then what the client says.
class Server {
 public:
  explicit Server(TlsListener::Settings settings) : listener_(std::move(settings)) {
    listener_.start(
        [this](Fd connection, uid_t user) {
          const std::lock_guard lock(mutex_);
          threads_.emplace_back([taken = std::move(connection), user] { answer(taken, user); });
        },
        [this](std::string_view line) {
          const std::lock_guard lock(mutex_);
          told_ += std::string(line) + "\n";
        });
  }
  // Its clients have gone.
  ~Server() {
    for (std::thread& each : threads_) each.join();
  }

  tcp::endpoint endpoint() const {
    const TcpAddress address = TcpAddress::parse("address", listener_.address());
    return {asio::ip::make_address(address.host), address.port};
  }
  std::string told() {
    const std::lock_guard lock(mutex_);
    return told_;
  }

 private:
  static void answer(const Fd& connection, uid_t user) {
    const auto write_all = [&](std::string_view text) {
      while (!text.empty()) {
        const ssize_t count = ::send(connection.get(), text.data(), text.size(), MSG_NOSIGNAL);
        if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
        if (count < 0 && errno != EAGAIN) return false;
        pollfd entry{.fd = connection.get(), .events = POLLOUT, .revents = 0};
        ::poll(&entry, 1, 1000);
      }
      return true;
    };
    write_all(std::to_string(user) + "\n");
    std::array<char, 4096> buffer{};
    for (;;) {
      pollfd entry{.fd = connection.get(), .events = POLLIN, .revents = 0};
      ::poll(&entry, 1, 1000);
      const ssize_t count = ::read(connection.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EAGAIN) continue;
      if (count <= 0 || !write_all({buffer.data(), static_cast<std::size_t>(count)})) return;
    }
  }

  std::mutex mutex_;
  std::string told_;
  std::vector<std::thread> threads_;
  TlsListener listener_;  // first to go
};

TlsListener::Settings settings_for(const TlsFiles& files) {
  TlsListener::Settings settings{.address = "127.0.0.1:0", .files = files};
  settings.administrator = 4321;
  return settings;
}

// A connection whose reads end after some seconds at the latest.
void bound_reads(tcp::socket& socket) {
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

// What a client with these files is answered, and again what it has said; or why not.
std::string answer_to(const Server& server, ssl::context& tls, const std::string& said = "x") {
  asio::io_context context;
  ssl::stream<tcp::socket> stream(context, tls);
  stream.next_layer().connect(server.endpoint());
  bound_reads(stream.next_layer());
  Error error;
  stream.handshake(ssl::stream_base::client, error);
  if (!error) asio::write(stream, asio::buffer(said + "\n"), error);
  std::string text;
  if (!error) asio::read_until(stream, asio::dynamic_buffer(text), "\n" + said + "\n", error);
  return error ? error.message() : text;
}

std::string answer_to(const Server& server, const TlsFiles& files) {
  ssl::context tls = make_tls_context(TlsSide::client, files);
  return answer_to(server, tls);
}

std::string user_seen(const std::string& answer) {
  return answer.substr(0, answer.find('\n'));
}

// Once there is room for it.
std::string answer_in_time(const Server& server, const TlsFiles& files) {
  std::string answer;
  for (int tries = 0; tries < 1000 && user_seen(answer) != "4321"; ++tries) {
    answer = answer_to(server, files);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return answer;
}

bool is_closed(tcp::socket& socket) {
  std::array<char, 64> buffer{};
  for (;;) {
    const ssize_t count = ::read(socket.native_handle(), buffer.data(), buffer.size());
    if (count == 0 || (count < 0 && errno == ECONNRESET)) return true;
    if (count < 0) return false;
  }
}

}  // namespace

TEST_CASE("a client with a certificate of the authority is served, and known by its name") {
  const TestAuthority authority;
  Server server(settings_for(authority.server()));
  CHECK(answer_to(server, authority.client("laptop", {"laptop"})) == "4321\nx\n");
  CHECK(answer_to(server, authority.client("root", {"user:root"})) == "0\nx\n");
  ssl::context tls = make_tls_context(TlsSide::client, authority.client("laptop", {"laptop"}));
  const std::string much(3'000'000, 'm');
  CHECK(answer_to(server, tls, much) == "4321\n" + much + "\n");
  CHECK(server.told() == "");
}

TEST_CASE("TLS 1.3 is spoken, and TLS 1.2 with a client that has nothing newer") {
  const TestAuthority authority;
  Server server(settings_for(authority.server()));
  ssl::context tls = make_tls_context(TlsSide::client, authority.client("laptop", {"laptop"}));
  ::SSL_CTX_set_min_proto_version(tls.native_handle(), TLS1_3_VERSION);
  CHECK(answer_to(server, tls) == "4321\nx\n");
  ::SSL_CTX_set_min_proto_version(tls.native_handle(), 0);
  ::SSL_CTX_set_max_proto_version(tls.native_handle(), TLS1_2_VERSION);
  CHECK(answer_to(server, tls) == "4321\nx\n");
  ::SSL_CTX_set_security_level(tls.native_handle(), 0);
  ::SSL_CTX_set_max_proto_version(tls.native_handle(), TLS1_1_VERSION);
  CHECK(answer_to(server, tls).find("protocol version") != std::string::npos);
}

TEST_CASE("a client is refused that shows no certificate, or one that does not count") {
  const TestAuthority authority;
  const TestAuthority another("another");
  Server server(settings_for(authority.server()));
  ssl::context nothing(ssl::context::tls_client);
  CHECK(answer_to(server, nothing).find("certificate required") != std::string::npos);
  TlsFiles stranger = another.client("stranger", {"laptop"});
  stranger.authorities = authority.file();
  CHECK(answer_to(server, stranger).find("unknown ca") != std::string::npos);
  TestCertificate server_too{.common_names = {"laptop"}};
  server_too.is_server = true;
  CHECK(answer_to(server, authority.make("wrong-use", server_too)).find("unsupported certificate") !=
        std::string::npos);
  CHECK(answer_to(server, authority.client("ghost", {"user:no-such-user"})).find("handshake failure") !=
        std::string::npos);
  CHECK(answer_to(server, authority.client("two", {"laptop", "user:root"})).find("handshake failure") !=
        std::string::npos);
  CHECK(server.told().find("a client at 127.0.0.1 was refused: ") == 0);
  CHECK(user_seen(answer_to(server, authority.client("laptop", {"laptop"}))) == "4321");
}

TEST_CASE("a client whose certificate has expired is refused") {
  const TestAuthority authority;
  Server server(settings_for(authority.server()));
  // The client itself would not begin with it.
  TestCertificate expired{.common_names = {"laptop"}};
  expired.from = -7200;
  expired.until = -3600;
  const TlsFiles files = authority.make("expired", expired);
  ssl::context tls(ssl::context::tls_client);
  tls.use_certificate_chain_file(files.certificate);
  tls.use_private_key_file(files.key, ssl::context::pem);
  CHECK(answer_to(server, tls).find("certificate expired") != std::string::npos);
}

TEST_CASE("what is no TLS is closed") {
  const TestAuthority authority;
  Server server(settings_for(authority.server()));
  asio::io_context context;
  tcp::socket plain(context);
  plain.connect(server.endpoint());
  bound_reads(plain);
  asio::write(plain, asio::buffer(std::string("GET /v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n")));
  CHECK(is_closed(plain));
  CHECK(server.told().find("http request") != std::string::npos);
}

TEST_CASE("handshakes that hang hold up nobody, and end when their time is over") {
  const TestAuthority authority;
  TlsListener::Settings settings = settings_for(authority.server());
  settings.handshake_patience = std::chrono::milliseconds(2500);
  Server server(std::move(settings));
  asio::io_context context;
  std::vector<tcp::socket> hanging;
  for (int i = 0; i < 20; ++i) {
    hanging.emplace_back(context);
    hanging.back().connect(server.endpoint());
    bound_reads(hanging.back());
    // Half of them in the middle of a record.
    if (i % 2 == 0) asio::write(hanging.back(), asio::buffer(std::string("\x16\x03\x01\x02\x00\x01", 6)));
  }
  const auto begin = std::chrono::steady_clock::now();
  CHECK(user_seen(answer_to(server, authority.client("laptop", {"laptop"}))) == "4321");
  const auto served = std::chrono::steady_clock::now() - begin;
  for (tcp::socket& each : hanging) CHECK(is_closed(each));
  CHECK(served < std::chrono::steady_clock::now() - begin);
  CHECK(server.told().find("its handshake took too long") != std::string::npos);
}

TEST_CASE("one handshake more than there may be is closed at once, and served later") {
  const TestAuthority authority;
  TlsListener::Settings settings = settings_for(authority.server());
  settings.most_handshakes = 2;
  Server server(std::move(settings));
  asio::io_context context;
  const TlsFiles client = authority.client("laptop", {"laptop"});
  {
    std::vector<tcp::socket> hanging;
    for (int i = 0; i < 2; ++i) {
      hanging.emplace_back(context);
      hanging.back().connect(server.endpoint());
    }
    tcp::socket one_more(context);
    one_more.connect(server.endpoint());
    bound_reads(one_more);
    CHECK(is_closed(one_more));
  }
  CHECK(user_seen(answer_in_time(server, client)) == "4321");
}

TEST_CASE("one connection more than there may be is closed at once, and served when another has ended") {
  const TestAuthority authority;
  TlsListener::Settings settings = settings_for(authority.server());
  settings.most_connections = 1;
  Server server(std::move(settings));
  const TlsFiles client = authority.client("laptop", {"laptop"});
  {
    asio::io_context context;
    ssl::context tls = make_tls_context(TlsSide::client, client);
    ssl::stream<tcp::socket> first(context, tls);
    first.next_layer().connect(server.endpoint());
    first.handshake(ssl::stream_base::client);
    std::string text;
    asio::read_until(first, asio::dynamic_buffer(text), '\n');
    CHECK(text == "4321\n");
    tcp::socket one_more(context);
    one_more.connect(server.endpoint());
    bound_reads(one_more);
    CHECK(is_closed(one_more));
    CHECK(server.told() == "a client at 127.0.0.1 was refused: there are too many\n");
  }
  CHECK(user_seen(answer_in_time(server, client)) == "4321");
}

TEST_CASE("an address that cannot be listened at is refused with the option's name") {
  const TestAuthority authority;
  Server server(settings_for(authority.server()));
  TlsListener::Settings settings = settings_for(authority.server());
  for (const std::string& address : {"127.0.0.1:" + std::to_string(server.endpoint().port()),
                                     std::string("192.0.2.1:1"), std::string("localhost:0")}) {
    INFO(address);
    settings.address = address;
    CHECK_THROWS_AS(TlsListener(settings), ConfigError);
  }
  settings.address = "[::1]:0";
  try {
    CHECK(TlsListener(settings).address().find("[::1]:") == 0);
  } catch (const ConfigError&) {
    WARN("skipped: this host has no IPv6");
  }
}

}  // namespace hum
