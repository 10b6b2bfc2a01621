// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_host.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <utility>

#include "tools/hum/process.h"
#include "tools/humd/network_rules.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

constexpr const char* forwarding_switch = "/proc/sys/net/ipv4/ip_forward";
constexpr const char* forwarding_name = "ip_forward.before";
constexpr const char* rules_name = "rules.nft";

// Daemons are in folders that a user's PATH may lack.
std::string find_program(const std::string& name, const std::string& package) {
  const char* const path = std::getenv("PATH");
  std::istringstream folders((path == nullptr ? "" : path) + std::string(":/usr/sbin:/sbin"));
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string program = folder + "/" + name;
    if (folder.starts_with('/') && ::access(program.c_str(), X_OK) == 0) return program;
  }
  throw ConfigError("network", name, "this host has no such program, which networks need",
                    "install it: apt-get install " + package);
}

void write_switch(const std::string& path, const std::string& value) {
  const Fd file = open_file(path, O_WRONLY);
  if (::write(file.get(), value.data(), value.size()) < 0) throw HostError(errno, "write '" + path + "'");
}

bool is_on(const std::string& path) {
  return read_text_file(path).value_or("0").starts_with('1');
}

// Whether a port of the host's loopback addresses is to lead to a VM.
bool publishes_loopback(std::span<const Lease> leases) {
  return std::ranges::any_of(leases, [](const Lease& lease) {
    return std::ranges::any_of(lease.ports, [](const PublishedPort& port) {
      return port.address.empty() || port.address.starts_with("127.");
    });
  });
}

}  // namespace

NetworkHost::NetworkHost(NetworkHostSettings settings, const Log& log)
    : settings_(std::move(settings)),
      log_(log),
      dnsmasq_(find_program("dnsmasq", "dnsmasq-base")),
      nft_(find_program("nft", "nftables")) {}

std::string NetworkHost::network_mark(std::uint64_t network) const {
  return "hummingbird network " + std::to_string(network) + " of " + settings_.instance;
}

std::string NetworkHost::tap_mark(std::uint64_t network, std::uint64_t vm) const {
  return "hummingbird VM " + std::to_string(vm) + ", " + network_mark(network);
}

std::string NetworkHost::folder_of(std::uint64_t network) const {
  return settings_.folder + "/" + std::to_string(network);
}

NetworkDnsmasq NetworkHost::dnsmasq_of(std::uint64_t network) const {
  return {dnsmasq_, folder_of(network), settings_.before_change};
}

// A bridge is born with its address, and gets its mark afterwards.
bool NetworkHost::is_our_bridge(const LinkState& link, std::uint64_t network) const {
  const std::string mark = network_mark(network);
  return link.kind == "bridge" &&
         (link.alias == mark || (link.alias.empty() && link.mac == derived_mac_address(mark)));
}

void NetworkHost::ensure_network(const NetworkSpec& spec, std::span<const Lease> leases) {
  const std::lock_guard lock(mutex_);
  check_spec(spec);
  check_leases(spec, leases);
  make_public_folder(settings_.folder, settings_.before_change);
  make_public_folder(folder_of(spec.id), settings_.before_change);
  const std::string name = bridge_name(spec.id);
  const auto before = links::find(name);
  if (before && !is_our_bridge(*before, spec.id))
    throw HostError(EEXIST, "make the bridge '" + name + "'",
                    "there is an interface of that name which is not this daemon's; look at it with 'ip -d "
                    "link show " +
                        name + "', and rename or delete it");
  // First of all, so that nothing passes without them.
  const std::string rules = folder_of(spec.id) + "/" + rules_name;
  write_public_file(rules, rules_text(rules_table(settings_.instance, spec.id), spec, leases),
                    settings_.before_change);
  apply_rules({nft_, "--file", rules});
  const LinkState bridge = ensure_bridge(spec);
  const std::string loopback = "/proc/sys/net/ipv4/conf/" + name + "/route_localnet";
  if (const bool wanted = publishes_loopback(leases); is_on(loopback) != wanted) {
    settings_.before_change("set " + loopback);
    write_switch(loopback, wanted ? "1" : "0");
  }
  if (spec.nat) ensure_forwarding(spec);
  dnsmasq_of(spec.id).ensure(spec, leases);
}

LinkState NetworkHost::ensure_bridge(const NetworkSpec& spec) {
  const std::string name = bridge_name(spec.id);
  const std::string mark = network_mark(spec.id);
  const LinkAddress wanted{gateway_address(spec), spec.subnet.prefix};
  const auto is_right = [&](const LinkState& link) {
    const std::vector<LinkAddress> there = links::addresses(link.index);
    return link.up && link.alias == mark && there.size() == 1 && there.front() == wanted;
  };
  auto bridge = links::find(name);
  if (bridge && is_right(*bridge)) return *bridge;
  // It listens at the bridge and the address that there were.
  dnsmasq_of(spec.id).stop();
  if (!bridge) {
    settings_.before_change("make the bridge " + name);
    links::make_bridge(name, derived_mac_address(mark));
    bridge = links::find(name);
    if (!bridge) throw HostError(ENODEV, "find the bridge '" + name + "'");
  }
  if (bridge->alias != mark) {
    settings_.before_change("mark " + name);
    links::set_alias(bridge->index, mark);
  }
  for (const LinkAddress& address : links::addresses(bridge->index)) {
    if (address == wanted) continue;
    settings_.before_change("remove an address from " + name);
    links::remove_address(bridge->index, address);
  }
  settings_.before_change("give " + name + " its address");
  links::add_address(bridge->index, wanted);
  if (!bridge->up) {
    settings_.before_change("set up " + name);
    links::set_up(bridge->index);
  }
  return *bridge;
}

