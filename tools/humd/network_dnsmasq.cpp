// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_dnsmasq.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <set>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include "tools/hum/process.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

constexpr int most_starts = 5;
constexpr std::chrono::milliseconds start_pause{100};
constexpr const char* config_name = "dnsmasq.conf";
constexpr const char* pid_name = "dnsmasq.pid";
constexpr const char* leases_name = "leases";
constexpr const char* names_name = "names";
constexpr int patience = 2000;  // milliseconds for it to end by itself

// The words of the line of a file like /etc/passwd that has this one in that place; empty: there is none.
std::vector<std::string> account(const std::string& path, std::size_t place, const std::string& word) {
  std::istringstream lines(read_text_file(path).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream rest(line);
    std::vector<std::string> words;
    for (std::string each; std::getline(rest, each, ':');) words.push_back(each);
    if (words.size() > place && words[place] == word) return words;
  }
  return {};
}

// Whom dnsmasq becomes once it has its sockets: guests speak to it. By the files: a static program has no
// getpwnam.
std::pair<std::string, std::string> user_and_group() {
  for (const char* const name : {"dnsmasq", "nobody"}) {
    const std::vector<std::string> user = account("/etc/passwd", 0, name);
    if (user.size() < 4) continue;
    const std::vector<std::string> group = account("/etc/group", 2, user[3]);
    if (!group.empty()) return {name, group[0]};
  }
  throw HostError(ENOENT, "find the user 'dnsmasq' or 'nobody'", "install the package dnsmasq-base");
}

bool ends_within(const Fd& process, int milliseconds) {
  pollfd entry{.fd = process.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, milliseconds) == 1;
}

void send(const Fd& process, int signal) {
  ::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0);
}

pid_t number_in(std::string_view text) {
  pid_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool ends = end == text.data() + text.size() || *end == '\n';
  return error == std::errc() && ends && number > 0 ? number : 0;
}

std::set<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::set<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.insert(line);
  return lines;
}

// Its own user has to reach the files below.
void check_reachable(const fs::path& folder) {
  for (fs::path each = folder; each != each.root_path(); each = each.parent_path())
    if ((fs::status(each).permissions() & fs::perms::others_exec) == fs::perms::none)
      throw HostError(EACCES, "let dnsmasq read below '" + each.string() + "'",
                      "it runs as another user: chmod o+x " + each.string());
}

}  // namespace

std::string dnsmasq_config(const NetworkSpec& spec, const std::string& folder, const std::string& user,
                           const std::string& group) {
  std::string text = "# Of the network '" + spec.name + "'; written by humd whenever something changes.\n";
  const auto line = [&](const std::string& option) { text += option + "\n"; };
  line("user=" + user);
  line("group=" + group);
  line("pid-file=" + folder + "/" + pid_name);
  line("interface=" + bridge_name(spec.id));
  line("except-interface=lo");
  line("bind-interfaces");
  line("no-hosts");
  line("addn-hosts=" + folder + "/" + names_name);
  line("domain=" + spec.dns_domain);
  line("local=/" + spec.dns_domain + "/");
  line("domain-needed");
  line("bogus-priv");
  if (spec.nat) {
    line("dns-loop-detect");
  } else {
    line("no-resolv");
    line("dhcp-option=option:router");  // none: there is no way out
  }
  // Only VMs that are known get an address, always their own: there is nothing to remember.
  line("dhcp-range=" + address_text(spec.subnet.base) + ",static," + address_text(spec.subnet.mask()) +
       ",24h");
  line("dhcp-hostsfile=" + folder + "/" + leases_name);
  line("dhcp-authoritative");
  line("leasefile-ro");
  // What a guest says about itself: copies of one image say the same, and a name could be another VM's.
  line("dhcp-ignore-clid");
  line("dhcp-ignore-names");
  return text;
}

std::string dnsmasq_leases(const NetworkSpec& spec, std::span<const Lease> leases) {
  std::string text;
  for (const Lease& lease : leases) {
    text += lease.mac.text() + "," + address_text(lease.address);
    // With its domain no name is taken for one of dnsmasq's words. What is behind a dot it takes for a
    // domain.
    if (lease.name.find('.') == std::string::npos) text += "," + lease.name + "." + spec.dns_domain;
    text += "\n";
  }
  return text;
}

