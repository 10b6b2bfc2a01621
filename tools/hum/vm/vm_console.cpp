// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/vm_console.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "tools/hum/exit_codes.h"
#include "tools/hum/terminal.h"
#include "tools/hum/vm/daemon_client.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

constexpr char leave = 0x1d;  // Ctrl-]
constexpr std::size_t longest_head = 16 * 1024;

void send_all(const Fd& socket, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (count <= 0) throw HostError(errno, "write to the console");
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

// The VM's own process serves its console (docs/hum-vmm.md): a connection that goes on as a stream.
Fd open_console(const std::string& path, bool writes, std::string& first) {
  const UnixAddress address = UnixAddress::of("socket", path);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket || ::connect(socket.get(), address.get(), address.size()) != 0)
    throw HostError(errno, "reach the VM at '" + path + "'");
  send_all(socket, std::string("GET /hum/v1/console") + (writes ? "" : "?readonly=on") +
                       " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: hum-console\r\n\r\n");
  std::string head;
  while (head.find("\r\n\r\n") == std::string::npos && head.size() < longest_head) {
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(socket.get(), buffer.data(), buffer.size());
    if (count <= 0) throw HostError(ECONNRESET, "read the console");
    head.append(buffer.data(), static_cast<std::size_t>(count));
  }
  const bool is_stream = head.starts_with("HTTP/1.1 101");
  if (!is_stream && head.starts_with("HTTP/1.1 409") && writes) return open_console(path, false, first);
  if (!is_stream) throw HostError(EPROTO, "read the console", head.substr(0, head.find('\r')));
  first = head.substr(head.find("\r\n\r\n") + 4);
  return socket;
}

void show(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count <= 0) throw HostError(errno, "write what the guest says");
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace

void expect_console(const DaemonClient& client) {
  if (!client.is_remote()) return;
  throw ConfigError("host", client.host(), "a console is at a socket of the VM's own host only",
                    "use -d, and hum vm logs; or run hum vm console there");
}

int attach_console(DaemonClient& client, const std::string& name) {
  expect_console(client);
  const nlohmann::json place = client.call("GET", "/v1/vms/" + escaped(name) + "/console");
  std::string first;
  const Fd socket = open_console(place["socket"].get<std::string>(), true, first);
  const bool is_terminal = ::isatty(STDIN_FILENO) != 0;
  if (is_terminal) std::fprintf(stderr, "hum: the console of %s; Ctrl-] leaves it\r\n", name.c_str());
  std::optional<RawTerminal> raw;
  if (is_terminal) raw.emplace(STDIN_FILENO);
  show(first);
  std::array<pollfd, 2> entries = {pollfd{socket.get(), POLLIN, 0}, pollfd{STDIN_FILENO, POLLIN, 0}};
  std::array<char, 4096> buffer{};
  for (;;) {
    if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR)
      throw HostError(errno, "wait for the console");
    if (entries[0].revents != 0) {
      const ssize_t count = ::read(socket.get(), buffer.data(), buffer.size());
      if (count <= 0) return exit_ok;  // the VM has ended
      show({buffer.data(), static_cast<std::size_t>(count)});
    }
    if (entries[1].revents == 0) continue;
    const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count <= 0) {
      // What is typed has an end, what the guest says has not.
      entries[1].fd = -1;
      continue;
    }
    const std::string_view typed(buffer.data(), static_cast<std::size_t>(count));
    const std::size_t end = is_terminal ? typed.find(leave) : std::string_view::npos;
    send_all(socket, typed.substr(0, end));
    if (end != std::string_view::npos) return exit_ok;
  }
}

}  // namespace hum
