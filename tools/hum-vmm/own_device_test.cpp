// SPDX-License-Identifier: Apache-2.0
// Devices in the words of hum run, in the running program.
#include "tools/hum-vmm/own_device.h"

#include <poll.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "devices/block/qcow2_header.h"
#include "devices/block/raw_file.h"
#include "devices/net/tap_testing.h"
#include "devices/registry.h"
#include "devices/test_device.h"
#include "tools/hum-vmm/process_testing.h"
#include "tools/hum-vmm/sections.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

using nlohmann::json;
using namespace testing;

constexpr std::uint64_t disk_size = 1 << 20;

void write_zeroes(const std::string& path) {
  std::ofstream{path};
  std::filesystem::resize_file(path, disk_size);
}

// What the guest images look for on their disk.
void write_pattern(const std::string& path) {
  std::string text;
  while (text.size() < disk_size) text += "hummingbird\n";
  text.resize(disk_size);
  std::ofstream(path, std::ios::binary) << text;
}

void write_qcow2(const std::string& path, const std::string& backing) {
  std::ofstream{path};
  Qcow2Header header;
  header.virtual_size = disk_size;
  header.backing_file = backing;
  header.backing_format = "raw";
  write_new_qcow2("path", path, *RawFile::open("path", path, false), header);
}

json device(const std::string& name, const std::string& kind, const json& options = json::object()) {
  return {{"name", name}, {"kind", kind}, {"options", options}};
}

std::string error_of(const json& element) {
  try {
    own_device(checked_fields("hum-devices", sections::own_devices.fields, element));
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

std::vector<std::string> names_of(const json& devices) {
  std::vector<std::string> names;
  for (const json& each : devices) names.push_back(each["name"]);
  return names;
}

}  // namespace

TEST_CASE("a device of our own has its kind, its options as text, and its name") {
  const DeviceConfig made = own_device(device(
      "root-0.a", "disk", {{"path", "a,b.img"}, {"readonly", true}, {"queues", 2u}, {"bandwidth", "1M"}}));
  CHECK(made.kind == "disk");
  CHECK(made.name == "root-0.a");
  const DeviceOptions read = own_device_options(
      device("root", "disk", {{"path", "a,b.img"}, {"readonly", true}, {"queues", 2u}, {"bandwidth", "1M"}}));
  CHECK(read.options.text("path") == "a,b.img");
  CHECK(read.options.flag("readonly"));
  CHECK(read.options.number("queues") == 2);
  CHECK(read.options.text("format") == "raw");
}

TEST_CASE("every kind of device can be asked for, but for that of the tests") {
  for (const DeviceKind* kind : all_devices()) {
    const std::string error = error_of(device("x", std::string(kind->name)));
    INFO(kind->name << ": " << error);
    CHECK((error.find("hum-devices.kind") == 0) == (kind == &test_device_kind));
  }
}

TEST_CASE("names that are another device's, or none, are refused") {
  for (const char* const name : {"", "-a", ".a", "a b", "drives/rootfs", "balloon", "vsock", "entropy",
                                 "drives", "memory-hotplug", "serial0", "keyboard12", "hum-devices"})
    CHECK(error_of(device(name, "rng")).find("hum-devices.name") == 0);
  CHECK(error_of(device(std::string(64, 'x'), "rng")).find("hum-devices.name") == 0);
  CHECK(error_of(device(std::string(63, 'x'), "rng")).empty());
  for (const char* const name : {"a", "disk0", "rng0", "0", "my.disk_1-x"})
    CHECK(error_of(device(name, "rng")).empty());
}

TEST_CASE("options that the kind does not have, or does not accept, are refused by name") {
  for (const auto& [options, part] :
       {std::pair(json{{"no-such", 1u}}, "'no-such': unknown option"),
        {json{{"path", "a"}, {"path=b,size", "1"}}, "'path=b,size': unknown option"},
        {json{{"path", "a"}, {"queues", "many"}}, "root.queues 'many'"},
        {json{{"path", std::string("a\0b", 3)}}, "root.path"},
        {json{{"path", "a"}, {"readonly", 1.5}}, "options"},
        {json{{"path", json()}}, "options"},
        {json::object(), "'path' is missing"}}) {
    const std::string error = error_of(device("root", "disk", options));
    INFO(options << ": " << error);
    CHECK(error.find(part) != std::string::npos);
  }
}

TEST_CASE("a network that would start another program is refused with what to do instead") {
  for (const json& options : {json::object(), json{{"mode", "user"}}, json{{"publish", "8080:80"}}}) {
    const std::string error = error_of(device("eth0", "net", options));
    CHECK(error.find("eth0.mode 'user'") == 0);
    CHECK(error.find("socket=") != std::string::npos);
  }
  for (const json& options : {json{{"mode", "loopback"}}, json{{"tap", "tap0"}}, json{{"bridge", "br0"}},
                              json{{"socket", "/passt"}}})
    CHECK(error_of(device("eth0", "net", options)).empty());
}

TEST_CASE("a config file has devices of our own: an image of qcow2 with another on top") {
  if (no_kvm()) return;
  const TemporaryFolder folder;
  write_pattern(folder / "base.raw");
  write_qcow2(folder / "image.qcow2", "base.raw");
  const bool is_pci = GENERATE(false, true);
  const std::string before = content_of(folder / "image.qcow2");
  const json config = {{"boot-source", boot_source("virtio_blk", is_pci ? "transport=pci serial=data"
                                                                        : "transport=mmio serial=data")},
                       {"machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}}},
                       {"hum-devices",
                        {device("root", "disk",
                                {{"path", folder / "image.qcow2"},
                                 {"format", "qcow2"},
                                 {"overlay", folder / "top.qcow2"},
                                 {"id", "data"}})}}};
  std::ofstream(folder / "config.json") << config;
  std::vector<std::string> arguments = {"--no-api", "--config-file", folder / "config.json"};
  if (is_pci) arguments.emplace_back("--enable-pci");
  VmmProcess process(HUM_VMM_PROGRAM, arguments);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 0});
  CHECK(process.output().find("id data") != std::string::npos);
  CHECK(content_of(folder / "image.qcow2") == before);
  CHECK(std::filesystem::file_size(folder / "top.qcow2") > 0);
}

