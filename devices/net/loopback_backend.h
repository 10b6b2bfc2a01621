// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "devices/net/net_backend.h"

namespace hum {

// A host's end that needs no host: every frame that is sent is received again, by the same pair, with the
// header that it was sent with. For tests and measurements of guests and of what is between.
class LoopbackBackend final : public NetBackend {
 public:
  // A frame that comes when so many wait to be received is lost.
  static constexpr std::size_t most_waiting = 256;

  // Throws HostError.
  explicit LoopbackBackend(std::uint16_t pairs);
  ~LoopbackBackend() override;

  std::string_view kind() const override { return "loopback"; }
  std::uint64_t offloads() const override;
  std::uint16_t pairs() const override;
  FrameEndpoint& endpoint(std::uint16_t index) override;

  void set_offloads(std::uint64_t /*accepted*/) override {}
  void use_pairs(std::uint16_t /*count*/) override {}

 private:
  class Endpoint;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
};

}  // namespace hum
