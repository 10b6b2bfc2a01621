// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <string>

namespace hum {

enum class TlsSide { server, client };

// What one side shows the other, and by what it knows the other: PEM files, each with the option that names
// it, for errors.
struct TlsFiles {
  std::string certificate{};  // with those between it and its authority behind it, if there are any
  std::string key{};
  std::string authorities{};  // of the other side
  std::string certificate_option = "--tls-cert";
  std::string key_option = "--tls-key";
  std::string authorities_option = "--tls-ca";
};

// TLS 1.2 and 1.3, both sides with a certificate. Reads the files once. Throws ConfigError: a file is not
// there, is not what it should be, or has expired; the key is not the certificate's, or others may read it.
boost::asio::ssl::context make_tls_context(TlsSide side, const TlsFiles& files);

}  // namespace hum
