// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>

#include "tools/http/http_client.h"
#include "tools/hum/vm/tls_relay.h"

namespace CLI {
class App;
}

namespace hum {

// What the daemon has refused, in its words.
class DaemonError : public std::runtime_error {
 public:
  DaemonError(unsigned status, std::string code, const std::string& text)
      : std::runtime_error(text), status_(status), code_(std::move(code)) {}
  unsigned status() const { return status_; }
  const std::string& code() const { return code_; }

 private:
  unsigned status_;
  std::string code_;
};

// Which daemon a command is for: one of this host by its socket, or of another by TLS. What is empty is as
// the environment has it (HUM_SOCKET; HUM_HOST, HUM_TLS_CERT, HUM_TLS_KEY, HUM_TLS_CA), and the usual socket
// where that has nothing, either.
struct DaemonAddress {
  std::string socket{};
  bool no_start = false;  // no daemon, where none runs
  TlsHost host{};
};

// The options of all commands that ask the daemon.
void add_daemon_options(CLI::App& app, DaemonAddress& address);

// --json, and --format json as docker has it. help: of --json.
void add_json_option(CLI::App& app, bool& is_json, const std::string& help);

// The daemon as the command line sees it. Where none listens at the usual socket, one is started, which goes
// on when this program has ended.
class DaemonClient {
 public:
  // Throws ConfigError: both a socket and a host are given, or a host without all of its files.
  explicit DaemonClient(DaemonAddress address);

  bool is_remote() const { return !host_.url.empty(); }
  const std::string& host() const { return host_.url; }

  // if_match: the ETag that what is changed must have. Throws DaemonError, HostError.
  nlohmann::json call(const std::string& method, const std::string& target,
                      const nlohmann::json* body = nullptr, const std::string& if_match = {});
  // The answer as it is, for texts.
  std::string text(const std::string& target);
  // Server-sent events, each with its type and its data, until take answers false or the daemon ends.
  void follow(const std::string& target,
              const std::function<bool(const std::string& type, const std::string& data)>& take);
  // All pages of a list: its objects, which stand under that word.
  nlohmann::json list(const std::string& target, const std::string& word);
  // Tells how far it is, where standard error is a terminal, and waits for the end of the operation in an
  // answer, however long that takes, and throws DaemonError if it has failed.
  nlohmann::json finished(nlohmann::json operation);

 private:
  void start_daemon() const;
  HttpReply ask(const HttpCall& request) const;
  HttpReply ask_for_stream(const HttpCall& request,
                           const std::function<bool(std::string_view piece)>& take) const;

  std::string socket_;
  TlsHost host_;
  bool may_start_ = false;
};

// What has to be escaped in a part of a path or a query (RFC 3986, 2.1).
std::string escaped(const std::string& text);

}  // namespace hum
