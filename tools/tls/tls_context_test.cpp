// SPDX-License-Identifier: Apache-2.0
#include "tools/tls/tls_context.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "tools/tls/tcp_address.h"
#include "tools/tls/tls_listener.h"
#include "tools/tls/tls_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::TestAuthority;
using testing::TestCertificate;

// The error without the paths' folders.
std::string refusal(const TlsFiles& files) {
  try {
    make_tls_context(TlsSide::server, files);
  } catch (const ConfigError& error) {
    std::string text = error.what();
    const std::string folder = std::filesystem::path(error.value()).parent_path().string() + "/";
    for (std::size_t at = 0; (at = text.find(folder)) != std::string::npos;) text.erase(at, folder.size());
    return text;
  }
  return "none";
}

TlsFiles times(const TestAuthority& authority, long from, long until) {
  TestCertificate wanted;
  wanted.from = from;
  wanted.until = until;
  return authority.make("timed", wanted);
}

std::string user_text(const std::vector<std::string>& names) {
  const auto user = user_of_names(names, 4321);
  return user ? std::to_string(*user) : "nobody";
}

std::string address_of(const std::string& text) {
  try {
    const TcpAddress address = TcpAddress::parse("listen", text);
    return address.host + " " + std::to_string(address.port) + " " + address.text();
  } catch (const ConfigError& error) {
    return error.key();
  }
}

}  // namespace

TEST_CASE("files that fit make a context, for each side") {
  const TestAuthority authority;
  CHECK(refusal(authority.server()) == "none");
  CHECK_NOTHROW(make_tls_context(TlsSide::client, authority.client("client", {"admin"})));
}

TEST_CASE("a file that is not there, or is no PEM file, is named with its option") {
  const TestAuthority authority;
  const TlsFiles good = authority.server();
  for (const auto member : {&TlsFiles::certificate, &TlsFiles::key, &TlsFiles::authorities}) {
    TlsFiles files = good;
    const std::string option = member == &TlsFiles::certificate ? files.certificate_option
                               : member == &TlsFiles::key       ? files.key_option
                                                                : files.authorities_option;
    const std::string other = std::filesystem::path(good.key).parent_path() / "other";
    files.*member = other;
    std::filesystem::remove(other);
    INFO(option);
    CHECK(refusal(files).find(option + " 'other': cannot be read") == 0);
    std::ofstream(other) << "no PEM";
    ::chmod(other.c_str(), 0600);
    CHECK(refusal(files).find(option + " 'other': ") == 0);
    const std::string problem = refusal(files).substr(option.size());
    CHECK((problem.find("PEM") != std::string::npos ||
           problem.find("has no certificate") != std::string::npos));
    files.*member = std::filesystem::path(good.key).parent_path();
    CHECK(refusal(files).find("no file") != std::string::npos);
  }
}

TEST_CASE("a key that others may read is refused") {
  const TestAuthority authority;
  const TlsFiles files = authority.server();
  for (const mode_t mode : {0640U, 0604U, 0620U, 0602U}) {
    ::chmod(files.key.c_str(), mode);
    CHECK(refusal(files) ==
          "--tls-key 'server.key': others than its owner may read or write it; chmod 600 it, or make a new "
          "key");
  }
  ::chmod(files.key.c_str(), 0400);
  CHECK(refusal(files) == "none");
}

TEST_CASE("a key with a passphrase, or of another certificate, is refused") {
  const TestAuthority authority;
  TlsFiles files = authority.server();
  const TlsFiles other = authority.client("other", {});
  TlsFiles mixed = files;
  mixed.key = other.key;
  CHECK(refusal(mixed).find("--tls-key 'other.key': not the key of server.pem") == 0);
  const std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key(::EVP_EC_gen("P-256"), &::EVP_PKEY_free);
  std::FILE* const file = std::fopen(files.key.c_str(), "w");
  REQUIRE(::PEM_write_PKCS8PrivateKey(file, key.get(), ::EVP_aes_128_cbc(), "word", 4, nullptr, nullptr) ==
          1);
  std::fclose(file);
  CHECK(refusal(files).find("--tls-key 'server.key': has a passphrase") == 0);
}

TEST_CASE("a certificate that has expired, or does not count yet, is refused, with its day") {
  const TestAuthority authority;
  CHECK(refusal(times(authority, -7200, -3600)).find("--tls-cert 'timed.pem': has expired on 20") == 0);
  CHECK(refusal(times(authority, 3600, 7200)).find("--tls-cert 'timed.pem': does not count before 20") == 0);
  const TestAuthority old("old", -3600);
  TlsFiles files = authority.server();
  files.authorities = old.file();
  CHECK(refusal(files).find("--tls-ca 'authority.pem': has expired on 20") == 0);
  // A new one beside it is enough.
  std::ofstream(old.file(), std::ios::app) << std::ifstream(authority.file()).rdbuf();
  CHECK(refusal(files) == "none");
}

TEST_CASE(
    "a client is the user that its certificate names, nobody if there is none, and else the administrator") {
  CHECK(user_text({}) == "4321");
  CHECK(user_text({"laptop"}) == "4321");
  CHECK(user_text({"user"}) == "4321");
  CHECK(user_text({"user:root"}) == "0");
  CHECK(user_text({"user:"}) == "nobody");
  CHECK(user_text({"user:no-such-user"}) == "nobody");
  CHECK(user_text({std::string("user:root\0x", 11)}) == "nobody");
  CHECK(user_text({"laptop", "user:root"}) == "nobody");
  CHECK(user_text({"laptop", "other"}) == "nobody");
}

TEST_CASE("addresses are a host and a port") {
  CHECK(address_of("127.0.0.1:8443") == "127.0.0.1 8443 127.0.0.1:8443");
  CHECK(address_of("[::1]:0") == "::1 0 [::1]:0");
  CHECK(address_of("vm.example.org:65535") == "vm.example.org 65535 vm.example.org:65535");
  for (const char* const wrong : {"", ":1", "host", "host:", "host:65536", "host:-1", "host:1x", "::1:80",
                                  "[x]:1", "[]:1", "a b:1", "-a:1", "user@host:1"}) {
    INFO(wrong);
    CHECK(address_of(wrong) == "listen");
  }
}

}  // namespace hum
