// SPDX-License-Identifier: Apache-2.0
#include "tools/tls/tls_testing.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>

namespace hum::testing {
namespace {

template <auto free_it>
struct Free {
  template <typename Value>
  void operator()(Value* value) const {
    free_it(value);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<::EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<::X509_free>>;
using File = std::unique_ptr<std::FILE, Free<std::fclose>>;

void must(bool done) {
  if (!done) throw std::runtime_error("a certificate for a test cannot be made");
}

File new_file(const std::string& path, mode_t mode) {
  const int number = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  must(number >= 0);
  return File(::fdopen(number, "w"));
}

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& text) {
  X509V3_CTX context{};
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, Free<::X509_EXTENSION_free>> extension(
      ::X509V3_EXT_conf_nid(nullptr, &context, kind, text.c_str()));
  must(extension && ::X509_add_ext(certificate, extension.get(), -1) == 1);
}

// Not signed, and without extensions.
Certificate blank(const TestCertificate& wanted, EVP_PKEY* key) {
  static long serial = 0;
  Certificate certificate(::X509_new());
  ::X509_set_version(certificate.get(), X509_VERSION_3);
  ::ASN1_INTEGER_set(::X509_get_serialNumber(certificate.get()), ++serial);
  ::X509_gmtime_adj(::X509_getm_notBefore(certificate.get()), wanted.from);
  ::X509_gmtime_adj(::X509_getm_notAfter(certificate.get()), wanted.until);
  for (const std::string& name : wanted.common_names)
    must(::X509_NAME_add_entry_by_txt(::X509_get_subject_name(certificate.get()), "CN", MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(name.data()),
                                      static_cast<int>(name.size()), -1, 0) == 1);
  must(::X509_set_pubkey(certificate.get(), key) == 1);
  return certificate;
}

}  // namespace

struct TestAuthority::Keys {
  Key key;
  Certificate certificate;
};

TestAuthority::TestAuthority(const std::string& name, long until)
    : file_(folder_ / "authority.pem"), keys_(std::make_unique<Keys>()) {
  keys_->key.reset(::EVP_EC_gen("P-256"));
  TestCertificate wanted{.common_names = {name}};
  wanted.from = -7200;
  wanted.until = until;
  keys_->certificate = blank(wanted, keys_->key.get());
  X509* const own = keys_->certificate.get();
  ::X509_set_issuer_name(own, ::X509_get_subject_name(own));
  add_extension(own, own, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(own, own, NID_subject_key_identifier, "hash");
  must(::X509_sign(own, keys_->key.get(), ::EVP_sha256()) > 0);
  must(::PEM_write_X509(new_file(file_, 0644).get(), own) == 1);
}

TestAuthority::~TestAuthority() = default;

TlsFiles TestAuthority::make(const std::string& name, const TestCertificate& wanted) const {
  TlsFiles files{.certificate = folder_ / (name + ".pem"), .key = folder_ / (name + ".key")};
  files.authorities = file_;
  const Key key(::EVP_EC_gen("P-256"));
  const Certificate certificate = blank(wanted, key.get());
  X509* const issuer = keys_->certificate.get();
  ::X509_set_issuer_name(certificate.get(), ::X509_get_subject_name(issuer));
  add_extension(certificate.get(), issuer, NID_ext_key_usage, wanted.is_server ? "serverAuth" : "clientAuth");
  if (!wanted.alternative.empty())
    add_extension(certificate.get(), issuer, NID_subject_alt_name, wanted.alternative);
  must(::X509_sign(certificate.get(), keys_->key.get(), ::EVP_sha256()) > 0);
  must(::PEM_write_X509(new_file(files.certificate, 0644).get(), certificate.get()) == 1);
  must(::PEM_write_PrivateKey(new_file(files.key, 0600).get(), key.get(), nullptr, nullptr, 0, nullptr,
                              nullptr) == 1);
  return files;
}

TlsFiles TestAuthority::server() const {
  TestCertificate wanted{.common_names = {"server"}, .alternative = "IP:127.0.0.1"};
  wanted.is_server = true;
  return make("server", wanted);
}

TlsFiles TestAuthority::client(const std::string& name, const std::vector<std::string>& common_names) const {
  TestCertificate wanted;
  wanted.common_names = common_names;
  return make(name, wanted);
}

}  // namespace hum::testing
