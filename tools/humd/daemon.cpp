// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/daemon.h"

#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>

#include "tools/humd/api.h"
#include "tools/humd/files.h"
#include "tools/humd/manager.h"

namespace hum {
namespace {

constexpr std::size_t most_connections = 1024;
constexpr std::size_t most_streams = 256;
constexpr mode_t only_this_user = 0600;

HttpServer::Settings server_settings(const std::string& socket) {
  HttpServer::Settings settings{.path = socket};
  settings.mode = only_this_user;
  settings.asks_peer = true;
  settings.most_connections = most_connections;
  settings.most_streams = most_streams;
  settings.error_body = [](unsigned status, std::string_view text) {
    return api_error_body(status == 503 ? "too-many-connections" : "bad-request", text);
  };
  return settings;
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
  Manager manager(context, std::move(settings));
  Api api(context, manager, ::geteuid());
  std::optional<HttpServer> server;
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
    } catch (...) {
      trouble = std::current_exception();
      context.stop();
    }
  });
  context.run();
  if (trouble) std::rethrow_exception(trouble);
}

}  // namespace hum
