// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/daemon_client.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "tools/humd/folders.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::chrono::seconds call_patience{3700};  // the daemon itself says when it has waited enough
constexpr std::chrono::seconds start_patience{10};
constexpr std::chrono::milliseconds start_pause{5};

bool is_nobody(const HostError& error) {
  return error.code().value() == ENOENT || error.code().value() == ECONNREFUSED;
}

[[noreturn]] void refuse(const HttpReply& reply) {
  const json body = json::parse(reply.body, nullptr, false);
  if (body.is_object() && body.contains("error") && body["error"].is_object())
    throw DaemonError(reply.status, body["error"].value("code", ""), body["error"].value("message", ""));
  throw DaemonError(reply.status, "", "the daemon answers with status " + std::to_string(reply.status));
}

std::string from_environment(const char* name) {
  const char* const given = std::getenv(name);
  return given == nullptr ? std::string() : given;
}

void complete(std::string& file, const char* option, const char* variable) {
  if (file.empty()) file = from_environment(variable);
  if (file.empty())
    throw ConfigError(option, "", "missing, as there is a host",
                      std::string("give --") + option + " FILE, or set " + variable);
}

// The relay knows best why there is no answer.
HttpReply over(TlsRelay& relay, const TlsHost& host, const std::function<HttpReply(Fd)>& ask) {
  try {
    return ask(relay.take_connection());
  } catch (const HostError&) {
    const std::string words = relay.words();
    if (words.empty()) throw;
    throw DaemonError(0, "not-reached", "cannot reach the daemon at '" + host.url + "': " + words);
  }
}

}  // namespace

DaemonClient::DaemonClient(DaemonAddress address)
    : socket_(std::move(address.socket)), host_(std::move(address.host)) {
  if (socket_.empty() && host_.url.empty()) {
    socket_ = from_environment("HUM_SOCKET");
    host_.url = from_environment("HUM_HOST");
  }
  if (!socket_.empty() && !host_.url.empty())
    throw ConfigError("host", host_.url, "there is a socket, too: '" + socket_ + "'",
                      "give one of --host and --socket (HUM_HOST and HUM_SOCKET)");
  if (is_remote()) {
    complete(host_.certificate, "tls-cert", "HUM_TLS_CERT");
    complete(host_.key, "tls-key", "HUM_TLS_KEY");
    complete(host_.authorities, "tls-ca", "HUM_TLS_CA");
    return;
  }
  if (!socket_.empty()) return;
  socket_ = Folders::usual().socket();
  may_start_ = !address.no_start;
}

HttpReply DaemonClient::ask(const HttpCall& request) const {
  if (!is_remote()) return blocking_http_call(socket_, request, call_patience);
  TlsRelay relay(host_);
  const std::function<HttpReply(Fd)> asked = [&](Fd connection) {
    return blocking_http_call(std::move(connection), host_.url, request, call_patience);
  };
  return over(relay, host_, asked);
}

HttpReply DaemonClient::ask_for_stream(const HttpCall& request,
                                       const std::function<bool(std::string_view piece)>& take) const {
  if (!is_remote()) return blocking_http_stream(socket_, request, take);
  TlsRelay relay(host_);
  const std::function<HttpReply(Fd)> asked = [&](Fd connection) {
    return blocking_http_stream(std::move(connection), host_.url, request, take);
  };
  return over(relay, host_, asked);
}

