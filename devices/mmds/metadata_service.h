// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "devices/mmds/http_request.h"
#include "devices/mmds/metadata_store.h"
#include "devices/mmds/session_tokens.h"
#include "vmm/device/device.h"

namespace hum {

// What a guest's requests for metadata are answered with: HTTP as Firecracker's metadata service and EC2's
// speak it. GET finds what is in the store; PUT /latest/api/token makes a token, with which version 2 wants
// every GET to come. One for all interfaces of a VM that have mmds=, any thread.
class MetadataService final : public DeviceService {
 public:
  enum class Version : std::uint8_t { v1, v2 };
  struct Settings {
    Version version = Version::v1;
    bool imds_compat = false;  // answers are plain text, whatever the request accepts
    SessionTokens::Now now = SessionTokens::Clock::now;
  };
  struct Reply {
    std::size_t bytes = 0;  // of the text that were the request
    std::string text;       // the response
    bool close = false;     // the connection ends with it
  };

  static constexpr std::uint32_t longest_token_seconds = 21600;

  // store outlives the service. Throws HostError.
  MetadataService(const MetadataStore& store, Settings settings);

  // The reply to the request that text begins with; nothing while that is not whole, which it is or is not
  // with most_request_bytes.
  std::optional<Reply> reply(std::string_view text) const;

 private:
  struct Response;

  Response respond(const HttpRequest& request) const;
  Response get(const HttpRequest& request, std::string_view path) const;
  Response put(const HttpRequest& request, std::string_view path) const;

  const MetadataStore& store_;
  Settings settings_;
  SessionTokens tokens_;
};

}  // namespace hum
