// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "devices/net/mac_address.h"
#include "devices/net/net_backend.h"
#include "devices/net/tap_endpoint.h"
#include "devices/net/tap_open.h"
#include "vmm/base/log.h"

namespace hum {

// A tap or macvtap interface of the host: the kernel does checksums and segmentation where an end has not.
// set_offloads and use_pairs at any time. No frames come to a pair that is not in use.
class TapBackend final : public NetBackend {
 public:
  // Throws ConfigError, HostError.
  TapBackend(const TapSettings& settings, const Log& log);

  std::string_view kind() const override { return "tap"; }
  std::uint64_t offloads() const override { return offloads_; }
  std::uint16_t pairs() const override { return static_cast<std::uint16_t>(fds_.size()); }
  std::optional<std::uint16_t> mtu() const override { return tap_.mtu; }
  FrameEndpoint& endpoint(std::uint16_t index) override { return endpoints_.at(index); }
  void set_offloads(std::uint64_t accepted) override;
  void use_pairs(std::uint16_t count) override;

  // For vhost-net: one for each pair.
  std::span<const int> fds() const { return fds_; }
  // What the guest's address has to be, if it has to be one: a macvtap lets no other through.
  std::optional<MacAddress> address() const { return tap_.address; }

 private:
  OpenTap tap_;
  std::vector<int> fds_;
  std::vector<TapEndpoint> endpoints_;
  std::uint64_t offloads_;
  std::uint16_t used_ = 0;
};

}  // namespace hum