// Of this user, beside this program, in a session of its own.
void DaemonClient::start_daemon() const {
  std::error_code none;
  const fs::path program = fs::read_symlink("/proc/self/exe", none).parent_path() / "humd";
  const Folders folders = Folders::usual();
  fs::create_directories(folders.state, none);
  const std::string log = folders.state / "humd.log";
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  std::string name = program.string();
  std::array<char*, 2> arguments = {name.data(), nullptr};
  pid_t pid = -1;
  const int refused = ::posix_spawn(&pid, name.c_str(), &actions, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (refused != 0)
    throw HostError(refused, "start '" + name + "'", "install humd beside hum, or start it yourself");
  std::fputs("hum: the daemon was not running: started it\n", stderr);
}

json DaemonClient::call(const std::string& method, const std::string& target, const json* body,
                        const std::string& if_match) {
  HttpCall request;
  request.if_match = if_match;
  request.method = method;
  request.target = target;
  if (body != nullptr) request.body = body->dump(-1, ' ', false, json::error_handler_t::replace);
  const auto late = std::chrono::steady_clock::now() + start_patience;
  for (bool started = false;;) {
    try {
      const HttpReply reply = ask(request);
      if (reply.status >= 300) refuse(reply);
      return reply.body.empty() ? json::object() : json::parse(reply.body);
    } catch (const HostError& error) {
      if (is_remote() || !is_nobody(error) || std::chrono::steady_clock::now() > late) throw;
      if (!may_start_)
        throw HostError(error.code().value(), "reach the daemon at '" + socket_ + "'",
                        "start it with 'humd'");
      if (!started) start_daemon();
      started = true;
    }
    std::this_thread::sleep_for(start_pause);
  }
}

std::string DaemonClient::text(const std::string& target) {
  HttpCall request;
  request.target = target;
  const HttpReply reply = ask(request);
  if (reply.status >= 300) refuse(reply);
  return reply.body;
}

void DaemonClient::follow(const std::string& target,
                          const std::function<bool(const std::string& type, const std::string& data)>& take) {
  HttpCall request;
  request.target = target;
  std::string text;
  std::string type;
  std::string data;
  const auto take_line = [&](const std::string& line) {
    if (line.starts_with("event: ")) type = line.substr(7);
    if (line.starts_with("data: ")) data += line.substr(6);
    if (!line.empty() || type.empty()) return true;
    const bool goes_on = take(type, data);
    type.clear();
    data.clear();
    return goes_on;
  };
  const HttpReply reply = ask_for_stream(request, [&](std::string_view piece) {
    text += piece;
    for (std::size_t end = 0; (end = text.find('\n')) != std::string::npos;) {
      const std::string line = text.substr(0, end);
      text.erase(0, end + 1);
      if (!take_line(line)) return false;
    }
    return true;
  });
  if (reply.status != 200) refuse(reply);
}

json DaemonClient::list(const std::string& target, const std::string& word) {
  const std::string query = target + (target.find('?') == std::string::npos ? "?" : "&") + "limit=1000";
  json all = json::array();
  for (std::string after;;) {
    const json page = call("GET", query + (after.empty() ? "" : "&after=" + after));
    for (const json& each : page[word]) all.push_back(each);
    if (page["next"].is_null()) return all;
    after = page["next"];
  }
}

json DaemonClient::finished(json operation) {
  const bool tells = ::isatty(STDERR_FILENO) != 0;
  bool told = false;
  while (operation["state"] == "running") {
    const json& progress = operation["progress"];
    if (tells && progress.is_object()) {
      const auto done = progress.value("done_bytes", std::uint64_t{0});
      const auto whole = progress.value("whole_bytes", std::uint64_t{0});
      const std::string of = whole == 0 ? "" : " of " + format_size(whole);
      std::fprintf(stderr, "\r\033[Khum: %s: %s%s", operation.value("step", "").c_str(),
                   format_size(done).c_str(), of.c_str());
      told = true;
    }
    operation = call("GET", "/v1/operations/" + std::to_string(operation["id"].get<std::int64_t>()) +
                                "?wait_s=" + (tells ? "1" : "60"));
  }
  if (told) std::fputs("\r\033[K", stderr);
  if (operation["error"].is_object())
    throw DaemonError(0, operation["error"].value("code", ""), operation["error"].value("message", ""));
  return operation;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char each : text) {
    const bool plain = (each >= 'a' && each <= 'z') || (each >= 'A' && each <= 'Z') ||
                       (each >= '0' && each <= '9') || each == '-' || each == '_' || each == '.' ||
                       each == '~';
    std::array<char, 4> code{};
    std::snprintf(code.data(), code.size(), "%%%02X",
                  static_cast<unsigned>(static_cast<unsigned char>(each)));
    result += plain ? std::string(1, each) : std::string(code.data());
  }
  return result;
}

}  // namespace hum