TEST_CASE("devices of our own come in the order given behind the dialect's, and stand in GET /vm/config") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const auto get = [&](const std::string& path) { return json::parse(client.call("GET", path)->body); };
  const std::string file = process.folder() / "disk";
  write_zeroes(file);
  CHECK_FALSE(get("/vm/config").contains("hum-devices"));
  const std::vector<json> devices = {
      device("b", "disk", {{"path", file}, {"readonly", true}, {"cache", "unsafe"}}),
      device("numbers", "rng", {{"bandwidth", "1M"}}),
      device("a", "disk", {{"path", file}, {"overlay", "tmp"}}),
      device("port", "console", {{"console", "0:1"}}),
      device("socket", "vsock", {{"cid", 3}, {"socket", process.folder() / "vsock"}}),
      device("air", "balloon"),
      device("file", "pmem", {{"path", file}, {"readonly", true}}),
      device("more", "mem", {{"total", "128M"}}),
      device("eth", "net", {{"mode", "loopback"}, {"pcap", process.folder() / "frames"}, {"queues", 2}}),
      device("line", "serial", {{"bandwidth", "10M"}}),
      device("time", "boot-timer")};
  for (const json& each : devices) {
    json body = each;
    body.erase("name");
    INFO(each);
    REQUIRE(status_of(client, "PUT", "/hum/v1/devices/" + each["name"].get<std::string>(), body) == 204);
  }
  CHECK(status_of(client, "PUT", "/hum/v1/devices/numbers", {{"kind", "rng"}}) == 204);  // in its place
  REQUIRE(status_of(client, "PUT", "/hum/v1/devices/gone", {{"kind", "rng"}}) == 204);
  CHECK(client.call("DELETE", "/hum/v1/devices/gone")->status == 204);
  CHECK(client.call("DELETE", "/hum/v1/devices/gone")->status == 404);
  std::vector<json> wanted = devices;
  wanted[1].erase("options");
  CHECK(get("/vm/config")["hum-devices"] == json(wanted));
  const std::vector<std::string> own = names_of(json(wanted));
  CHECK(names_of(get("/hum/v1/devices")) == own);
  REQUIRE(
      status_of(
          client, "PUT", "/drives/z",
          {{"drive_id", "z"}, {"path_on_host", file}, {"is_read_only", true}, {"is_root_device", false}}) ==
      204);
  start(client, "hang", "method=busy");
  std::vector<std::string> all = names_of(get("/hum/v1/devices"));
  CHECK(all.front() == "drives/z");
  all.erase(all.begin());
  CHECK(all == own);
  CHECK(get("/hum/v1/devices")[3]["options"]["overlay"] == json{{"value", "tmp"}, {"live", true}});
  CHECK(status_of(client, "PATCH", "/hum/v1/devices/numbers", {{"ops", "5"}}) == 204);
  CHECK(status_of(client, "PATCH", "/hum/v1/devices/line", {{"bandwidth", "5"}}) == 400);
  CHECK(status_of(client, "PUT", "/hum/v1/devices/late", {{"kind", "rng"}}) == 409);
  CHECK(client.call("DELETE", "/hum/v1/devices/numbers")->status == 409);
}