void NetworkHost::apply_rules(const std::vector<std::string>& command) {
  settings_.before_change("apply rules");
  const ProcessResult result = run_process(command);
  if (result.exit_code == 0) return;
  // The first line says what, those behind it show where.
  throw HostError(ECANCELED, "change the rules of nftables",
                  result.errors.substr(0, result.errors.find('\n')));
}

void NetworkHost::ensure_forwarding(const NetworkSpec& spec) {
  if (is_on(forwarding_switch)) return;
  write_public_file(settings_.folder + "/" + forwarding_name, "0\n", settings_.before_change);
  settings_.before_change("switch IPv4 forwarding on");
  write_switch(forwarding_switch, "1");
  log_.warning("IPv4 forwarding of this host is on from now, for the network '" + spec.name +
               "'; it was off, and will be when the last network is deleted");
}

void NetworkHost::put_forwarding_back() {
  const std::string note = settings_.folder + "/" + forwarding_name;
  if (read_text_file(note) && is_on(forwarding_switch)) {
    settings_.before_change("switch IPv4 forwarding off");
    write_switch(forwarding_switch, "0");
    log_.warning("IPv4 forwarding of this host is off again");
  }
  remove_files(note);
  remove_files(temporary_of(note));  // it was being written, and nothing switched yet
}

bool NetworkHost::has_other_networks(std::uint64_t network) const {
  std::error_code error;
  fs::directory_iterator each(settings_.folder, error);
  if (error == std::errc::no_such_file_or_directory) return false;
  for (const fs::directory_iterator end; !error && each != end; each.increment(error))
    if (each->is_directory(error) && each->path().filename() != std::to_string(network)) return true;
  if (error) throw HostError(error.value(), "look into '" + settings_.folder + "'");
  return false;
}

void NetworkHost::remove_files(const std::string& path) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error))) return;
  settings_.before_change("remove " + path);
  fs::remove_all(path, error);
  if (error) throw HostError(error.value(), "remove '" + path + "'");
}

void NetworkHost::remove_link(const LinkState& link) {
  settings_.before_change("remove " + link.name);
  links::remove(link.index);
}

void NetworkHost::remove_network(std::uint64_t network) {
  const std::lock_guard lock(mutex_);
  const std::string folder = folder_of(network);
  dnsmasq_of(network).stop();
  const std::string of_network = ", " + network_mark(network);
  for (const LinkState& link : links::all()) {
    const bool is_tap = link.kind == "tun" && link.alias.ends_with(of_network);
    const bool is_bridge = link.name == bridge_name(network) && is_our_bridge(link, network);
    if (is_tap || is_bridge) remove_link(link);
  }
  apply_rules({nft_, rules_removal_text(rules_table(settings_.instance, network))});
  if (!has_other_networks(network)) put_forwarding_back();
  remove_files(folder);
}

std::string NetworkHost::ensure_tap(std::uint64_t network, const TapWish& wish) {
  const std::lock_guard lock(mutex_);
  const std::string name = tap_name(network, wish.vm);
  const std::string mark = tap_mark(network, wish.vm);
  const auto bridge = links::find(bridge_name(network));
  if (!bridge || !is_our_bridge(*bridge, network))
    throw HostError(ENODEV, "add a tap to the bridge '" + bridge_name(network) + "'",
                    "start the network first");
  auto tap = links::find(name);
  if (tap && (tap->kind != "tun" || tap->alias != mark))
    throw HostError(EEXIST, "make the tap '" + name + "'",
                    "there is an interface of that name which is not this daemon's; rename or delete it");
  if (tap && (tap->owner != wish.owner || tap->multi_queue != wish.multi_queue)) {
    remove_link(*tap);
    tap.reset();
  }
  if (!tap) {
    settings_.before_change("make the tap " + name);
    links::make_tap({.name = name, .alias = mark, .owner = wish.owner, .multi_queue = wish.multi_queue});
    tap = links::find(name);
    if (!tap) throw HostError(ENODEV, "find the tap '" + name + "'");
  }
  if (tap->bridge != bridge->index) {
    settings_.before_change("add " + name + " to its bridge");
    links::set_bridge(tap->index, bridge->index);
  }
  if (!tap->up) {
    settings_.before_change("set up " + name);
    links::set_up(tap->index);
  }
  return name;
}

void NetworkHost::remove_tap(std::uint64_t network, std::uint64_t vm) {
  const std::lock_guard lock(mutex_);
  const auto tap = links::find(tap_name(network, vm));
  if (tap && tap->kind == "tun" && tap->alias == tap_mark(network, vm)) remove_link(*tap);
}

std::vector<Subnet> NetworkHost::foreign_routes() const {
  const std::lock_guard lock(mutex_);
  const std::string mark = " of " + settings_.instance;
  std::vector<int> ours;
  for (const LinkState& link : links::all())
    if (link.alias.starts_with("hummingbird network ") && link.alias.ends_with(mark))
      ours.push_back(link.index);
  std::vector<Subnet> found;
  for (const LinkRoute& route : links::routes())
    if (std::ranges::find(ours, route.link) == ours.end()) found.push_back(route.subnet);
  return found;
}

}  // namespace hum
