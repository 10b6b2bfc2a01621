// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/apply_plan.h"

#include <nlohmann/json.hpp>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;

std::vector<WantedObject> read(const std::string& text) {
  return read_apply_file(text, "shop.toml", "/shop");
}

SharedJson kept(json value) {
  return std::make_shared<const json>(std::move(value));
}

FoundObjects only(const std::string& type, const std::string& name, json there) {
  FoundObjects found;
  found[{type, name}] = kept(std::move(there));
  return found;
}

// A VM as the daemon answers, with what it would be after a change.
json vm_there(const std::string& state, const json& spec, const json& after,
              const std::vector<std::string>& later = {}) {
  return {{"name", "web"},   {"state", state}, {"restart_at", nullptr},
          {"generation", 7}, {"spec", spec},   {"after", {{"spec", after}, {"needs_restart", later}}}};
}

std::vector<std::string> words(const ApplyPlan& plan) {
  std::vector<std::string> all;
  for (const ApplyStep& step : plan.steps) all.push_back(step.action + " " + step.type + " " + step.name);
  return all;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("a file's fields are put as the daemon takes them") {
  const std::vector<WantedObject> all = read(R"(
project = "lab"
[vms.web]
memory = "1G"
disk_size = "20G"
kernel = "vmlinux"
initrd = "/boot/initrd"
networks = ["blue", { network = "red", ports = ["8080:80"] }]
devices = ["vsock,cid=4,socket=v.sock"]
limits = ["cpu=150", "memory=1100M"]
[vms.db]
project = "other"
state = "stopped"
limits = { pids = 40 }
[volumes.data]
size = "10G"
[images.debian]
disk = "http://images.example/debian.raw"
kernel = "../vmlinuz"
format = "raw"
[networks.blue]
[projects.lab]
memory = "8G"
)");
  REQUIRE(all.size() == 6);
  CHECK(all[0].type == "project");
  CHECK(*all[0].fields == json::parse(R"({"name": "lab", "memory_mib": 8192})"));
  CHECK(all[1].type == "image");
  CHECK(*all[1].fields == json::parse(R"({"name": "debian", "disk": "http://images.example/debian.raw",
                                         "kernel": "/vmlinuz", "format": "raw"})"));
  CHECK(all[2].type == "network");
  CHECK(all[2].state == "present");
  CHECK(*all[3].fields == json::parse(R"({"name": "data", "size_mib": 10240})"));
  CHECK(all[4].name == "db");
  CHECK(all[4].state == "stopped");
  CHECK(*all[4].fields == json::parse(R"({"name": "db", "project": "other", "limits": {"pids": 40}})"));
  CHECK(all[5].state == "running");
  CHECK(*all[5].fields == json::parse(R"({
    "name": "web", "project": "lab", "memory_mib": 1024, "disk_mib": 20480, "kernel": "/shop/vmlinux",
    "initrd": "/boot/initrd", "networks": [{"network": "blue"}, {"network": "red", "ports": ["8080:80"]}],
    "devices": [{"name": "vsock0", "kind": "vsock", "options": {"cid": "4", "socket": "/shop/v.sock"}}],
    "limits": {"cpu_percent": 150, "memory_mib": 1100}})"));
}

TEST_CASE("what is wrong in a file is said with its place, and what to do") {
  const auto refused = [](const std::string& text) -> std::string {
    try {
      read(text);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "taken";
  };
  CHECK_THAT(refused("[vms.web"), Catch::StartsWith("shop.toml:1: no TOML; "));
  CHECK_THAT(refused("a = 1\na = 2"), Catch::StartsWith("shop.toml:2: no TOML; "));
  CHECK(refused("[vm.web]") ==
        "shop.toml 'vm': no such table; give project = \"NAME\", or tables like [vms.NAME], of projects, "
        "images, "
        "networks, volumes and vms");
  CHECK(refused("vms = 1") == "shop.toml 'vms': no table; write [vms.NAME]");
  CHECK(refused("[vms]\nweb = 1") == "shop.toml 'vms.web': no table; write [vms.web]");
  CHECK(refused("[vms.web]\nstate = \"up\"") ==
        "shop.toml 'vms.web': state 'up': not accepted; give running, stopped or absent");
  CHECK(refused("[volumes.data]\nstate = \"running\"") ==
        "shop.toml 'volumes.data': state 'running': not accepted; give present or absent");
  CHECK(refused("[vms.web]\nname = \"db\"") ==
        "shop.toml 'vms.web': name '\"db\"': is that of the table; drop it");
  CHECK_THAT(refused("[vms.web]\nmemory = 512"), Catch::Contains("'vms.web': memory '512': no size; give"));
  CHECK_THAT(refused("[vms.web]\nmemory = \"lots\""), Catch::Contains("'vms.web': memory 'lots'"));
  CHECK_THAT(refused("[vms.web]\nnetworks = \"blue\""), Catch::Contains("networks '\"blue\"': no list"));
  CHECK_THAT(refused("[vms.web]\ndevices = [\"floppy\"]"), Catch::Contains("device 'floppy': no kind"));
  CHECK_THAT(refused("[vms.web]\nlimits = [1]"), Catch::Contains("'vms.web': "));
  CHECK(read("").empty());
}

TEST_CASE("what is not there is made in the order in which it is needed, and VMs start by their order") {
  const auto wanted = read(R"(
[vms.a]
start_order = 9
[vms.z]
state = "stopped"
[vms.m]
[volumes.data]
size = "1G"
[images.tiny]
kernel = "k"
[networks.blue]
[projects.lab]
vms = 3
)");
  const ApplyPlan plan = plan_of(wanted, {}, false);
  CHECK(words(plan) == Words{"set project lab", "import image tiny", "create network blue",
                             "create volume data", "create vm m", "start vm m", "create vm z", "create vm a",
                             "start vm a"});
  CHECK(plan.unchanged == 0);
  CHECK(plan.steps[1].method == "POST");
  CHECK(plan.steps[1].target == "/v1/images?wait_s=60");
  CHECK(*plan.steps[1].body == json::parse(R"({"name": "tiny", "kernel": "/shop/k"})"));
  CHECK(plan.steps[5].target == "/v1/vms/m/start?wait_s=60");
}

TEST_CASE("what is as it should be is left alone") {
  const auto wanted = read(
      "[vms.web]\n[volumes.data]\nsize = \"1G\"\n[volumes.old]\nstate = \"absent\"\n"
      "[images.tiny]\nkernel = \"k\"\n[networks.blue]\nnat = true\n[projects.lab]\nvms = 3\n");
  const json spec = {{"name", "web"}, {"cpus", 1}};
  FoundObjects found;
  found[{"vm", "web"}] = kept(vm_there("running", spec, spec));
  found[{"volume", "data"}] = kept({{"size", 1U << 30U}, {"format", "raw"}});
  found[{"image", "tiny"}] = kept({{"source", {{"name", "tiny"}, {"kernel", "/shop/k"}}}});
  found[{"network", "blue"}] = kept({{"name", "blue"}, {"nat", true}, {"subnet", "10.77.0.0/24"}});
  found[{"project", "lab"}] = kept({{"quota", {{"vms", 3}, {"cpus", nullptr}, {"memory_mib", nullptr}}}});
  const ApplyPlan plan = plan_of(wanted, found, true);
  CHECK(words(plan).empty());
  CHECK(plan.unchanged == 6);
  CHECK(plan_text(plan) == "nothing to do: 6 are as they should be\n");
}

TEST_CASE("a VM that runs is changed at once where that is possible, and restarted where it is asked for") {
  const auto wanted = read("[vms.web]\ncpus = 2\nlabels = { tier = \"front\" }\n");
  const json before = {{"name", "web"}, {"cpus", 1}, {"kernel", "/k"}, {"lifetime_s", 60}};
  const json after = {{"name", "web"}, {"cpus", 2}, {"kernel", "/k"}, {"labels", {{"tier", "front"}}}};
  const FoundObjects found = only("vm", "web", vm_there("running", before, after, {"cpus"}));
  const ApplyPlan plan = plan_of(wanted, found, false);
  REQUIRE(words(plan) == Words{"change vm web"});
  CHECK(*plan.steps[0].body ==
        json::parse(R"({"cpus": 2, "labels": {"tier": "front"}, "lifetime_s": null})"));
  CHECK(plan.steps[0].if_match == "\"7\"");
  CHECK(plan.steps[0].later == Words{"cpus"});
  CHECK(plan_text(plan) ==
        "STEP    TYPE  NAME  WHAT\n"
        "change  vm    web   cpus 1 -> 2 (from its next start on), labels {\"tier\":\"front\"}, lifetime_s "
        "60 -> "
        "none\n"
        "1 to do, 0 are as they should be\n");
  CHECK(plan_json(plan)["steps"][0] == json::parse(R"({
    "action": "change", "type": "vm", "name": "web", "needs_restart": ["cpus"],
    "changes": {"cpus": [1, 2], "labels": [null, {"tier": "front"}], "lifetime_s": [60, null]}})"));
  const ApplyPlan with_restart = plan_of(wanted, found, true);
  CHECK(words(with_restart) == Words{"change vm web", "restart vm web"});
  CHECK(with_restart.steps[0].later.empty());
}

TEST_CASE("a VM is started, resumed or stopped as a file wants it") {
  const json spec = {{"name", "web"}};
  const auto planned = [&](const std::string& state, const json& there) {
    return words(plan_of(read("[vms.web]\nstate = \"" + state + "\"\n"), only("vm", "web", there), false));
  };
  CHECK(planned("running", vm_there("stopped", spec, spec)) == Words{"start vm web"});
  CHECK(planned("running", vm_there("paused", spec, spec)) == Words{"resume vm web"});
  CHECK(planned("running", vm_there("running", spec, spec)).empty());
  CHECK(planned("stopped", vm_there("running", spec, spec)) == Words{"stop vm web"});
  CHECK(planned("stopped", vm_there("paused", spec, spec)) == Words{"stop vm web"});
  CHECK(planned("stopped", vm_there("stopped", spec, spec)).empty());
  json restarts = vm_there("stopped", spec, spec);
  restarts["restart_at"] = "2026-01-01T00:00:00.000Z";
  CHECK(planned("stopped", restarts) == Words{"stop vm web"});
  CHECK(planned("running", restarts).empty());
}

TEST_CASE("what is to go away stops first, and what VMs needed goes last") {
  const auto wanted = read(
      "[vms.web]\nstate = \"absent\"\n[volumes.data]\nstate = \"absent\"\n"
      "[vms.db]\n[images.tiny]\nstate = \"absent\"\n[projects.lab]\nstate = \"absent\"\n"
      "[networks.blue]\nstate = \"absent\"\n");
  FoundObjects found;
  for (const char* const type : {"volume", "image", "network", "project"})
    for (const WantedObject& each : wanted)
      if (each.type == type) found[{each.type, each.name}] = kept(json::object());
  found[{"vm", "web"}] = kept(vm_there("running", json::object(), json::object()));
  const ApplyPlan plan = plan_of(wanted, found, false);
  CHECK(words(plan) == Words{"stop vm web", "delete vm web", "create vm db", "start vm db",
                             "delete volume data", "delete network blue", "delete image tiny",
                             "delete project lab"});
  CHECK(plan.steps[7].target == "/v1/projects/lab");
  CHECK(plan.steps[1].method == "DELETE");
}

TEST_CASE("a volume that a VM runs on grows where that may be restarted") {
  const auto wanted = read("[vms.web]\nvolumes = [\"data\"]\n[vms.db]\n[volumes.data]\nsize = \"2G\"\n");
  const json spec = {{"name", "web"}};
  FoundObjects found;
  found[{"vm", "web"}] = kept(vm_there("running", spec, spec));
  found[{"vm", "db"}] = kept(vm_there("running", spec, spec));
  found[{"volume", "data"}] = kept({{"size", 1U << 30U}, {"format", "raw"}, {"vms", {"web"}}});
  CHECK(words(plan_of(wanted, found, true)) == Words{"stop vm web", "resize volume data", "start vm web"});
  try {
    plan_of(wanted, found, false);
    CHECK(false);
  } catch (const ConfigError& error) {
    CHECK(std::string(error.what()) ==
          "volume 'data': cannot grow while the VM 'web' runs on it; give --restart, or stop it first");
  }
  found[{"vm", "web"}] = kept(vm_there("stopped", spec, spec));
  CHECK(words(plan_of(wanted, found, false)) == Words{"resize volume data", "start vm web"});
}

TEST_CASE("a volume grows, and what cannot be changed is said before anything is begun") {
  const auto planned = [](const std::string& text, const FoundObjects& found) -> std::string {
    try {
      return plan_text(plan_of(read(text), found, false));
    } catch (const ConfigError& error) {
      return error.what();
    }
  };
  const FoundObjects volume =
      only("volume", "data", {{"size", 1U << 30U}, {"format", "raw"}, {"vms", json::array()}});
  CHECK_THAT(planned("[volumes.data]\nsize = \"2G\"", volume), Catch::Contains("size_mib 1024 -> 2048"));
  CHECK_THAT(planned("[volumes.data]\nsize = \"1M\"", volume),
             Catch::Contains("volume 'data': it has 1G, and would lose"));
  CHECK_THAT(planned("[volumes.data]\nformat = \"qcow2\"", volume),
             Catch::Contains("its format is raw, not"));
  const FoundObjects image = only("image", "tiny", {{"source", {{"name", "tiny"}, {"kernel", "/shop/k"}}}});
  CHECK(planned("[images.tiny]\nkernel = \"other\"", image) ==
        "image 'tiny': is there already, and kernel is \"/shop/k\" in place of \"/shop/other\"; it cannot be "
        "changed: give it another name, or 'hum image rm' it first");
  CHECK_THAT(planned("[images.tiny]\nkernel = \"k\"\ncmdline = \"quiet\"", image),
             Catch::Contains("cmdline is null"));
  const FoundObjects network = only("network", "blue", {{"name", "blue"}, {"nat", true}});
  CHECK_THAT(planned("[networks.blue]\nnat = false", network),
             Catch::Contains("nat is true in place of false"));
}

}  // namespace hum