TEST_CASE("devices of our own come and go while the VM runs on PCI") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM, {"--enable-pci"});
  ApiClient client = process.client();
  const std::string file = process.folder() / "file";
  write_zeroes(file);
  const json disk = {{"kind", "disk"}, {"options", {{"path", file}}}};
  const auto own = [&] {
    return json::parse(client.call("GET", "/vm/config")->body).value("hum-devices", json::array());
  };
  start(client, "hot_plug", "transport=pci");
  REQUIRE(process.says("ready"));
  CHECK(fault_of(client, "PUT", "/hum/v1/devices/a",
                 json{{"kind", "disk"}, {"options", {{"path", file}, {"size", "1K"}}}}.dump())
            .find("a.size") != std::string::npos);
  CHECK(fault_of(client, "PUT", "/hum/v1/devices/a", R"({"kind": "serial"})").find("serial") !=
        std::string::npos);
  CHECK(own().empty());
  CHECK(status_of(client, "PUT", "/hum/v1/devices/a", disk) == 204);
  CHECK(fault_of(client, "PUT", "/hum/v1/devices/a", disk.dump()).find("is taken") != std::string::npos);
  CHECK(own().size() == 1);
  REQUIRE(process.says("used"));
  CHECK(fault_of(client, "DELETE", "/hum/v1/devices/a", "{}").find("body") != std::string::npos);
  CHECK(client.call("DELETE", "/hum/v1/devices/a")->status == 204);
  REQUIRE(process.says("gone"));
  for (int tries = 0; tries < 1000 && !own().empty(); ++tries) {
  }
  CHECK(own().empty());
  CHECK(status_of(client, "PUT", "/hum/v1/devices/b", disk) == 204);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 0});
}

TEST_CASE("interfaces of our own take a tap, or a bridge, within the VM's system calls") {
  if (no_kvm()) return;
  const bool is_bridge = GENERATE(false, true);
  in_own_network([&] {
    if (is_bridge)
      make_bridge("br0");
    else
      make_tap("tap0");
    VmmProcess process(HUM_VMM_PROGRAM);
    ApiClient client = process.client();
    const json options = is_bridge ? json{{"bridge", "br0"}} : json{{"tap", "tap0"}};
    CHECK(status_of(client, "PUT", "/hum/v1/devices/eth0", {{"kind", "net"}, {"options", options}}) == 204);
    start(client, "hang", "method=busy");
    CHECK(state_of(client) == "Running");
  });
}

TEST_CASE("an interface over the socket of a passt finds the next one, within the VM's system calls") {
  if (no_kvm()) return;
  const TemporaryFolder folder;
  const UnixAddress address = UnixAddress::of("test", folder / "passt");
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener.get(), address.get(), address.size()) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  CHECK(status_of(client, "PUT", "/hum/v1/devices/eth0",
                  {{"kind", "net"}, {"options", {{"socket", folder / "passt"}}}}) == 204);
  start(client, "hang", "method=busy");
  for (int times = 0; times < 3; ++times) {
    pollfd entry{.fd = listener.get(), .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&entry, 1, 20000) == 1);
    REQUIRE(Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)));  // and hangs up
  }
  CHECK(state_of(client) == "Running");
}

TEST_CASE("a wrong request for a device of our own is refused, and leaves those that there are") {
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const auto fault = [&](const std::string& path, const std::string& body) {
    return fault_of(client, "PUT", "/hum/v1/devices/" + path, body);
  };
  CHECK(fault("a", R"({"kind": "no-such"})").find("known are") != std::string::npos);
  CHECK(fault("a", R"({"name": "b", "kind": "rng"})").find("name in the path") != std::string::npos);
  CHECK(fault("a", R"({"kind": "rng", "optoins": {}})").find("unknown field") != std::string::npos);
  CHECK(fault("a", "[]").find("object") != std::string::npos);
  CHECK(fault("", R"({"kind": "rng"})").find("hum-devices.name") == 0);
  CHECK(fault("drives/rootfs", R"({"kind": "rng"})").find("hum-devices.name") == 0);
  CHECK(fault("balloon", R"({"kind": "balloon"})").find("hum-devices.name") == 0);
  CHECK(client.call("DELETE", "/hum/v1/devices/drives/rootfs")->status == 404);
  CHECK(client.call("GET", "/hum/v1/devices")->body == "[]");
}

}  // namespace hum
