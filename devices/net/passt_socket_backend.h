// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "devices/net/net_backend.h"
#include "devices/net/passt_stream.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

namespace hum {

// The stream of frames of a passt that another program runs, over connections one after the other: `closed`
// from the end of one to the next connect, when fd() is another. connect and disconnect are of the thread
// that looks after passt.
class PasstSocketEndpoint final : public FrameEndpoint {
 public:
  // broken is called by the thread of the frames when what comes is no stream of frames, or no more comes.
  explicit PasstSocketEndpoint(std::function<void()> broken) : broken_(std::move(broken)) {}

  int fd() const override { return socket_.get(); }
  Transfer receive(std::span<const iovec> buffers) override;
  Transfer send(std::span<const iovec> frame) override;
  bool flush() override;

  void connect(Fd socket);
  // False: that was known already.
  bool disconnect();

 private:
  std::function<void()> broken_;
  std::mutex mutex_;  // guards all below; held by connect and disconnect for a moment only
  Fd socket_;
  Fd previous_;  // the frames' thread may not yet have forgotten its number
  bool connected_ = false;
  PasstStream stream_;
};

// A network without root whose passt somebody else has started, and looks after: frames over its socket. When
// it ends, the link is down; with a path, until there is one at the same path again. One thread looks for
// that.
class PasstSocketBackend final : public NetBackend {
 public:
  struct Settings {
    std::string what = "net";  // names the interface in messages
    std::string path;
    std::optional<int> fd{};           // in place of a path: a connected stream socket of the caller's
    std::optional<std::uint16_t> mtu;  // that passt tells the guest
  };

  // log outlives the backend. Throws ConfigError: nobody answers there, or the descriptor is no such socket.
  PasstSocketBackend(Settings settings, const Log& log);

  std::string_view kind() const override { return "passt"; }
  std::uint64_t offloads() const override { return 0; }
  std::uint16_t pairs() const override { return 1; }
  std::optional<std::uint16_t> mtu() const override;
  FrameEndpoint& endpoint(std::uint16_t /*index*/) override { return endpoint_; }
  void set_offloads(std::uint64_t /*accepted*/) override {}
  void use_pairs(std::uint16_t /*count*/) override {}
  bool link() const override { return link_.load(std::memory_order_relaxed); }
  void on_link_change(std::function<void()> changed) override;

 private:
  void use(Fd socket);
  void on_end();
  void try_again();
  void tell_change();

  const Settings settings_;
  const Log& log_;
  PasstSocketEndpoint endpoint_;
  Timer retry_;
  int watched_ = -1;  // the connection that there is; of the thread
  std::atomic<bool> link_ = true;
  std::mutex mutex_;  // guards the one below
  std::function<void()> changed_;
  IoThread thread_;  // last: ends before what it uses
};

}  // namespace hum
