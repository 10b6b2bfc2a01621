// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <span>

#include "devices/net/frame_endpoint.h"

namespace hum {

// One queue of a tap or macvtap that was opened with IFF_VNET_HDR and does not block. The descriptor belongs
// to somebody who lives longer. Closed when the interface is gone.
class TapEndpoint final : public FrameEndpoint {
 public:
  explicit TapEndpoint(int fd) : fd_(fd) {}

  int fd() const override { return fd_; }
  Transfer receive(std::span<const iovec> buffers) override;
  Transfer send(std::span<const iovec> frame) override;

 private:
  static constexpr std::size_t most_parts = 1024;  // UIO_MAXIOV

  int fd_;
  std::byte overflow_{};  // where the first byte that has no room goes
  std::array<iovec, most_parts> parts_;
};

}  // namespace hum
