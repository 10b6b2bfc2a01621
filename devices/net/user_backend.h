// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/net/net_backend.h"
#include "devices/net/passt_endpoint.h"
#include "devices/net/passt_process.h"
#include "devices/net/published_port.h"
#include "vmm/base/errors.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/log.h"

namespace hum {

struct UserSettings {
  std::string what = "net";  // names the interface in messages
  std::vector<PublishedPort> ports;
  std::optional<std::uint16_t> mtu;
  std::string program;  // in place of the passt that PATH has
};

// Why there can be no network without root on this host: passt is missing, or there is no route. What makes
// passt itself refuse is not seen here.
std::optional<ConfigError> user_network_obstacle(const std::string& what);

// What passt is told, but for its socket. replaced: name servers in place of those passt finds.
std::vector<std::string> passt_arguments(const UserSettings& settings,
                                         const std::vector<std::string>& name_servers);

// A network without root: a passt of our own answers the guest's ARP, DHCP and DNS and opens sockets of this
// host for it. A passt that has ended is started once more; while there is none the link is down. One thread
// looks after it.
class UserBackend final : public NetBackend {
 public:
  // passt's largest: each frame costs the same, however long.
  static constexpr std::uint16_t largest_mtu = 65520;

  // Only begins to start passt; settle makes sure. Throws ConfigError: user_network_obstacle, or a published
  // port is taken.
  UserBackend(UserSettings settings, const Log& log);
  ~UserBackend() override;

  // Waits until passt serves. Throws ConfigError with passt's own words where it does not.
  void settle();

  std::string_view kind() const override { return "user"; }
  std::uint64_t offloads() const override { return 0; }
  std::uint16_t pairs() const override { return 1; }
  std::optional<std::uint16_t> mtu() const override { return settings_.mtu; }
  FrameEndpoint& endpoint(std::uint16_t /*index*/) override { return endpoint_; }
  void set_offloads(std::uint64_t /*accepted*/) override {}
  void use_pairs(std::uint16_t /*count*/) override {}
  bool link() const override { return link_.load(std::memory_order_relaxed); }
  void on_link_change(std::function<void()> changed) override;

 private:
  enum class Start : std::uint8_t { under_way, done, failed };

  void start();
  void on_start();
  void on_message();
  void on_end();
  void on_broken_stream();
  void set_link(bool up);
  void conclude_start(Start end, const std::string& reason);

  UserSettings settings_;
  const Log& log_;
  std::vector<std::string> arguments_;
  PasstEndpoint endpoint_;
  std::unique_ptr<PasstProcess> process_;
  bool restarted_ = false;
  std::atomic<bool> link_ = true;

  std::mutex mutex_;  // guards the three below
  std::condition_variable concluded_;
  Start first_start_ = Start::under_way;
  std::string reason_;

  std::mutex changed_mutex_;  // guards the one below
  std::function<void()> changed_;

  IoThread thread_;  // last: ends before what it uses
};

}  // namespace hum
