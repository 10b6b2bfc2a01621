// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/net/tap_testing.h"
#include "tools/humd/network_host.h"
#include "vmm/base/fd.h"
#include "vmm/base/temporary_folder.h"

// For tests of networks only.
namespace hum::testing {

// A process with a network namespace of its own, as a machine beside this one. It answers its name to whoever
// connects to port 80 or sends a datagram there, until it is destroyed. A link of two ends goes from this
// thread's network to it.
class Machine {
 public:
  // mac: of its end, which is called eth0.
  Machine(std::string name, const std::string& our_end, std::optional<MacAddress> mac = {});
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Does that in its network.
  void in(const std::function<void()>& work) const;
  // Runs a program there: its output; empty if it fails.
  std::string run(const std::vector<std::string>& words) const;
  // What a server answers; empty: nothing.
  std::string ask(const std::string& address, std::uint16_t port, bool udp = false) const;
  bool reaches(const std::string& address) const;  // by ICMP
  // Gets its address from a server: "10.20.30.2 router 10.20.30.1 dns 10.20.30.1 name one"; empty: it gets
  // none.
  std::string lease(const TemporaryFolder& folder) const;

 private:
  std::string name_;
  pid_t process_ = -1;
};

// From this thread's network.
std::string ask_server(const std::string& address, std::uint16_t port, bool udp = false);
// The address that the server says the name has; empty: none.
std::string resolve(const std::string& name, const std::string& server);

// Runs a program: its output; empty if it fails.
std::string output_of(const std::vector<std::string>& words);
bool comes_true(const std::function<bool()>& condition);

// The host's side under test, in the network namespace of the thread: one network of two VMs.
struct TestHost {
  TestHost();

  NetworkHost host(ChangeHook before_change = [](std::string_view) {}) const;
  // All that the host has of it, as text: alike after any two ways that lead to the same.
  std::string state() const;
  // What should not be there once it is removed.
  std::string leftovers() const;
  std::vector<pid_t> servers() const;  // the dnsmasqs

  TemporaryFolder folder;
  NetworkSpec spec;
  std::vector<Lease> leases;
  Log log;
};

// in_own_network, where the host has what networks need.
void with_network_host(const std::function<void(TestHost&)>& work);

}  // namespace hum::testing
