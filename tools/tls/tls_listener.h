// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/tls/tls_context.h"
#include "vmm/base/fd.h"

namespace hum {

// The user that a client is, by the common names of its certificate: "user:NAME" is that user of this host
// (/etc/passwd), any other, or none, is the administrator. Nothing: it is nobody; there are two names, or
// there is no such user.
std::optional<uid_t> user_of_names(const std::vector<std::string>& common_names, uid_t administrator);

// Takes connections by TLS from clients that show a certificate of the authorities, on a thread of its own,
// "humd-tls", so that no handshake holds up anybody else, and hands each on as a local one of plain bytes.
class TlsListener {
 public:
  struct Settings {
    std::string address;  // "127.0.0.1:8443", "[::1]:0"
    TlsFiles files;
    uid_t administrator = 0;
    std::chrono::milliseconds handshake_patience{10'000};
    std::size_t most_handshakes = 128;  // under way; one more is closed
    std::size_t most_connections = 1024;
  };
  // Called on the listener's thread.
  using Take = std::function<void(Fd connection, uid_t user)>;
  // A line for the log, now and then. Called on the listener's thread.
  using Tell = std::function<void(std::string_view line)>;

  // Clients may connect when it returns, and are served from start on. Throws ConfigError (the address, the
  // files).
  explicit TlsListener(Settings settings);
  // Closes all connections.
  ~TlsListener();
  TlsListener(const TlsListener&) = delete;
  TlsListener& operator=(const TlsListener&) = delete;

  // With the port that it has.
  std::string address() const;
  void start(Take take, Tell tell);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace hum
