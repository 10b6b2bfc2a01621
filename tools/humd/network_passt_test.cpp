// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_passt.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <string>

#include "devices/net/user_host.h"
#include "tools/humd/network_testing.h"
#include "tools/humd/vmm_process.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

constexpr int socket_number = 4;

// A host with a default route, in the network namespace of the thread.
void on_a_host(const std::function<void()>& work) {
  if (find_passt().empty()) {
    WARN("skipped: passt is not installed");
    return;
  }
  testing::in_own_network([&] {
    testing::output_of({"ip", "link", "set", "lo", "up"});
    const testing::Machine gateway("gateway", "eth0");
    testing::output_of({"ip", "address", "add", "10.9.0.2/24", "dev", "eth0"});
    testing::output_of({"ip", "route", "add", "default", "via", "10.9.0.1"});
    work();
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

TEST_CASE("a VM's passt publishes its ports, and ends when nobody has the other end of its socket") {
  on_a_host([] {
    const testing::TemporaryFolder folder;
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    Fd ours(ends[0]);
    Fd its(ends[1]);
    SpawnRequest request;
    request.arguments = passt_command(socket_number, "127.0.0.1:8080:80");
    request.log_path = folder / "log";
    request.descriptors = {{its.get(), socket_number}};
    const VmmProcess process = spawn(request);
    its.reset();
    // It listens at the port now.
    CHECK(testing::comes_true([] {
      return key_refused([] { passt_command(socket_number, "127.0.0.1:8080:80"); }) == "networks.ports";
    }));
    CHECK_FALSE(process.ended());
    ours.reset();
    const bool ended = testing::comes_true([&] { return process.ended(); });
    CHECK(ended);
    if (!ended) process.signal(SIGKILL);
    ::waitpid(process.identity().pid, nullptr, 0);
  });
}

TEST_CASE("a passt that cannot be is refused") {
  on_a_host([] {
    CHECK(key_refused([] { passt_command(socket_number, "no port"); }) == "networks.ports");
    testing::output_of({"ip", "route", "delete", "default"});
    CHECK(key_refused([] { passt_command(socket_number, ""); }) == "network");
  });
}

}  // namespace
}  // namespace hum
