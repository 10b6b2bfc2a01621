// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/mmds/metadata_service.h"
#include "devices/net/ip_address.h"
#include "devices/net/net_backend.h"

namespace hum {

// Where guests look for the metadata: of the link-local network all but the first and the last 256 addresses
// (RFC 3927, 2.1). Throws ConfigError with the key.
Ipv4Address parse_mmds_address(const std::string& key, const std::string& text);

// A backend with the metadata service on the guest's wire: frames to the service's address go no further, all
// others pass, and its answers come before those of the backend, on the first pair of queues. The backend's
// first endpoint has to keep its descriptor.
class MmdsBackend final : public NetBackend {
 public:
  // service outlives the backend. Throws HostError.
  MmdsBackend(std::unique_ptr<NetBackend> backend, const MetadataService& service,
              const Ipv4Address& address);
  ~MmdsBackend() override;

  std::string_view kind() const override { return backend_->kind(); }
  std::uint64_t offloads() const override { return backend_->offloads(); }
  std::uint16_t pairs() const override { return backend_->pairs(); }
  std::optional<std::uint16_t> mtu() const override { return backend_->mtu(); }
  FrameEndpoint& endpoint(std::uint16_t index) override;
  void set_offloads(std::uint64_t accepted) override { backend_->set_offloads(accepted); }
  void use_pairs(std::uint16_t count) override { backend_->use_pairs(count); }
  bool link() const override { return backend_->link(); }
  void on_link_change(std::function<void()> changed) override {
    backend_->on_link_change(std::move(changed));
  }

 private:
  class Station;
  class Endpoint;

  std::unique_ptr<NetBackend> backend_;
  std::unique_ptr<Station> station_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
};

}  // namespace hum
