// SPDX-License-Identifier: Apache-2.0
#include "tools/tls/tls_context.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <cstdio>
#include <ctime>
#include <memory>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using Error = boost::system::error_code;

constexpr off_t largest_file = 1024L * 1024;
constexpr mode_t others = 0077;

struct PemFile {
  std::string option;
  std::string path;
  std::string text;
};

[[noreturn]] void refuse(const PemFile& file, const std::string& problem, const std::string& fix) {
  throw ConfigError(file.option, file.path, problem, fix);
}

PemFile read_pem(const std::string& option, const std::string& path, bool is_secret) {
  PemFile file{.option = option, .path = path, .text = {}};
  const Fd descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status{};
  if (!descriptor || ::fstat(descriptor.get(), &status) != 0)
    refuse(file, std::string("cannot be read: ") + std::generic_category().message(errno), "give a PEM file");
  if (!S_ISREG(status.st_mode) || status.st_size > largest_file)
    refuse(file, "no file, or one of more than 1 MiB", "give a PEM file");
  // Who can read the key can be this host to its clients, or this client to its hosts.
  if (is_secret && (status.st_mode & others) != 0)
    refuse(file, "others than its owner may read or write it", "chmod 600 it, or make a new key");
  std::array<char, 4096> buffer{};
  for (ssize_t count = 0; (count = ::read(descriptor.get(), buffer.data(), buffer.size())) > 0;)
    file.text.append(buffer.data(), static_cast<std::size_t>(count));
  return file;
}

std::string day_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (::ASN1_TIME_to_tm(time, &parts) != 1) return "a time that cannot be read";
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return {text.data(), length};
}

// Why a certificate does not count now; empty: it does.
std::string time_trouble(const X509* certificate) {
  if (::X509_cmp_current_time(::X509_get0_notAfter(certificate)) < 0)
    return "has expired on " + day_of(::X509_get0_notAfter(certificate));
  if (::X509_cmp_current_time(::X509_get0_notBefore(certificate)) > 0)
    return "does not count before " + day_of(::X509_get0_notBefore(certificate));
  return {};
}

// One that counts is enough: an authority's old and new certificate may stand in one file.
void check_authorities(const PemFile& file) {
  const std::unique_ptr<BIO, decltype(&::BIO_free)> source(
      ::BIO_new_mem_buf(file.text.data(), static_cast<int>(file.text.size())), &::BIO_free);
  std::string trouble = "has no certificate";
  for (;;) {
    const std::unique_ptr<X509, decltype(&::X509_free)> each(
        ::PEM_read_bio_X509(source.get(), nullptr, nullptr, nullptr), &::X509_free);
    if (!each) break;
    trouble = time_trouble(each.get());
    if (trouble.empty()) break;
  }
  ::ERR_clear_error();
  if (!trouble.empty())
    refuse(file, trouble, "give the certificates of the authorities that the other side's are signed by");
}

}  // namespace

ssl::context make_tls_context(TlsSide side, const TlsFiles& files) {
  // A static program cannot load what the host's configuration of OpenSSL may ask for.
  ::OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  const PemFile certificate = read_pem(files.certificate_option, files.certificate, false);
  const PemFile key = read_pem(files.key_option, files.key, true);
  const PemFile authorities = read_pem(files.authorities_option, files.authorities, false);
  ssl::context context(side == TlsSide::server ? ssl::context::tls_server : ssl::context::tls_client);
  SSL_CTX* const native = context.native_handle();
  ::SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  // Each connection is known by its certificate, and none by an earlier one.
  ::SSL_CTX_set_options(native, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  ::SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  ::SSL_CTX_set_num_tickets(native, 0);
  context.set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
  context.set_password_callback([](std::size_t, ssl::context::password_purpose) { return std::string(); });
  Error error;
  context.use_certificate_chain(asio::buffer(certificate.text), error);
  if (error) refuse(certificate, "no certificate: " + error.message(), "give it in PEM");
  const std::string trouble = time_trouble(::SSL_CTX_get0_certificate(native));
  if (!trouble.empty()) refuse(certificate, trouble, "give one that counts now");
  if (key.text.find("ENCRYPTED") != std::string::npos)
    refuse(key, "has a passphrase, and nobody is there to give it", "give one without");
  context.use_private_key(asio::buffer(key.text), ssl::context::pem, error);
  if (error && error.message().find("mismatch") == std::string::npos)
    refuse(key, "no private key: " + error.message(), "give it in PEM");
  if (error || ::SSL_CTX_check_private_key(native) != 1)
    refuse(key, "not the key of " + files.certificate, "give the one that the certificate was made with");
  check_authorities(authorities);
  context.add_certificate_authority(asio::buffer(authorities.text), error);
  if (error) refuse(authorities, "no certificate: " + error.message(), "give it in PEM");
  return context;
}

}  // namespace hum
