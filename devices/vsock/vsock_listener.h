// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>

#include "vmm/base/fd.h"

namespace hum {

// The Unix sockets that stand for the ports of the host and of the guest, in the manner of Firecracker: who
// connects to the path and sends "CONNECT <port>\n" wants that port of the guest, and what the guest opens at
// port N of the host leads to the socket <path>_N, where a program listens. Clients that have not yet sent
// their line are kept here, up to a number and for a time. Belongs to one thread at a time.
class VsockListener {
 public:
  static constexpr std::size_t most_line_bytes = 32;  // with its end
  static constexpr std::size_t most_waiting = 128;    // one more, and the one who has waited longest goes

  // A client and the port of the guest it asks for; its socket is at the first byte behind the line.
  using Deliver = std::function<void(Fd client, std::uint32_t port)>;

  // Makes the socket at the path, and removes it at the end. key names the option in errors. patience: for a
  // client's line. Throws ConfigError where the path cannot be taken, HostError.
  VsockListener(const std::string& key, const std::string& path, std::chrono::milliseconds patience);
  ~VsockListener();
  VsockListener(const VsockListener&) = delete;
  VsockListener& operator=(const VsockListener&) = delete;

  // Readable when there is something to serve.
  int fd() const { return epoll_.get(); }
  void serve(const Deliver& deliver);

  // A connection to the program behind a port of the host, if one listens there. busy: one does, but as many
  // clients wait for it as it wants.
  struct Connection {
    Fd fd = {};
    bool busy = false;
  };
  Connection connect(std::uint32_t port) const;

 private:
  struct Client {
    Fd fd;
    std::chrono::steady_clock::time_point until;
    std::array<char, most_line_bytes> line = {};
    std::size_t size = 0;
  };
  using Clients = std::list<Client>;  // the one who has waited longest first

  bool watch(int fd, std::uint32_t events, int operation) const;
  void accept(const Deliver& deliver);
  void read_line(Clients::iterator client, const Deliver& deliver);
  void serve_timer();
  void set_timer();

  std::string path_;
  Fd epoll_;
  Timer timer_;
  Fd listener_;
  dev_t device_ = 0;  // what was made at the path
  ino_t inode_ = 0;
  bool resting_ = false;  // the host has no more descriptors
  std::chrono::milliseconds patience_;
  Clients clients_;
};

}  // namespace hum