std::string dnsmasq_names(const NetworkSpec& spec, std::span<const Lease> leases) {
  std::string text;
  for (const Lease& lease : leases) {
    text += address_text(lease.address) + " " + lease.name + "." + spec.dns_domain;
    // A name with a dot alone might be somebody's in the world.
    if (lease.name.find('.') == std::string::npos) text += " " + lease.name;
    text += "\n";
  }
  return text;
}

NetworkDnsmasq::NetworkDnsmasq(std::string program, std::string folder, ChangeHook before_change)
    : program_(std::move(program)), folder_(std::move(folder)), before_change_(std::move(before_change)) {}

void NetworkDnsmasq::ensure(const NetworkSpec& spec, std::span<const Lease> leases) {
  const auto [user, group] = user_and_group();
  const std::string config = dnsmasq_config(spec, folder_, user, group);
  const std::string wanted = dnsmasq_leases(spec, leases);
  // It keeps a lease that it has given, though the file has it no more, and its address from another VM.
  const std::set<std::string> old_lines = lines_of(read_text_file(file(leases_name)).value_or(""));
  const std::set<std::string> new_lines = lines_of(wanted);
  const bool forgets = !std::ranges::includes(new_lines, old_lines);
  const Fd running = noted();
  const bool stays = running && !forgets && read_text_file(file(config_name)) == config;
  if (!stays) stop();
  write_public_file(file(config_name), config, before_change_);
  write_public_file(file(leases_name), wanted, before_change_);
  write_public_file(file(names_name), dnsmasq_names(spec, leases), before_change_);
  if (stays) {
    // Also where nothing was written: a process that was killed may have written it and not come this far.
    before_change_("have dnsmasq read its files");
    send(running, SIGHUP);
    return;
  }
  check_reachable(folder_);
  for (int tries = 1;; ++tries) {
    before_change_("start dnsmasq");
    try {
      run_successfully({program_, "--conf-file=" + file(config_name)}, {},
                       "dnsmasq for the network '" + spec.name + "'");
      return;
    } catch (const HostError&) {
      if (tries == most_starts) throw;
    }
    // One that was about to be started when its starter was killed may have taken the address since stop.
    std::this_thread::sleep_for(start_pause);
    stop();
  }
}

void NetworkDnsmasq::stop() {
  // One that is just starting may have forked since.
  for (std::vector<Fd> found = all(); !found.empty(); found = all()) {
    for (const Fd& process : found) {
      before_change_("end dnsmasq");
      send(process, SIGTERM);
      if (!ends_within(process, patience)) send(process, SIGKILL);
      if (!ends_within(process, patience)) throw HostError(EBUSY, "end a dnsmasq that hangs in the kernel");
    }
  }
}

Fd NetworkDnsmasq::seen_as_ours(pid_t pid) const {
  using std::string_literals::operator""s;
  Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return {};
  const std::string place = "/proc/" + std::to_string(pid);
  std::string words;
  try {
    words = read_text_file(place + "/cmdline").value_or("");
  } catch (const HostError&) {  // it has just ended
    return {};
  }
  if (("\0"s + words).find("\0--conf-file="s + file(config_name) + "\0"s) == std::string::npos) return {};
  std::error_code error;
  std::string program = fs::read_symlink(place + "/exe", error).string();
  // An upgrade has put another in its place.
  constexpr std::string_view replaced = " (deleted)";
  if (program.ends_with(replaced)) program.resize(program.size() - replaced.size());
  if (error || program != fs::canonical(program_, error).string()) return {};
  // All of that was its own if it still lives.
  if (ends_within(process, 0)) return {};
  return process;
}

Fd NetworkDnsmasq::noted() const {
  const auto text = read_text_file(file(pid_name));
  const pid_t pid = text ? number_in(*text) : 0;
  return pid == 0 ? Fd() : seen_as_ours(pid);
}

std::vector<Fd> NetworkDnsmasq::all() const {
  std::vector<Fd> found;
  std::error_code error;
  for (fs::directory_iterator each("/proc", error), end; !error && each != end; each.increment(error)) {
    const std::string name = each->path().filename().string();
    if (const pid_t pid = number_in(name); pid != 0)
      if (Fd process = seen_as_ours(pid)) found.push_back(std::move(process));
  }
  return found;
}

}  // namespace hum
