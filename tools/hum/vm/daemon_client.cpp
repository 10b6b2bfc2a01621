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

#include "tools/http/http_client.h"
#include "tools/humd/folders.h"
#include "vmm/base/errors.h"

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

}  // namespace

DaemonClient::DaemonClient(std::string socket) : socket_(std::move(socket)) {
  if (!socket_.empty()) return;
  if (const char* const given = std::getenv("HUM_SOCKET"); given != nullptr && given[0] != '\0') {
    socket_ = given;
    return;
  }
  socket_ = Folders::usual().socket();
  is_usual_ = true;
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

json DaemonClient::call(const std::string& method, const std::string& target, const json* body) {
  HttpCall request;
  request.method = method;
  request.target = target;
  if (body != nullptr) request.body = body->dump(-1, ' ', false, json::error_handler_t::replace);
  const auto late = std::chrono::steady_clock::now() + start_patience;
  for (bool started = false;;) {
    try {
      const HttpReply reply = blocking_http_call(socket_, request, call_patience);
      if (reply.status >= 300) refuse(reply);
      return reply.body.empty() ? json::object() : json::parse(reply.body);
    } catch (const HostError& error) {
      if (!is_nobody(error) || std::chrono::steady_clock::now() > late) throw;
      if (!is_usual_)
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
  const HttpReply reply = blocking_http_call(socket_, request, call_patience);
  if (reply.status >= 300) refuse(reply);
  return reply.body;
}

json DaemonClient::finished(json operation) {
  while (operation["state"] == "running")
    operation =
        call("GET", "/v1/operations/" + std::to_string(operation["id"].get<std::int64_t>()) + "?wait_s=60");
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
