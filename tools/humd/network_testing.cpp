// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_testing.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "tools/hum/process.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::uint16_t server_port = 80;
constexpr int patience = 1000;  // milliseconds

sockaddr_in place_of(const std::string& address, std::uint16_t port) {
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_port = htons(port);
  must(::inet_pton(AF_INET, address.c_str(), &place.sin_addr) == 1, "read its own address");
  return place;
}

int make_server(int type) {
  const int socket = ::socket(AF_INET, type, 0);
  const sockaddr_in place = place_of("0.0.0.0", server_port);
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&place), sizeof place) != 0) ::_exit(1);
  if (type == SOCK_STREAM) ::listen(socket, 16);
  return socket;
}

// In a child of a process with threads: nothing but system calls.
[[noreturn]] void serve(const std::string& name, int ready) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::unshare(CLONE_NEWNET) != 0) ::_exit(1);
  std::array<pollfd, 2> sockets = {pollfd{make_server(SOCK_STREAM), POLLIN, 0},
                                   pollfd{make_server(SOCK_DGRAM), POLLIN, 0}};
  if (::write(ready, "1", 1) != 1) ::_exit(1);
  while (true) {
    ::poll(sockets.data(), sockets.size(), -1);
    if (sockets[0].revents != 0) {
      const int connection = ::accept(sockets[0].fd, nullptr, nullptr);
      [[maybe_unused]] const ssize_t written = ::write(connection, name.data(), name.size());
      ::close(connection);
    }
    if (sockets[1].revents != 0) {
      sockaddr_in from{};
      socklen_t size = sizeof from;
      char byte = 0;
      ::recvfrom(sockets[1].fd, &byte, 1, 0, reinterpret_cast<sockaddr*>(&from), &size);
      ::sendto(sockets[1].fd, name.data(), name.size(), 0, reinterpret_cast<const sockaddr*>(&from), size);
    }
  }
}

std::string content_of(const std::string& path) {
  return read_text_file(path).value_or("(none)\n");
}

}  // namespace

Machine::Machine(std::string name, const std::string& our_end, std::optional<MacAddress> mac)
    : name_(std::move(name)) {
  std::array<int, 2> ready{};
  must(::pipe2(ready.data(), O_CLOEXEC) == 0, "make a pipe");
  const Fd read_end(ready[0]);
  Fd write_end(ready[1]);
  process_ = ::fork();
  if (process_ == 0) serve(name_, write_end.get());
  write_end.reset();
  char byte = 0;
  const bool serves = process_ > 0 && ::read(read_end.get(), &byte, 1) == 1;
  std::vector<std::string> words = {"ip", "link", "add", our_end, "type", "veth", "peer", "name", "eth0"};
  if (mac) words.insert(words.end(), {"address", mac->text()});
  words.insert(words.end(), {"netns", std::to_string(process_)});
  must(serves && run_process(words).exit_code == 0, "make a machine");
  output_of({"ip", "link", "set", our_end, "up"});
  run({"ip", "link", "set", "lo", "up"});
  run({"ip", "link", "set", "eth0", "up"});
}

Machine::~Machine() {
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
}

