// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "devices/net/frame_endpoint.h"
#include "devices/net/net_wire.h"
#include "vmm/base/endian.h"
#include "vmm/base/fd.h"

namespace hum {

// One end of a stream of frames, each behind its length in 4 bytes, the highest first: what passt speaks on
// its socket. The frames have no net_wire::Header there, so the guest's side reads zeroes, and there are no
// offloads.
//
// Both ends are kept, for one passt after the other. The descriptor stays the same through all of them, and
// no call says `closed`: while there is no passt the frames of the guest are lost. connect and disconnect
// are of the thread that looks after passt, and wait for a frame under way; the frames' thread never waits
// for them.
//
// Frames to the host's own loopback addresses are lost: passt takes them for any others and would reach what
// this host keeps to itself.
class PasstEndpoint final : public FrameEndpoint {
 public:
  // broken is called by the thread of the frames when what comes is no such stream: nothing of it is read
  // any more, until the next connect. Throws HostError.
  explicit PasstEndpoint(std::function<void()> broken);

  int fd() const override { return ours_.get(); }
  Transfer receive(std::span<const iovec> buffers) override;
  Transfer send(std::span<const iovec> frame) override;
  bool flush() override;

  // For the process to inherit.
  int process_end() const { return theirs_.get(); }
  // A process has the other end, or will have it soon: frames wait for it until then.
  void connect();
  // It has gone. What was under way is forgotten, in both directions.
  void disconnect();
  bool connected();

 private:
  std::span<const std::byte> next_frame();
  bool fill();
  void fail();
  bool send_kept();
  void keep(std::size_t sent);

  Fd ours_;
  Fd theirs_;
  std::function<void()> broken_;
  std::mutex mutex_;  // guards all below
  bool connected_ = false;
  std::vector<std::byte> received_;  // what was read: from begin_ to end_
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::vector<std::byte> kept_;  // of a frame that went in part: the rest, from kept_begin_ on
  std::size_t kept_begin_ = 0;
  std::vector<iovec> parts_;  // of the frame that is being sent
};

}  // namespace hum
