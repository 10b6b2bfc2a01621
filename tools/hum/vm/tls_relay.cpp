// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/tls_relay.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "vmm/base/errors.h"

namespace hum {

TlsRelay::TlsRelay(const TlsHost& host) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw HostError(errno, "make a socket");
  connection_ = Fd(ends[0]);
  const Fd theirs(ends[1]);
  auto [errors, their_errors] = make_pipe();
  errors_ = std::move(errors);
  std::error_code none;
  std::string name =
      (std::filesystem::read_symlink("/proc/self/exe", none).parent_path() / "hum-tls").string();
  std::array<std::string, 4> words = {host.url, host.certificate, host.key, host.authorities};
  std::array<char*, 6> arguments = {name.data(),     words[0].data(), words[1].data(),
                                    words[2].data(), words[3].data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, their_errors.get(), STDERR_FILENO);
  const int refused = ::posix_spawn(&pid_, name.c_str(), &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (refused != 0) throw HostError(refused, "start '" + name + "'", "install hum-tls beside hum");
}

TlsRelay::~TlsRelay() {
  connection_.reset();
  errors_.reset();
  while (pid_ > 0 && ::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string TlsRelay::words() {
  std::string text;
  std::array<char, 512> buffer{};
  for (ssize_t count = 0; (count = ::read(errors_.get(), buffer.data(), buffer.size())) != 0;) {
    if (count < 0 && errno != EINTR) break;
    if (count > 0) text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return text;
}

}  // namespace hum
