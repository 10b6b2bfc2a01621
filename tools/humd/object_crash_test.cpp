// SPDX-License-Identifier: Apache-2.0
//
// As crash_test.cpp, for images, volumes and networks.
#include <unistd.h>

#include <fstream>

#include "tools/humd/crash_lives_testing.h"
#include "tools/humd/image_testing.h"
#include "tools/humd/network_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;

// Beside the daemon's folders, so that it is there for each daemon of a place.
std::string source_file(Manager& manager, const std::string& name, const std::string& content) {
  const std::string path = manager.folders().state.parent_path() / name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

Task<> disks(Manager& manager, const Say& say) {
  const std::string kernel = source_file(manager, "kernel", some_kernel());
  const std::string disk = source_file(manager, "disk", some_bytes(64UL * 1024));
  const std::string source = R"(, "kernel": ")" + kernel + R"(", "disk": ")" + disk + R"("})";
  co_await request(manager, say, "POST", "/v1/images", R"({"name": "base")" + source);
  // The same content under another name.
  co_await request(manager, say, "POST", "/v1/images", R"({"name": "again")" + source);
  co_await request(manager, say, "DELETE", "/v1/images/again", "");
  co_await request(manager, say, "POST", "/v1/volumes", R"({"name": "data", "size_mib": 1})");
  co_await request(manager, say, "PATCH", "/v1/volumes/data", R"({"size_mib": 2})");
  co_await request(manager, say, "POST", "/v1/volumes", R"({"name": "copy", "from": "data"})");
  co_await request(manager, say, "POST", "/v1/volumes", R"({"name": "top", "image": "base"})");
  co_await create(manager, say, fake_vm("web", {}, R"({"image": "base", "volumes": ["data"]})"));
  // It is kept by what is built upon it.
  co_await request(manager, say, "DELETE", "/v1/images/base", "");
  co_await act(manager, say, "web", "start");
  co_await act(manager, say, "web", "delete", R"({"force": true})");
  for (const char* const name : {"top", "copy", "data"})
    co_await request(manager, say, "DELETE", std::string("/v1/volumes/") + name, "");
}

Task<> networks(Manager& manager, const Say& say) {
  co_await request(manager, say, "POST", "/v1/networks", R"({"name": "blue", "subnet": "10.20.30.0/24"})");
  co_await create(manager, say, fake_vm("web", {}, R"({"networks": [{"network": "blue"}]})"));
  co_await act(manager, say, "web", "start");
  co_await act(manager, say, "web", "kill");
  co_await act(manager, say, "web", "delete", R"({"force": true})");
  co_await request(manager, say, "DELETE", "/v1/networks/blue", "");
}

}  // namespace

TEST_CASE("a daemon that is killed at any moment of an image's or a volume's life loses nothing of it") {
  CHECK(kill_everywhere({"images and volumes", disks}) >= 100 / crash_stride);
}

TEST_CASE("a daemon that is killed at any moment of a network's life leaves nothing of it on the host") {
  with_network_host([](TestHost& host) {
    CHECK(kill_everywhere({"networks", networks}) >= 60 / crash_stride);
    CHECK(output_of({"ip", "-o", "link", "show", "type", "bridge"}).empty());
    CHECK(output_of({"nft", "list", "tables"}).empty());
    CHECK(host.servers().empty());
  });
}

}  // namespace hum