void Machine::in(const std::function<void()>& work) const {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      const Fd network = open_file("/proc/" + std::to_string(process_) + "/ns/net", O_RDONLY);
      must(::setns(network.get(), CLONE_NEWNET) == 0, "enter a machine's network");
      work();
    } catch (...) {  // passed on to the test's thread
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

std::string Machine::run(const std::vector<std::string>& words) const {
  std::string output;
  in([&] { output = output_of(words); });
  return output;
}

std::string Machine::ask(const std::string& address, std::uint16_t port, bool udp) const {
  std::string answer;
  in([&] { answer = ask_server(address, port, udp); });
  return answer;
}

bool Machine::reaches(const std::string& address) const {
  return !run({"busybox", "ping", "-c", "1", "-W", "1", address}).empty();
}

std::string Machine::lease(const TemporaryFolder& folder) const {
  const std::string script = folder / "lease.sh";
  const std::string result = folder / ("lease." + name_);
  std::ofstream(script)
      << "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev eth0\n"
         "ip addr add $ip/$mask dev eth0\n"
         "[ -z \"$router\" ] || ip route add default via $router\n"
         "echo -n \"$ip router $router dns $dns domain $domain name $hostname\" >\"$LEASE\"\n";
  fs::permissions(script, fs::perms{0755});
  fs::remove(result);
  run({"env", "LEASE=" + result, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "3", "-T", "1",
       "-s", script});
  return read_text_file(result).value_or("");
}

std::string ask_server(const std::string& address, std::uint16_t port, bool udp) {
  const Fd socket(::socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in place = place_of(address, port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place) != 0 &&
      errno != EINPROGRESS)
    return {};
  if (udp) ::send(socket.get(), "?", 1, MSG_NOSIGNAL);
  pollfd entry{.fd = socket.get(), .events = POLLIN, .revents = 0};
  std::array<char, 64> answer{};
  if (::poll(&entry, 1, patience) != 1) return {};
  const ssize_t count = ::recv(socket.get(), answer.data(), answer.size(), 0);
  return {answer.data(), count > 0 ? static_cast<std::size_t>(count) : 0};
}

std::string resolve(const std::string& name, const std::string& server) {
  const std::string output = output_of({"timeout", "2", "busybox", "nslookup", "-type=a", name, server});
  // Behind the server's own address comes the name's.
  const std::size_t at = output.rfind("Address:");
  const std::size_t answer = output.find("Name:");
  if (answer == std::string::npos || at == std::string::npos || at < answer) return {};
  std::istringstream rest(output.substr(at + 8));
  std::string address;
  rest >> address;
  return address;
}

std::string output_of(const std::vector<std::string>& words) {
  const ProcessResult result = run_process(words);
  return result.exit_code == 0 ? result.output : "";
}

bool comes_true(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

TestHost::TestHost()
    : spec{.id = 3,
           .name = "blue",
           .subnet = {{10, 20, 30, 0}, 24},
           .nat = true,
           .dns_domain = "hum.internal"} {
  fs::permissions(folder.path(), fs::perms{0755});
  for (const std::uint8_t vm : {std::uint8_t{1}, std::uint8_t{2}}) {
    leases.push_back({.vm = vm,
                      .name = vm == 1 ? "one" : "two",
                      .mac = lease_mac(spec.id, vm),
                      .address = {10, 20, 30, static_cast<std::uint8_t>(vm + 1)},
                      .ports = {}});
  }
  leases[0].ports = {{.address = {}, .host = 8080, .guest = 80, .protocol = PublishedPort::Protocol::tcp},
                     {.address = {}, .host = 8080, .guest = 80, .protocol = PublishedPort::Protocol::udp}};
  output_of({"ip", "link", "set", "lo", "up"});
}

NetworkHost TestHost::host(ChangeHook before_change) const {
  return {{.folder = folder / "networks", .instance = "test", .before_change = std::move(before_change)},
          log};
}

std::string TestHost::state() const {
  std::ostringstream text;
  const auto bridge = links::find(bridge_name(spec.id));
  std::vector<LinkState> all = links::all();
  std::ranges::sort(all, {}, &LinkState::name);
  for (const LinkState& link : all) {
    text << link.name << " '" << link.alias << "' " << link.kind << (link.up ? " up " : " down ")
         << (link.owner ? std::to_string(*link.owner) : "") << (link.multi_queue ? " many" : "")
         << (bridge && link.bridge == bridge->index ? " port" : "");
    if (link.kind == "bridge") text << " " << link.mac.text();
    for (const LinkAddress& address : links::addresses(link.index))
      text << " " << Subnet{address.address, address.prefix}.text();
    text << "\n";
  }
  // The order of a set's elements is any.
  std::istringstream rules(output_of({"nft", "--stateless", "list", "ruleset"}));
  std::multiset<std::string> words;
  for (std::string word; rules >> word;)
    words.insert(word.ends_with(',') ? word.substr(0, word.size() - 1) : word);
  for (const std::string& word : words) text << word << " ";
  text << content_of("/proc/sys/net/ipv4/ip_forward");
  text << content_of("/proc/sys/net/ipv4/conf/" + bridge_name(spec.id) + "/route_localnet");
  const std::string files = folder / "networks/3/";
  for (const char* const name : {"dnsmasq.conf", "leases", "names", "../ip_forward.before"})
    text << name << ":\n" << content_of(files + name);
  text << servers().size() << " dnsmasq\n";
  return text.str();
}

std::string TestHost::leftovers() const {
  std::string text;
  for (const LinkState& link : links::all())
    if (link.name.starts_with("hum")) text += link.name + " ";
  text += output_of({"nft", "list", "ruleset"});
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "networks", error))
    text += entry.path().string() + " ";
  for (const pid_t server : servers()) text += "dnsmasq " + std::to_string(server) + " ";
  if (content_of("/proc/sys/net/ipv4/ip_forward") != "0\n") text += "forwarding";
  return text;
}

std::vector<pid_t> TestHost::servers() const {
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "cmdline");
    std::string words;
    std::getline(file, words);
    if (words.find("dnsmasq") != std::string::npos && words.find(folder.path()) != std::string::npos)
      found.push_back(std::stoi(name));
  }
  return found;
}

void with_network_host(const std::function<void(TestHost&)>& work) {
  for (const char* const program : {"nft", "dnsmasq", "busybox"}) {
    if (run_process({"sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; command -v " + std::string(program)})
            .exit_code == 0)
      continue;
    WARN("skipped: there is no program " << program);
    return;
  }
  in_own_network([&] {
    // It begins as the host's is, which may have other networks.
    std::ofstream("/proc/sys/net/ipv4/ip_forward") << 0;
    TestHost test;
    if (output_of({"nft", "list", "tables"}).empty() &&
        run_process({"nft", "list", "tables"}).exit_code != 0) {
      WARN("skipped: this kernel has no nftables");
      return;
    }
    try {
      work(test);
    } catch (...) {
      test.host().remove_network(test.spec.id);
      throw;
    }
    test.host().remove_network(test.spec.id);
  });
}

}  // namespace hum::testing
