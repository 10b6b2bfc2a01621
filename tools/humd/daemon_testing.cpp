// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/daemon_testing.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tools/humd/files.h"
#include "vmm/base/fd.h"

namespace hum::testing {

namespace fs = std::filesystem;

DaemonPlace::DaemonPlace() : folders_{.state = folder_ / "s", .run = folder_ / "r"} {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  // As the folder of networks is others' to read.
  ::chmod(folder_.path().c_str(), 0711);
  make_private_folder(folders_.state);
  make_private_folder(folders_.run);
}

DaemonPlace::~DaemonPlace() {
  for (const pid_t pid : processes()) ::kill(pid, SIGKILL);
  while (!processes().empty()) ::usleep(1000);
  reap_orphans();
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

ManagerSettings DaemonPlace::settings() const {
  return {.folders = folders_,
          .vmm_program = HUM_FAKE_VMM,
          .start_patience = std::chrono::seconds(10),
          .call_patience = std::chrono::milliseconds(300),
          .term_patience = std::chrono::milliseconds(200)};
}

std::set<pid_t> DaemonPlace::processes() const {
  std::set<pid_t> found;
  for (const std::int64_t number : numbers_in("/proc")) {
    const auto pid = static_cast<pid_t>(number);
    if (pid <= 1) continue;
    std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
    // One that ends meanwhile cannot be read, which the file itself would throw.
    std::ostringstream text;
    text << file.rdbuf();
    const std::string line = text.str();
    if (line.starts_with(HUM_FAKE_VMM) && line.find(folders_.run.string() + "/") != std::string::npos)
      found.insert(pid);
  }
  return found;
}

std::string DaemonPlace::untidy(const std::set<std::int64_t>& vms,
                                const std::set<std::int64_t>& running) const {
  const auto numbers = [](const fs::path& folder) {
    const std::vector<std::int64_t> found = numbers_in(folder);
    return std::set<std::int64_t>(found.begin(), found.end());
  };
  if (numbers(folders_.vms()) != vms) return "the folders in the state folder are not the VMs'";
  if (numbers(folders_.live_vms()) != running)
    return "the folders in the run folder are not those of VMs that run";
  const std::set<pid_t> found = processes();
  if (found.size() == running.size()) return {};
  std::string text = "for " + std::to_string(running.size()) + " VMs that run there are:";
  for (const pid_t pid : found) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string status;
    std::getline(file, status);
    text += " [" + status + "]";
  }
  return text;
}

void run_coroutine(boost::asio::io_context& context, Task<> work) {
  std::exception_ptr failure;
  boost::asio::co_spawn(context, std::move(work), [&](const std::exception_ptr& error) {
    failure = error;
    context.stop();
  });
  context.restart();
  context.run();
  if (failure) std::rethrow_exception(failure);
}

VmSpec fake_vm(const std::string& name, const std::string& words, const std::string& more_json) {
  nlohmann::json spec = {
      {"name", name}, {"kernel", "/no/kernel"}, {"cmdline", words}, {"stop_timeout_s", 0U}};
  spec.update(nlohmann::json::parse(more_json));
  return VmSpec(spec);
}

void bound_log(Manager& manager) {
  manager.store().database().query("PRAGMA wal_autocheckpoint = 12").next();
}

std::vector<std::string> in_child(
    const std::function<void(const std::function<void(const std::string&)>& say)>& body) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto say = [&](const std::string& text) {
      const std::string line = text + "\n";
      if (::write(writer.get(), line.data(), line.size()) < 0) ::_exit(1);
    };
    try {
      body(say);
    } catch (const std::exception& error) {
      say(std::string("exception: ") + error.what());
    }
    ::_exit(0);
  }
  writer.reset();
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t count = 0; (count = ::read(reader.get(), buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  int status = 0;
  ::waitpid(child, &status, 0);
  std::vector<std::string> lines;
  for (std::size_t from = 0, end = 0; (end = text.find('\n', from)) != std::string::npos; from = end + 1)
    lines.push_back(text.substr(from, end - from));
  return lines;
}

void reap_orphans() {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

}  // namespace hum::testing
