// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

// What posix_spawn is told; owns the two lists.
struct SpawnPlan {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;

  SpawnPlan() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    // Signals that this process blocks or ignores are no business of the program.
    sigset_t set;
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&attributes, &set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &set);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
};

std::vector<std::string> english_environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with("LC_ALL=")) variables.emplace_back(*variable);
  }
  variables.emplace_back("LC_ALL=C");
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

// Takes what is there; false at the end.
bool take(Fd& from, std::string& to) {
  std::array<char, 16384> buffer;
  const ssize_t count = read(from.get(), buffer.data(), buffer.size());
  if (count > 0) to.append(buffer.data(), static_cast<std::size_t>(count));
  return count > 0 || (count < 0 && errno == EINTR);
}

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  const std::size_t before = text.rfind('\n');
  return std::string(before == std::string_view::npos ? text : text.substr(before + 1));
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments, const std::string& folder,
                          const std::string& fix) {
  Pipe output = make_pipe();
  Pipe errors = make_pipe();
  SpawnPlan plan;
  posix_spawn_file_actions_addopen(&plan.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&plan.actions, output.writer.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&plan.actions, errors.writer.get(), STDERR_FILENO);
  if (!folder.empty()) posix_spawn_file_actions_addchdir_np(&plan.actions, folder.c_str());

  std::vector<std::string> words = arguments;
  std::vector<std::string> variables = english_environment();
  pid_t process = -1;
  const int refused = posix_spawnp(&process, words.front().c_str(), &plan.actions, &plan.attributes,
                                   pointers(words).data(), pointers(variables).data());
  if (refused != 0) throw HostError(refused, "run " + words.front(), fix);
  output.writer.reset();
  errors.writer.reset();

  ProcessResult result;
  while (output.reader || errors.reader) {
    std::array<pollfd, 2> polled = {pollfd{output.reader.get(), POLLIN, 0},
                                    pollfd{errors.reader.get(), POLLIN, 0}};
    poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0 && !take(output.reader, result.output)) output.reader.reset();
    if (polled[1].revents != 0 && !take(errors.reader, result.errors)) errors.reader.reset();
  }
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result;
}

std::string run_successfully(const std::vector<std::string>& arguments, const std::string& folder,
                             const std::string& fix) {
  ProcessResult result = run_process(arguments, folder, fix);
  if (result.exit_code == 0) return std::move(result.output);
  std::string words;
  for (const std::string& word : arguments) words += (words.empty() ? "" : " ") + word;
  std::string reason = last_line(result.errors);
  if (reason.empty()) reason = "exit code " + std::to_string(result.exit_code);
  throw HostError(ECANCELED, words, reason + (fix.empty() ? "" : "; " + fix));
}

}  // namespace hum
