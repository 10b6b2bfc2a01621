// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/tls/tls_context.h"
#include "vmm/base/temporary_folder.h"

// For tests only.
namespace hum::testing {

// What a certificate says.
struct TestCertificate {
  std::vector<std::string> common_names{};
  std::string alternative{};  // "IP:127.0.0.1", "DNS:localhost"; empty: none
  bool is_server = false;     // else it is a client's
  long from = -60;            // seconds from now
  long until = 3600;
};

// An authority that makes certificates, as PEM files in a folder of its own.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name = "authority", long until = 3600);
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  const std::string& file() const { return file_; }
  // With a new key: NAME.pem and NAME.key. The authorities are this one.
  TlsFiles make(const std::string& name, const TestCertificate& certificate) const;
  // The same for a server at 127.0.0.1 and a client of those names.
  TlsFiles server() const;
  TlsFiles client(const std::string& name, const std::vector<std::string>& common_names) const;

 private:
  struct Keys;
  TemporaryFolder folder_;
  std::string file_;
  std::unique_ptr<Keys> keys_;
};

}  // namespace hum::testing
