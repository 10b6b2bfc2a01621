// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/daemon.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "tools/humd/api.h"
#include "tools/humd/files.h"
#include "tools/humd/manager.h"
#include "tools/tls/tls_listener.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

constexpr std::size_t most_connections = 1024;
constexpr std::size_t most_streams = 256;
constexpr mode_t only_this_user = 0600;

// sd_listen_fds(3): a socket that was opened for this process is descriptor 3. -1: there is none.
int inherited_listener() {
  const char* const pid = std::getenv("LISTEN_PID");
  const char* const count = std::getenv("LISTEN_FDS");
  const bool is_ours =
      pid != nullptr && count != nullptr && std::atoll(pid) == ::getpid() && std::atoi(count) >= 1;
  if (!is_ours) return -1;
  constexpr int listener = 3;
  ::fcntl(listener, F_SETFD, FD_CLOEXEC);
  return listener;
}

// sd_notify(3): for whoever started this process and waits.
void tell_ready() {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string_view name(path);
  if (name.empty() || name.size() >= sizeof address.sun_path) return;
  std::copy(name.begin(), name.end(), address.sun_path);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr std::string_view ready = "READY=1";
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  if (::sendto(socket.get(), ready.data(), ready.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address), size) < 0)
    std::fprintf(stderr, "humd: nobody hears at NOTIFY_SOCKET\n");
}

HttpServer::Settings server_settings(const std::string& socket) {
  HttpServer::Settings settings{.path = socket};
  settings.listener = inherited_listener();
  settings.mode = only_this_user;
  settings.asks_peer = true;
  settings.most_connections = most_connections;
  settings.most_streams = most_streams;
  settings.error_body = [](unsigned status, std::string_view text) {
    return api_error_body(status == 503 ? "too-many-connections" : "bad-request", text);
  };
  return settings;
}

// A client's connection is one of the server's own from here on.
void serve_tls(TlsListener& listener, boost::asio::io_context& context, HttpServer& server) {
  std::printf("humd: listens at https://%s\n", listener.address().c_str());
  std::fflush(stdout);
  listener.start(
      [&context, &server](Fd connection, uid_t user) {
        boost::asio::post(context, [&server, user, taken = std::move(connection)]() mutable {
          server.serve(std::move(taken), user);
        });
      },
      [](std::string_view line) {
        std::fprintf(stderr, "humd: %.*s\n", static_cast<int>(line.size()), line.data());
      });
}

std::unique_ptr<TlsListener> tls_listener(const DaemonArguments& arguments, uid_t administrator) {
  if (arguments.listen.empty()) return {};
  TlsListener::Settings settings{.address = arguments.listen, .files = arguments.tls};
  settings.administrator = administrator;
  settings.most_connections = most_connections / 2;  // the socket keeps room for its own
  return std::make_unique<TlsListener>(std::move(settings));
}

}  // namespace

void run_daemon(const DaemonArguments& arguments) {
  std::signal(SIGPIPE, SIG_IGN);
  for (const std::filesystem::path& folder : {arguments.folders.state, arguments.folders.run}) {
    std::error_code error;
    std::filesystem::create_directories(folder.parent_path(), error);
    make_private_folder(folder);
  }
  boost::asio::io_context context{1};
  ManagerSettings settings{.folders = arguments.folders, .vmm_program = arguments.vmm_program};
  const uid_t administrator = settings.administrator;
  settings.share = arguments.share;
  Manager manager(context, std::move(settings));
  Api api(context, manager);
  std::optional<HttpServer> server;
  const std::unique_ptr<TlsListener> tls = tls_listener(arguments, administrator);
  std::exception_ptr trouble;
  boost::asio::signal_set signals(context, SIGTERM, SIGINT);
  signals.async_wait([&](const boost::system::error_code& error, int /*signal*/) {
    if (!error) context.stop();
  });
  // Clients find a daemon that knows what there is.
  boost::asio::co_spawn(context, manager.recover(), [&](const std::exception_ptr& error) {
    trouble = error;
    if (error) return context.stop();
    try {
      server.emplace(context, server_settings(arguments.socket),
                     [&api](ApiRequest request, HttpServer::Respond respond) {
                       api.handle(std::move(request), std::move(respond));
                     });
      if (tls) serve_tls(*tls, context, *server);
      tell_ready();
    } catch (...) {
      trouble = std::current_exception();
      context.stop();
    }
  });
  context.run();
  if (trouble) std::rethrow_exception(trouble);
}

}  // namespace hum
