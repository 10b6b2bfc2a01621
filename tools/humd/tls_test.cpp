// SPDX-License-Identifier: Apache-2.0
//
// The daemon and its command line over TLS, as the programs that they are.
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/hum/process.h"
#include "tools/hum/test/child.h"
#include "tools/tls/tls_testing.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using testing::TemporaryFolder;
using testing::TestAuthority;
using testing::TestCertificate;

using Words = std::vector<std::string>;

// What a child writes until it has written that, or some time has passed, or it has ended.
std::string output_until(const Child& child, const std::string& mark) {
  std::string text;
  const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (text.find(mark) == std::string::npos && std::chrono::steady_clock::now() < late) {
    pollfd entry{.fd = child.output(), .events = POLLIN, .revents = 0};
    ::poll(&entry, 1, 100);
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(child.output(), buffer.data(), buffer.size());
    if (count == 0) break;
    if (count > 0) text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return text;
}

// humd with an address of its own; ended with it.
class TlsDaemon {
 public:
  TlsDaemon(const TemporaryFolder& place, const TlsFiles& files)
      : child_(HUM_DAEMON_PROGRAM,
               {"humd", "--state", place / "s", "--run", place / "r", "--vmm", HUM_FAKE_VMM, "--listen",
                "127.0.0.1:0", "--tls-cert", files.certificate, "--tls-key", files.key, "--tls-client-ca",
                files.authorities},
               "") {
    const std::string line = output_until(child_, "\n");
    if (const std::size_t begin = line.find("https://"); begin != std::string::npos)
      url_ = line.substr(begin, line.find('\n') - begin);
    // Without one, hum would ask, and start, this user's own daemon.
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(child_.messages(), buffer.data(), buffer.size());
    INFO(std::string(buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0));
    REQUIRE_FALSE(url_.empty());
  }
  ~TlsDaemon() {
    ::kill(child_.pid(), SIGTERM);
    child_.reap();
  }
  TlsDaemon(const TlsDaemon&) = delete;
  TlsDaemon& operator=(const TlsDaemon&) = delete;

  const std::string& url() const { return url_; }

 private:
  Child child_;
  std::string url_;
};

Words with_host(Words words, const std::string& url, const TlsFiles& files) {
  for (const std::string& each :
       {std::string("--host"), url, std::string("--tls-cert"), files.certificate, std::string("--tls-key"),
        files.key, std::string("--tls-ca"), files.authorities})
    words.push_back(each);
  return words;
}

ProcessResult hum(Words words) {
  words.insert(words.begin(), HUM_PROGRAM);
  return run_process(words);
}

ProcessResult hum(const Words& words, const std::string& url, const TlsFiles& files) {
  return hum(with_host(words, url, files));
}

// Why humd does not start.
std::string refusal(const TemporaryFolder& place, const Words& more) {
  Words words = {HUM_DAEMON_PROGRAM, "--state", place / "s", "--run", place / "r", "--vmm", HUM_FAKE_VMM};
  words.insert(words.end(), more.begin(), more.end());
  const ProcessResult result = run_process(words);
  return std::to_string(result.exit_code) + " " + result.errors;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("hum manages the VMs of a daemon on another host, by its options or by the environment") {
  const TemporaryFolder place;
  const TestAuthority authority;
  const TlsDaemon daemon(place, authority.server());
  const TlsFiles client = authority.client("laptop", {"laptop"});
  CHECK(
      hum({"vm", "create", "web", "--kernel", "/no/kernel", "--net", "none"}, daemon.url(), client).output ==
      "web\n");
  const ProcessResult list = hum({"vm", "ls", "-q"}, daemon.url(), client);
  CHECK(list.errors == "");
  CHECK(list.output == "web\n");
  CHECK(hum({"volume", "create", "data", "--size", "1M"}, daemon.url(), client).exit_code == 0);
  CHECK(hum({"volume", "ls", "-q"}, daemon.url() + "/", client).output == "data\n");
  CHECK(hum({"project", "set", "lab", "--vms", "3"}, daemon.url(), client).exit_code == 0);
  CHECK(hum({"project", "ls", "-q"}, daemon.url(), client).output == "lab\n");
  CHECK(hum({"vm", "capacity", "--project", "lab"}, daemon.url(), client).exit_code == 0);
  const Words environment = {"env",
                             "HUM_HOST=" + daemon.url(),
                             "HUM_TLS_CERT=" + client.certificate,
                             "HUM_TLS_KEY=" + client.key,
                             "HUM_TLS_CA=" + client.authorities,
                             HUM_PROGRAM,
                             "vm",
                             "ls",
                             "-q"};
  CHECK(run_process(environment).output == "web\n");
  Words both = environment;
  both.insert(both.begin() + 1, "HUM_SOCKET=/no/socket");
  CHECK(has(run_process(both).errors, "there is a socket, too: '/no/socket'"));
  CHECK(hum({"vm", "rm", "web"}, daemon.url(), client).exit_code == 0);
}

TEST_CASE("what needs the VM's own host is refused by name, and nothing is made") {
  const TemporaryFolder place;
  const TestAuthority authority;
  const TlsDaemon daemon(place, authority.server());
  const TlsFiles client = authority.client("laptop", {});
  CHECK(has(hum({"vm", "console", "web"}, daemon.url(), client).errors, "of the VM's own host only"));
  CHECK(has(hum({"vm", "create", "web"}, daemon.url(), client).errors, "a path on the daemon's host"));
  CHECK(hum({"vm", "ls", "-q"}, daemon.url(), client).output == "");
}

TEST_CASE("a client whose certificate names a user has that user's rights") {
  const TemporaryFolder place;
  const TestAuthority authority;
  const TlsDaemon daemon(place, authority.server());
  const TlsFiles laptop = authority.client("laptop", {"laptop"});
  const TlsFiles nobody = authority.client("nobody", {"user:nobody"});
  CHECK(hum({"vm", "create", "web", "--kernel", "/k", "--net", "none"}, daemon.url(), laptop).exit_code == 0);
  CHECK(hum({"vm", "create", "own", "--kernel", "/k", "--net", "none"}, daemon.url(), nobody).exit_code == 0);
  CHECK(hum({"vm", "ls", "-q"}, daemon.url(), nobody).output == "own\n");
  CHECK(has(hum({"vm", "rm", "web"}, daemon.url(), nobody).errors, "there is no VM 'web'"));
  CHECK(has(hum({"events"}, daemon.url(), nobody).errors, "only the daemon's owner"));
  CHECK(hum({"vm", "ls", "-q"}, daemon.url(), laptop).output == "own\nweb\n");
}

TEST_CASE(
    "a host that is not the one that was asked for, or no daemon, is told from a client that is refused") {
  const TemporaryFolder place;
  const TestAuthority authority;
  const TestAuthority another("another");
  const TlsFiles client = authority.client("laptop", {"laptop"});
  {
    const TlsDaemon daemon(place, authority.server());
    const auto words = [&](const std::string& url, const TlsFiles& files) {
      const ProcessResult result = hum({"vm", "ls"}, url, files);
      CHECK(result.exit_code == 2);
      CHECK(result.output == "");
      return result.errors;
    };
    const std::string port = daemon.url().substr(daemon.url().rfind(':'));
    CHECK(has(words("https://localhost" + port, client),
              "the certificate of 'localhost' is not accepted: hostname"));
    TlsFiles other_host = client;
    other_host.authorities = another.file();
    CHECK(has(words(daemon.url(), other_host), "the certificate of '127.0.0.1' is not accepted"));
    TlsFiles other_client = another.client("laptop", {"laptop"});
    other_client.authorities = authority.file();
    CHECK(has(words(daemon.url(), other_client), "the server refuses this client"));
    CHECK(has(words("http://127.0.0.1" + port, client), "no https://HOST:PORT"));
    CHECK(has(words("https://127.0.0.1:1", client), "Connection refused"));
    CHECK(has(words("https://no-such-host.invalid:1", client), "there is no host"));
    ::chmod(client.key.c_str(), 0644);
    CHECK(has(words(daemon.url(), client), "others than its owner may read or write it"));
    CHECK(has(hum({"vm", "ls", "--host", daemon.url()}).errors, "give --tls-cert FILE, or set HUM_TLS_CERT"));
  }
  TestCertificate elsewhere{.common_names = {"127.0.0.1"}, .alternative = "IP:127.0.0.2"};
  elsewhere.is_server = true;
  const TlsDaemon daemon(place, authority.make("elsewhere", elsewhere));
  CHECK(has(hum({"vm", "ls"}, daemon.url(), authority.client("desk", {})).errors, "IP address mismatch"));
}

TEST_CASE("events come over TLS as they happen, and the daemon serves on when their reader is killed") {
  const TemporaryFolder place;
  const TestAuthority authority;
  const TlsDaemon daemon(place, authority.server());
  const TlsFiles client = authority.client("laptop", {"laptop"});
  {
    Child reader(HUM_PROGRAM, with_host({"hum", "events", "--json"}, daemon.url(), client), "");
    for (const char* const name : {"one", "two"}) {
      CHECK(hum({"vm", "create", name, "--kernel", "/k", "--net", "none"}, daemon.url(), client).exit_code ==
            0);
      const std::string come = output_until(reader, std::string("\"vm\":\"") + name + "\"");
      CHECK(has(come, R"("type":"vm.created")"));
    }
    reader.kill();
    reader.reap();
  }
  CHECK(hum({"vm", "ls", "-q"}, daemon.url(), client).output == "one\ntwo\n");
}

TEST_CASE("a daemon says what is wrong with its files and its address, and does not begin") {
  const TemporaryFolder place;
  const TestAuthority authority;
  const TlsFiles files = authority.server();
  const auto all = [](const TlsFiles& given, const std::string& address) {
    return Words{"--listen",  address,   "--tls-cert",      given.certificate,
                 "--tls-key", given.key, "--tls-client-ca", given.authorities};
  };
  for (std::size_t missing = 0; missing < 4; ++missing) {
    Words words = all(files, "127.0.0.1:0");
    const std::string option = words[missing * 2];
    words.erase(words.begin() + static_cast<std::ptrdiff_t>(missing) * 2,
                words.begin() + static_cast<std::ptrdiff_t>(missing) * 2 + 2);
    CHECK(has(refusal(place, words), "2 humd: " + option + ": missing; give --listen"));
  }
  CHECK(has(refusal(place, all(files, "127.0.0.1")), "2 humd: --listen '127.0.0.1': no host and port"));
  CHECK(has(refusal(place, all(files, "192.0.2.1:1")),
            "2 humd: --listen '192.0.2.1:1': cannot be listened at"));
  TestCertificate old{.common_names = {"old"}};
  old.from = -7200;
  old.until = -3600;
  CHECK(has(refusal(place, all(authority.make("old", old), "127.0.0.1:0")), "has expired on"));
  TlsFiles no_authority = files;
  no_authority.authorities = files.key;
  CHECK(has(refusal(place, all(no_authority, "127.0.0.1:0")), "2 humd: --tls-client-ca"));
  ::chmod(files.key.c_str(), 0644);
  CHECK(has(refusal(place, all(files, "127.0.0.1:0")), "others than its owner may read or write it"));
}

TEST_CASE("a new start takes new certificates, and has all VMs") {
  const TemporaryFolder place;
  const TestAuthority first;
  const TestAuthority second("second");
  const TlsFiles old_client = first.client("laptop", {"laptop"});
  {
    const TlsDaemon daemon(place, first.server());
    CHECK(
        hum({"vm", "create", "web", "--kernel", "/k", "--net", "none"}, daemon.url(), old_client).exit_code ==
        0);
  }
  const TlsDaemon daemon(place, second.server());
  CHECK(hum({"vm", "ls", "-q"}, daemon.url(), second.client("laptop", {"laptop"})).output == "web\n");
  CHECK(hum({"vm", "ls", "-q"}, daemon.url(), old_client).exit_code == 2);
}

}  // namespace hum
