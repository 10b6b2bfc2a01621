// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>

#include "vmm/base/fd.h"

namespace hum {

// A daemon on another host, and the PEM files by which each side knows the other.
struct TlsHost {
  std::string url{};  // "https://HOST:PORT"; empty: there is none
  std::string certificate{};
  std::string key{};
  std::string authorities{};
};

// One connection to it, carried by the program hum-tls, which this object starts and whose end it waits for.
// So this program has no TLS, which would be memory of every VM at a prompt.
class TlsRelay {
 public:
  // Throws HostError.
  explicit TlsRelay(const TlsHost& host);
  ~TlsRelay();
  TlsRelay(const TlsRelay&) = delete;
  TlsRelay& operator=(const TlsRelay&) = delete;

  // Plain bytes. Once.
  Fd take_connection() { return std::move(connection_); }
  // Why there is no connection any more, once the one that was taken has ended. Empty: it ended as it should.
  std::string words();

 private:
  Fd connection_;
  Fd errors_;
  pid_t pid_ = -1;
};

}  // namespace hum
