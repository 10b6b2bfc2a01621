// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "tools/hum-vmm/process_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;

struct Recorded {
  explicit Recorded(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.end(), {"--record", path()});
    process.emplace(HUM_VMM_PROGRAM, arguments);
  }
  std::string path() const { return folder / "record.json"; }
  json record() const { return json::parse(content_of(path()), nullptr, false); }

  TemporaryFolder folder;
  std::optional<VmmProcess> process;
};

}  // namespace

TEST_CASE("a record names the process before there is a VM, and says so for ever if it is killed") {
  Recorded world;
  world.process->client();
  CHECK(world.record()["cause"] == "running");
  CHECK(world.record()["process"]["pid"] == world.process->pid());
  CHECK(world.record()["process"]["start_ticks"].get<std::uint64_t>() > 0);
  CHECK(world.record()["started"] == "");
  world.process->signal(SIGKILL);
  world.process->wait();
  CHECK(world.record()["cause"] == "running");
}

TEST_CASE("a record tells of a signal that came before the VM, and of a config file that is wrong") {
  {
    Recorded world;
    world.process->client();
    world.process->signal(SIGTERM);
    world.process->wait();
    CHECK(world.record()["cause"] == "signal");
  }
  const TemporaryFolder folder;
  std::ofstream(folder / "vm.json") << R"({"boot-source": {"kernel_image_path": "/no/such/kernel"}})";
  Recorded world({"--config-file", folder / "vm.json"});
  CHECK(world.process->wait() == ProcessEnd{ProcessEnd::By::exit, 152});
  CHECK(world.record()["cause"] == "host-error");
  CHECK(world.record()["detail"].get<std::string>().find("/no/such/kernel") != std::string::npos);
}

TEST_CASE("a record has the guest's end and its last words") {
  if (no_kvm()) return;
  Recorded world;
  ApiClient client = world.process->client();
  start(client, "exit_code", "exit=7");
  CHECK(world.process->wait() == ProcessEnd{ProcessEnd::By::exit, 7});
  const json record = world.record();
  CHECK(record["cause"] == "debug-exit");
  CHECK(record["guest_exit_code"] == 7);
  CHECK(record["console"] == json::array({"exit 7"}));
  CHECK(record["started"] != "");
}

TEST_CASE("a record that cannot be written ends the process before it serves anything") {
  const TemporaryFolder folder;
  VmmProcess process(HUM_VMM_PROGRAM, {"--record", folder / "none/record.json"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 1});
  CHECK_FALSE(std::filesystem::exists(process.socket()));
}

TEST_CASE("devices of any kind are put by name, with options as on the command line of hum run") {
  const TemporaryFolder folder;
  std::ofstream(folder / "disk.img") << std::string(1 << 20, '\0');
  const std::string path = std::string(folder / "disk.img");
  VmmProcess process(HUM_VMM_PROGRAM, {"--enable-pci"});
  ApiClient client = process.client();
  const auto put = [&](const json& body) {
    return fault_of(client, "PUT", "/hum/v1/devices/data", body.dump());
  };
  const json disk = {{"name", "data"}, {"kind", "disk"}, {"options", {{"path", path}, {"readonly", "on"}}}};
  CHECK(status_of(client, "PUT", "/hum/v1/devices/data", disk) == 204);
  json wrong = disk;
  wrong["kind"] = "serial";
  CHECK(put(wrong).find("serial") != std::string::npos);
  wrong = disk;
  wrong["options"]["path,readonly"] = "x";
  CHECK(put(wrong).find("unknown option") != std::string::npos);
  wrong = disk;
  wrong["options"]["readonly"] = "perhaps";
  CHECK(put(wrong).find("perhaps") != std::string::npos);
  wrong = disk;
  wrong["name"] = "other";
  CHECK(put(wrong).find("other") != std::string::npos);
  CHECK(fault_of(client, "PUT", "/hum/v1/devices/balloon", R"({"name": "balloon", "kind": "rng"})")
            .find("balloon") != std::string::npos);
  CHECK(client.call("DELETE", "/hum/v1/devices/data")->status == 409);
  const json config = json::parse(client.call("GET", "/vm/config")->body);
  CHECK(config["hum-devices"] == json::array({disk}));
}

TEST_CASE("a device of a config file is there in the VM, and comes and goes while that runs") {
  if (no_kvm()) return;
  const TemporaryFolder folder;
  std::ofstream(folder / "disk.img") << std::string(1 << 20, '\0');
  const json config = {
      {"boot-source", boot_source("hang", "method=busy")},
      {"hum-devices",
       json::array({{{"name", "root"}, {"kind", "disk"}, {"options", {{"path", folder / "disk.img"}}}}})}};
  std::ofstream(folder / "vm.json") << config.dump();
  VmmProcess process(HUM_VMM_PROGRAM, {"--enable-pci", "--config-file", folder / "vm.json"});
  ApiClient client = process.client();
  const auto names = [&] {
    std::set<std::string> found;
    for (const json& each : json::parse(client.call("GET", "/hum/v1/devices")->body))
      found.insert(each["name"]);
    return found;
  };
  CHECK(names().contains("root"));
  CHECK(status_of(client, "PUT", "/hum/v1/devices/more", {{"name", "more"}, {"kind", "rng"}}) == 204);
  CHECK(names().contains("more"));
  CHECK(fault_of(client, "PUT", "/hum/v1/devices/more", R"({"name": "more", "kind": "rng"})").find("taken") !=
        std::string::npos);
  CHECK(client.call("DELETE", "/hum/v1/devices/more")->status == 204);
  CHECK_FALSE(names().contains("more"));
  CHECK(client.call("DELETE", "/hum/v1/devices/more")->status == 404);
}

}  // namespace hum
