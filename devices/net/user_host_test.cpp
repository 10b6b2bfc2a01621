// SPDX-License-Identifier: Apache-2.0
#include "devices/net/user_host.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "vmm/base/testing.h"

namespace hum {
namespace {

// A folder that stands for "/".
class FakeRoot {
 public:
  FakeRoot() {
    path_ = (std::filesystem::temp_directory_path() / "hum-root-XXXXXX").string();
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = path_ + "/" + name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  bool routed(const std::string& row) const {
    write("proc/thread-self/net/route",
          "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" + row);
    return has_default_route(path_);
  }
  bool routed6(const std::string& row) const {
    write("proc/thread-self/net/ipv6_route", row);
    return has_default_route(path_);
  }

 private:
  std::string path_;
};

const std::string zeroes(32, '0');

}  // namespace

TEST_CASE("a default route of IPv4 is one to everywhere that is up and refuses nothing") {
  const FakeRoot root;
  CHECK_FALSE(has_default_route(root.path()));
  CHECK_FALSE(root.routed(""));
  CHECK(root.routed("eth0\t00000000\t0100090A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"));
  CHECK_FALSE(root.routed("eth0\t0000090A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"));
  CHECK_FALSE(root.routed("eth0\t00000000\t0100090A\t0001\t0\t0\t0\t0000000F\t0\t0\t0\n"));
  CHECK_FALSE(root.routed("eth0\t00000000\t0100090A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n"));
  CHECK_FALSE(root.routed("*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"));
}

TEST_CASE("a default route of IPv6 is one that leaves the host") {
  const FakeRoot root;
  const std::string way =
      zeroes + " 00 " + zeroes + " 00 fd990000000000000000000000000001 00000400 00000001 00000000 ";
  CHECK(root.routed6(way + "00000003     eth0\n"));
  CHECK_FALSE(root.routed6(way + "00200200       lo\n"));
  CHECK_FALSE(root.routed6(way + "00000203     eth0\n"));
  CHECK_FALSE(root.routed6("fd99" + way.substr(4) + "00000003     eth0\n"));
}

TEST_CASE("name servers that a guest reaches are left to passt") {
  const FakeRoot root;
  root.write("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.9\n");
  for (const char* text : {"nameserver 192.0.2.53\n", "nameserver 127.0.0.1\nnameserver 2001:db8::53\n"}) {
    root.write("etc/resolv.conf", text);
    CHECK(guest_name_servers(root.path()).replaced.empty());
    CHECK_FALSE(guest_name_servers(root.path()).unreachable);
  }
}

TEST_CASE("for a resolver on the host itself stand the name servers behind it") {
  const FakeRoot root;
  const std::string own =
      GENERATE("nameserver 127.0.0.53\noptions edns0\n", "nameserver ::1\n", "search x\n");
  root.write("etc/resolv.conf", own);
  CHECK(guest_name_servers(root.path()).unreachable);
  root.write("run/systemd/resolve/resolv.conf",
             "# comment\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\n");
  const NameServers servers = guest_name_servers(root.path());
  CHECK_FALSE(servers.unreachable);
  CHECK(servers.replaced == std::vector<std::string>{"192.0.2.53", "2001:db8::53"});
}

}  // namespace hum
