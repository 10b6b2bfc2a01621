// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tools/http/http_server.h"
#include "tools/humd/daemon_testing.h"

// For tests only: lives of VMs and other objects, in which the daemon is killed at each moment in turn.
namespace hum::testing {

using Say = std::function<void(const std::string&)>;

// Begins that on a VM and waits for its end; nothing where the VM is not there, or does not take it now.
Task<> act(Manager& manager, const Say& say, std::string name, std::string kind,
           std::string arguments = "{}");
Task<> create(Manager& manager, const Say& say, VmSpec spec);
// A request of the API.
Task<ApiAnswer> ask(Manager& manager, std::string method, std::string path, std::string query,
                    std::string body);
// A request of the API that begins an operation, which is to be done.
Task<> request(Manager& manager, const Say& say, std::string method, std::string path, std::string body);
// Whether something is under way, or about to begin by itself.
bool is_busy(Manager& manager);
// Until it is not.
Task<> settle(Manager& manager);

// What is not as it should be when nothing is under way; empty: all is.
std::string trouble(Manager& manager, const DaemonPlace& place);

struct Scenario {
  const char* name;
  Task<> (*run)(Manager& manager, const Say& say);
};

// Kills the daemon at each moment that its journal knows of, and the next one soon after its start; in long
// tests at more moments. Whatever was under way is finished or undone then, what was promised is there, and
// nothing is left over when all is removed. How often it was killed.
unsigned kill_everywhere(const Scenario& scenario);

// What the next daemon of a place finds, brings to an end, and then removes; 0: it is not killed meanwhile.
std::vector<std::string> recover(const DaemonPlace& place, unsigned kill_at);
// That it did so, and that what the daemons before it had told their clients holds.
void check(const std::vector<std::string>& before, const std::vector<std::string>& after);

#ifdef HUM_SANITIZED
inline constexpr unsigned crash_stride = 5;  // such a build takes several times as long
#else
inline constexpr unsigned crash_stride = 1;
#endif

}  // namespace hum::testing
