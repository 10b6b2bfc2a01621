// SPDX-License-Identifier: Apache-2.0
#include "devices/net/user_backend.h"

#include <chrono>
#include <utility>

#include "devices/net/user_host.h"

namespace hum {
namespace {

constexpr auto start_patience = std::chrono::seconds(30);  // far more than an emulated host takes
constexpr const char* do_without = "or do without a network: --net none";

ConfigError did_not_start(const std::string& what, const std::string& reason) {
  return {what, "user", "passt did not start: " + reason, std::string("see docs/network.md, ") + do_without};
}

UserSettings completed(UserSettings settings) {
  if (settings.program.empty()) {
    if (auto obstacle = user_network_obstacle(settings.what)) throw ConfigError(*obstacle);
    settings.program = find_passt();
  }
  if (!settings.mtu) settings.mtu = UserBackend::largest_mtu;
  for (const PublishedPort& port : settings.ports) check_port_is_free(settings.what + ".publish", port);
  return settings;
}

}  // namespace

std::optional<ConfigError> user_network_obstacle(const std::string& what) {
  if (find_passt().empty())
    return ConfigError(what, "user", "passt, which it needs, is not installed",
                       std::string("install it (sudo apt-get install passt), ") + do_without);
  if (!has_default_route())
    return ConfigError(what, "user", "this host has no default route, so there is no network to share",
                       std::string("connect the host ('ip route' shows its routes), ") + do_without);
  return std::nullopt;
}

std::vector<std::string> passt_arguments(const UserSettings& settings,
                                         const std::vector<std::string>& name_servers) {
  // The gateway's address is the gateway, not a way to this host's loopback.
  std::vector<std::string> arguments = {"--no-map-gw", "--mtu",
                                        std::to_string(settings.mtu.value_or(UserBackend::largest_mtu))};
  for (const std::string& server : name_servers) arguments.insert(arguments.end(), {"--dns", server});
  for (const auto& [protocol, option] : {std::pair(PublishedPort::Protocol::tcp, "--tcp-ports"),
                                         std::pair(PublishedPort::Protocol::udp, "--udp-ports")}) {
    const std::size_t before = arguments.size();
    for (const PublishedPort& port : settings.ports) {
      if (port.protocol != protocol) continue;
      const std::string place = port.address.empty() ? "" : port.address + "/";
      arguments.insert(arguments.end(),
                       {option, place + std::to_string(port.host) + ":" + std::to_string(port.guest)});
    }
    if (arguments.size() == before) arguments.insert(arguments.end(), {option, "none"});
  }
  return arguments;
}

UserBackend::UserBackend(UserSettings settings, const Log& log)
    : settings_(completed(std::move(settings))),
      log_(log),
      endpoint_([this] { thread_.loop().post([this] { on_broken_stream(); }); }),
      thread_("passt") {
  const NameServers servers = guest_name_servers();
  if (servers.unreachable)
    log_.warning(settings_.what +
                 ": the name servers in /etc/resolv.conf are this host's own, which guests do not reach: "
                 "name one inside the guest");
  arguments_ = passt_arguments(settings_, servers.replaced);
  try {
    thread_.call([this] { start(); });
  } catch (const HostError& error) {
    throw did_not_start(settings_.what, error.what());
  }
}

UserBackend::~UserBackend() = default;

void UserBackend::start() {
  process_ = std::make_unique<PasstProcess>(settings_.program, arguments_, endpoint_.process_end());
  endpoint_.connect();
  EventLoop& loop = thread_.loop();
  loop.watch(process_->start_fd(), EventLoop::Interest::readable, [this] { on_start(); });
  loop.watch(process_->messages_fd(), EventLoop::Interest::readable, [this] { on_message(); });
  loop.watch(process_->end_fd(), EventLoop::Interest::readable, [this] { on_end(); });
}

void UserBackend::on_start() {
  thread_.loop().unwatch(process_->start_fd());
  if (!process_->has_started()) return;  // it is about to end
  conclude_start(Start::done, {});
  set_link(true);
}

void UserBackend::on_message() {
  if (!process_->hear()) thread_.loop().unwatch(process_->messages_fd());
}

void UserBackend::on_end() {
  for (const int fd : {process_->start_fd(), process_->messages_fd(), process_->end_fd()})
    thread_.loop().unwatch(fd);
  const std::string reason = process_->reason();
  process_.reset();
  endpoint_.disconnect();
  if (first_start_ == Start::under_way) {
    set_link(false);
    return conclude_start(Start::failed, reason);
  }
  if (!std::exchange(restarted_, true)) {
    log_.warning(settings_.what + ": passt has ended (" + reason + "): it is started again");
    set_link(false);
    try {
      return start();
    } catch (const HostError& error) {
      log_.warning(settings_.what + ": the link stays down: " + error.what());
    }
  } else {
    log_.warning(settings_.what + ": passt has ended once more (" + reason + "): the link stays down");
  }
  set_link(false);
}

// What is no stream of frames any more is as good as an end. By now there may be another passt, and all well.
void UserBackend::on_broken_stream() {
  if (process_ && !endpoint_.connected()) process_->kill();
}

void UserBackend::set_link(bool up) {
  if (link_.exchange(up) == up) return;
  const std::lock_guard lock(changed_mutex_);
  if (changed_) changed_();
}

void UserBackend::on_link_change(std::function<void()> changed) {
  const std::lock_guard lock(changed_mutex_);
  changed_ = std::move(changed);
}

void UserBackend::conclude_start(Start end, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (first_start_ == Start::under_way) {
    first_start_ = end;
    reason_ = reason;
  }
  concluded_.notify_all();
}

void UserBackend::settle() {
  std::unique_lock lock(mutex_);
  if (!concluded_.wait_for(lock, start_patience, [this] { return first_start_ != Start::under_way; }))
    reason_ = "it did not get ready within 30 seconds";
  else if (first_start_ == Start::done)
    return;
  throw did_not_start(settings_.what, reason_);
}

}  // namespace hum
