// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

#include "devices/net/frame_endpoint.h"

namespace hum {

// A stream of frames, each behind its length in 4 bytes, the highest first: what passt speaks on its socket.
// The frames have no net_wire::Header there, so the guest's side reads zeroes, and there are no offloads. The
// socket belongs to the caller, and may become another one after forget(). Belongs to one thread.
//
// Frames to the host's own loopback addresses are lost: passt takes them for any others and would reach what
// this host keeps to itself.
class PasstStream {
 public:
  PasstStream();

  // Room in a socket for large frames.
  static void prepare(int socket);

  // As those of FrameEndpoint. receive says `closed` where the other side is gone, or sends no such stream.
  FrameEndpoint::Transfer receive(int socket, std::span<const iovec> buffers);
  FrameEndpoint::Transfer send(int socket, std::span<const iovec> frame);
  bool flush(int socket);

  // What was under way, in both directions.
  void forget();
  // Reads what there is, and loses it.
  void discard(int socket);

 private:
  bool fill(int socket);
  void keep(std::size_t sent);

  std::vector<std::byte> received_;  // what was read: from begin_ to end_
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool ended_ = false;           // at the latest fill
  std::vector<std::byte> kept_;  // of a frame that went in part: the rest, from kept_begin_ on
  std::size_t kept_begin_ = 0;
  std::vector<iovec> parts_;  // of the frame that is being sent
};

}  // namespace hum
