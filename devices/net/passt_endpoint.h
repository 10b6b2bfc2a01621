// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <span>

#include "devices/net/frame_endpoint.h"
#include "devices/net/passt_stream.h"
#include "vmm/base/fd.h"

namespace hum {

// One end of a passt's stream of frames, for a child process. Both ends are kept, for one passt after the
// other. The descriptor stays the same through all of them, and no call says `closed`: while there is no
// passt the frames of the guest are lost. connect and disconnect are of the thread that looks after passt,
// and wait for a frame under way; the frames' thread never waits for them.
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
  Fd ours_;
  Fd theirs_;
  std::function<void()> broken_;
  std::mutex mutex_;  // guards the two below
  bool connected_ = false;
  PasstStream stream_;
};

}  // namespace hum
