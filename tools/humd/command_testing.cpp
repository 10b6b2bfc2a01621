// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/command_testing.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

#include "tools/http/http_client.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds patience{30};

}  // namespace

void CommandDaemon::start() {
  const Words words = {"humd",  "--state",   place_.folders().state, "--run", place_.folders().run,
                       "--vmm", HUM_FAKE_VMM};
  child_ = std::make_unique<Child>(HUM_DAEMON_PROGRAM, words, "");
  for (const auto late = steady_clock::now() + patience;;) {
    try {
      HttpCall request;
      request.target = "/v1/version";
      blocking_http_call(place_.folders().socket(), request, patience);
      return;
    } catch (const HostError&) {
      if (steady_clock::now() > late) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void CommandDaemon::end() {
  if (!child_) return;
  ::kill(child_->pid(), SIGTERM);
  child_->reap();
  child_.reset();
}

std::vector<std::string> CommandDaemon::command(Words words) const {
  const std::string socket = place_.folders().socket();
  words.insert(words.begin(), {"env", "HUM_SOCKET=" + socket, HUM_PROGRAM});
  return words;
}

ProcessResult CommandDaemon::hum(Words words) const {
  return run_process(command(std::move(words)));
}

std::string CommandDaemon::said(Words words) const {
  const ProcessResult result = hum(std::move(words));
  CHECK(result.errors == "");
  CHECK(result.exit_code == 0);
  return result.output;
}

std::string CommandDaemon::refused(Words words) const {
  const ProcessResult result = hum(std::move(words));
  CHECK(result.output == "");
  CHECK(result.exit_code == 2);
  return result.errors;
}

std::string CommandDaemon::create(const std::string& name, Words more) const {
  more.insert(more.begin(), {"vm", "create", name, "--kernel", "/no/kernel", "--net", "none"});
  return said(std::move(more));
}

TerminalResult on_terminal(const std::vector<std::string>& words, const std::string& mark,
                           const std::string& typed) {
  winsize size{.ws_row = 24, .ws_col = 100, .ws_xpixel = 0, .ws_ypixel = 0};
  int controller = -1;
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t pid = ::forkpty(&controller, nullptr, nullptr, &size);
  if (pid == 0) {
    ::execvp(arguments.front(), arguments.data());
    ::_exit(127);
  }
  const Fd owner(controller);
  TerminalResult result;
  bool waits = true;
  for (const auto late = steady_clock::now() + patience;;) {
    pollfd entry{.fd = controller, .events = POLLIN, .revents = 0};
    ::poll(&entry, 1, 100);
    std::array<char, 4096> buffer{};
    const ssize_t count = entry.revents == 0 ? 0 : ::read(controller, buffer.data(), buffer.size());
    if (count < 0) break;  // nobody has the terminal any more
    result.output.append(buffer.data(), static_cast<std::size_t>(count));
    if (waits && has(result.output, mark)) {
      waits = false;
      if (::write(controller, typed.data(), typed.size()) < 0) break;
    }
    if (steady_clock::now() > late) ::kill(pid, SIGKILL);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace hum::testing
