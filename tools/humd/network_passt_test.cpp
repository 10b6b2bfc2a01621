// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_passt.h"

#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>

#include "devices/net/user_host.h"
#include "tools/humd/network_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

// A host with a default route, in the network namespace of the thread.
void on_a_host(const std::function<void(const PasstPlan&)>& work) {
  if (find_passt().empty()) {
    WARN("skipped: passt is not installed");
    return;
  }
  testing::in_own_network([&] {
    const testing::TemporaryFolder folder;
    testing::output_of({"ip", "link", "set", "lo", "up"});
    const testing::Machine gateway("gateway", "eth0");
    testing::output_of({"ip", "address", "add", "10.9.0.2/24", "dev", "eth0"});
    testing::output_of({"ip", "route", "add", "default", "via", "10.9.0.1"});
    ::chmod(folder.path().c_str(), 0777);  // passt becomes nobody where it was started by root
    work({.socket = folder / "passt.sock", .pid_file = folder / "passt.pid", .ports = {}});
  });
}

std::string key_refused(const std::function<void()>& work) {
  try {
    work();
  } catch (const ConfigError& error) {
    return error.key();
  }
  return {};
}

TEST_CASE("a VM's passt serves one VMM at its socket and ends with it") {
  on_a_host([](PasstPlan plan) {
    plan.ports = {
        {.address = "127.0.0.1", .host = 8080, .guest = 80, .protocol = PublishedPort::Protocol::tcp}};
    std::vector<std::string> words = passt_command(plan);
    // What it says about a system log that is not there is no part of a test's report.
    words.insert(words.begin(), {"/bin/sh", "-c", "exec \"$@\" 2>/dev/null", "sh"});
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    pid_t process = -1;
    REQUIRE(::posix_spawn(&process, words[0].c_str(), nullptr, nullptr, pointers.data(), environ) == 0);
    const Fd vmm(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto place = UnixAddress::of("socket", plan.socket);
    CHECK(testing::comes_true([&] { return ::connect(vmm.get(), place.get(), place.size()) == 0; }));
    // It listens at the port now.
    CHECK(key_refused([&] { passt_command(plan); }) == "publish");
    CHECK(::waitpid(process, nullptr, WNOHANG) == 0);
    ::shutdown(vmm.get(), SHUT_RDWR);
    const bool ended = testing::comes_true([&] { return ::waitpid(process, nullptr, WNOHANG) == process; });
    CHECK(ended);
    if (!ended) ::kill(process, SIGKILL);
  });
}

TEST_CASE("a passt that cannot be is refused") {
  on_a_host([](PasstPlan plan) {
    plan.socket = "/" + std::string(200, 'a');
    CHECK(key_refused([&] { passt_command(plan); }) == "network.socket");
    testing::output_of({"ip", "route", "delete", "default"});
    plan.socket = "/tmp/passt.sock";
    CHECK(key_refused([&] { passt_command(plan); }) == "network");
  });
}

}  // namespace
}  // namespace hum
