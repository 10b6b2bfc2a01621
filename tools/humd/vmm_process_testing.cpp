// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vmm_process_testing.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <iterator>
#include <thread>

#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum::testing {

bool until(const std::function<bool()>& condition) {
  const auto late = std::chrono::steady_clock::now() + process_patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > late) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::string file_content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put_file(const std::string& path, const std::string& content) {
  std::ofstream(path) << content;
}

std::vector<pid_t> children() {
  std::ifstream list("/proc/self/task/" + std::to_string(::getpid()) + "/children");
  return {std::istream_iterator<pid_t>(list), {}};
}

Reaper::Reaper() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Reaper::~Reaper() {
  // A process that has children leaves them to this one.
  for (std::vector<pid_t> left = children(); !left.empty(); left = children())
    for (const pid_t each : left) {
      ::kill(each, SIGKILL);
      ::waitpid(each, nullptr, 0);
    }
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

VmmProcess RunFolder::start(const std::vector<std::string>& arguments,
                            std::vector<std::pair<int, int>> descriptors) const {
  const std::optional<RunLock> lock = RunLock::take(this->lock());
  REQUIRE(lock);
  return spawn({.arguments = arguments,
                .lock_fd = lock->fd(),
                .log_path = log(),
                .descriptors = std::move(descriptors)});
}

std::vector<std::string> RunFolder::fake(const std::string& words) const {
  const std::string config = folder_ / "vmm.json";
  put_file(config,
           R"({"boot-source": {"kernel_image_path": "/k", "boot_args": "quiet )" + words + R"( ro"}})");
  return {HUM_FAKE_VMM, "--api-sock", socket(),     "--id",          "vm-1",    "--config-file", config,
          "--record",   record(),     "--log-path", folder_ / "log", "--level", "Info"};
}

std::optional<std::string> RunFolder::ask(const std::string& request,
                                          std::chrono::milliseconds patience) const {
  const auto address = UnixAddress::at(socket());
  const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!address || ::connect(client.get(), address->get(), address->size()) != 0) return {};
  if (::send(client.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return {};
  pollfd entry{.fd = client.get(), .events = POLLIN, .revents = 0};
  if (::poll(&entry, 1, static_cast<int>(patience.count())) != 1) return {};
  std::array<char, 4096> buffer{};
  const ssize_t count = ::recv(client.get(), buffer.data(), buffer.size(), 0);
  if (count <= 0) return {};
  return std::string(buffer.data(), static_cast<std::size_t>(count));
}

std::string request(const std::string& method, const std::string& path, const std::string& body) {
  return method + " " + path + " HTTP/1.1\r\nHost: l\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

std::optional<int> exit_code(const VmmProcess& process) {
  if (!until([&] { return process.ended(); })) return {};
  return process.reap();
}

}  // namespace hum::testing
