// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "tools/http/api_message.h"
#include "tools/hum/test/child.h"
#include "vmm/base/fd.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/unix_address.h"

// For tests only.
namespace hum::testing {

inline constexpr std::chrono::seconds api_patience{30};

// A client of an API, with one connection.
class ApiClient {
 public:
  explicit ApiClient(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const auto address = UnixAddress::at(path);
    connected_ = address && ::connect(socket_.get(), address->get(), address->size()) == 0;
  }

  bool connected() const { return connected_; }
  void send(std::string_view text) const { std::ignore = try_send(text); }
  // False: the server takes no more.
  bool try_send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t count = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }
  void send(const std::string& method, const std::string& path, const std::string& body) const {
    send(method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  void end_sending() const { ::shutdown(socket_.get(), SHUT_WR); }

  // The next answer with all its headers; none: the connection was closed, or nothing came.
  std::optional<ApiAnswer> answer() {
    std::size_t end = 0;
    while ((end = received_.find("\r\n\r\n")) == std::string::npos)
      if (!receive()) return {};
    headers = received_.substr(0, end + 2);
    ApiAnswer result;
    result.status = static_cast<unsigned>(std::stoul(headers.substr(headers.find(' ') + 1, 3)));
    result.deprecated = headers.find("Deprecation: true\r\n") != std::string::npos;
    std::size_t length = 0;
    if (const std::size_t at = headers.find("Content-Length: "); at != std::string::npos)
      length = std::stoul(headers.substr(at + 16));
    while (received_.size() < end + 4 + length)
      if (!receive()) return {};
    result.body = received_.substr(end + 4, length);
    received_.erase(0, end + 4 + length);
    return result;
  }

  std::optional<ApiAnswer> call(const std::string& method, const std::string& path,
                                const std::string& body = {}) {
    send(method, path, body);
    return answer();
  }

  // What comes of a stream up to and with that text; all that came if it does not come.
  std::string stream_until(std::string_view text) {
    std::size_t at = 0;
    while ((at = received_.find(text)) == std::string::npos)
      if (!receive()) return std::exchange(received_, {});
    std::string all = received_.substr(0, at + text.size());
    received_.erase(0, all.size());
    return all;
  }

  // Whether the other side closes the connection and nothing more comes.
  bool closed() {
    while (receive()) {
    }
    return ended_ && received_.empty();
  }

  std::string headers;  // of the latest answer

 private:
  bool receive() {
    pollfd entry{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    constexpr auto patience = std::chrono::milliseconds(api_patience).count();
    if (::poll(&entry, 1, static_cast<int>(patience)) != 1) return false;
    std::array<char, 4096> buffer{};
    const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    ended_ = count <= 0;
    if (count > 0) received_.append(buffer.data(), static_cast<std::size_t>(count));
    return count > 0;
  }

  Fd socket_;
  bool connected_ = false;
  bool ended_ = false;
  std::string received_;
};

// A hum-vmm of its own, killed at the end.
class VmmProcess {
 public:
  // With an API, unless there is --no-api among the arguments.
  explicit VmmProcess(const std::string& program, std::vector<std::string> arguments = {})
      : socket_(folder_ / "api.socket"), child_(program, command(program, std::move(arguments)), {}) {}

  const std::string& socket() const { return socket_; }
  const TemporaryFolder& folder() const { return folder_; }

  // A client, as soon as there is an API.
  ApiClient client() const {
    const auto late = std::chrono::steady_clock::now() + api_patience;
    for (;;) {
      ApiClient client(socket_);
      if (client.connected() || std::chrono::steady_clock::now() > late) return client;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  pid_t pid() const { return child_.pid(); }
  void signal(int number) const { ::syscall(SYS_pidfd_send_signal, child_.end_fd(), number, nullptr, 0); }

  // Waits for its end.
  ProcessEnd wait() {
    pollfd entry{.fd = child_.end_fd(), .events = POLLIN, .revents = 0};
    constexpr auto patience = std::chrono::milliseconds(api_patience).count();
    if (::poll(&entry, 1, static_cast<int>(patience)) != 1) child_.kill();
    return child_.reap();
  }
  bool runs() const {
    pollfd entry{.fd = child_.end_fd(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 0) == 0;
  }
  // Waits until it has written this, too.
  bool says(std::string_view word) {
    pollfd entry{.fd = child_.output(), .events = POLLIN, .revents = 0};
    constexpr auto patience = std::chrono::milliseconds(api_patience).count();
    while (said_.find(word) == std::string::npos) {
      std::array<char, 256> piece{};
      if (::poll(&entry, 1, static_cast<int>(patience)) != 1) return false;
      const ssize_t count = ::read(entry.fd, piece.data(), piece.size());
      if (count <= 0) return false;
      said_.append(piece.data(), static_cast<std::size_t>(count));
    }
    return true;
  }
  // What it wrote, after its end.
  std::string output() const { return content(child_.output()); }
  std::string messages() const { return content(child_.messages()); }

 private:
  std::vector<std::string> command(const std::string& program, std::vector<std::string> arguments) const {
    std::vector<std::string> words = {program, "--api-sock", socket_};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
  }
  static std::string content(int fd) {
    std::string text;
    std::array<char, 4096> buffer{};
    for (ssize_t count = 0; (count = ::read(fd, buffer.data(), buffer.size())) > 0;)
      text.append(buffer.data(), static_cast<std::size_t>(count));
    return text;
  }

  TemporaryFolder folder_;
  std::string socket_;
  Child child_;
  std::string said_;
};

}  // namespace hum::testing
