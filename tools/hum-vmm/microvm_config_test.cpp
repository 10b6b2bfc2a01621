// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/microvm_config.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;

struct World {
  explicit World(Transport transport = Transport::mmio) : config(transport) { std::ofstream{file}; }

  void put(const Section& section, const json& body) {
    config.put(section, checked_fields(section.path, section.fields,
                                       parse_json(body.dump())));  // numbers as clients send them
  }
  void put_kernel(const json& more = json::object()) {
    json body = {{"kernel_image_path", file}};
    body.update(more);
    put(sections::boot_source, body);
  }
  json drive(const std::string& id, const json& more = json::object()) const {
    json body = {{"drive_id", id}, {"path_on_host", file}, {"is_root_device", false}};
    body.update(more);
    return body;
  }
  json network(const std::string& id, const json& more = json::object()) const {
    json body = {{"iface_id", id}, {"host_dev_name", "tap-" + id}};
    body.update(more);
    return body;
  }
  std::vector<std::string> devices() const {
    std::vector<std::string> texts;
    for (const DeviceConfig& device : config.vm_config().devices)
      if (!device.options.empty() || device.kind == "rng")
        texts.push_back(device.kind + " " + device.options);
    return texts;
  }
  std::string error_of(const Section& section, const json& body) {
    const json before = config.all();
    try {
      put(section, body);
    } catch (const std::exception& error) {
      CHECK(config.all() == before);
      return error.what();
    }
    return {};
  }

  testing::TemporaryFolder folder;
  std::string file = folder / "file";
  MicrovmConfig config;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a machine is one CPU and 128 MiB until it is said otherwise, and each PUT begins there") {
  World world;
  CHECK(world.config.get(sections::machine_config)["vcpu_count"] == 1);
  CHECK(world.config.get(sections::machine_config)["mem_size_mib"] == 128);
  world.put(sections::machine_config,
            {{"vcpu_count", 4}, {"mem_size_mib", 64}, {"huge_pages", "2M"}, {"track_dirty_pages", true}});
  world.put_kernel();
  CHECK(world.config.vm_config().cpus == 4);
  CHECK(world.config.vm_config().memory == 64u << 20);
  CHECK(world.config.vm_config().backing.hugepages);
  world.config.patch(sections::machine_config, {{"mem_size_mib", 32}});
  CHECK(world.config.vm_config().cpus == 4);
  CHECK(world.config.vm_config().memory == 32u << 20);
  world.put(sections::machine_config, {{"vcpu_count", 2}, {"mem_size_mib", 64}});
  CHECK_FALSE(world.config.vm_config().backing.hugepages);
  CHECK(world.config.get(sections::machine_config)["track_dirty_pages"] == false);
  CHECK_THROWS_AS(world.config.patch(sections::machine_config, json::object()), ConfigError);
}

TEST_CASE("of the log stays what is not named, but for the level, and the serial port is in no config file") {
  World world;
  world.put(sections::logger, {{"log_path", "/log"}, {"level", "Debug"}, {"show_level", true}});
  world.put(sections::logger, {{"show_level", false}});
  CHECK(world.config.all()["logger"] == json{{"log_path", "/log"}, {"show_level", false}});
  world.put(sections::serial, {{"serial_out_path", "/serial"}});
  CHECK_FALSE(world.config.all().contains("serial"));
  CHECK(world.config.get(sections::serial)["serial_out_path"] == "/serial");
}

TEST_CASE("what a machine cannot have is refused by name") {
  World world;
  const json base = {{"vcpu_count", 2}, {"mem_size_mib", 64}};
  json body = base;
  body["cpu_template"] = "T2";
  CHECK(has(world.error_of(sections::machine_config, body), "machine-config.cpu_template"));
  CHECK(
      has(world.error_of(sections::machine_config, {{"vcpu_count", 3}, {"mem_size_mib", 64}, {"smt", true}}),
          "machine-config.vcpu_count"));
  CHECK(has(world.error_of(sections::machine_config,
                           {{"vcpu_count", 1}, {"mem_size_mib", 65}, {"huge_pages", "2M"}}),
            "machine-config.mem_size_mib"));
  for (const int count : {1, 4})
    CHECK(world.error_of(sections::machine_config,
                         {{"vcpu_count", count}, {"mem_size_mib", 64}, {"smt", true}}) == "");
}

TEST_CASE("limits of random numbers and of the serial port's output become those of the devices") {
  World world;
  world.put_kernel();
  world.put(sections::entropy, {{"rate_limiter",
                                 {{"bandwidth", {{"size", 5}, {"refill_time", 10}, {"one_time_burst", 7}}},
                                  {"ops", {{"size", 0}, {"refill_time", 10}}}}}});
  world.put(sections::serial, {{"rate_limiter", {{"size", 100}, {"refill_time", 20}}}});
  CHECK(world.devices() ==
        std::vector<std::string>{"serial bandwidth=100/20", "rng bandwidth=5/10+7,ops=off"});
}

TEST_CASE("an error of a device's own option is told by the dialect's field") {
  const auto renamed = [](const char* key) { return in_dialect(ConfigError(key, "", "bad")).key(); };
  CHECK(renamed("drives/rootfs.path") == "drives.path_on_host");
  CHECK(renamed("drives/d.socket") == "drives.socket");
  CHECK(renamed("network-interfaces/eth0.tap") == "network-interfaces.host_dev_name");
  CHECK(renamed("network-interfaces/eth0.rx-ops") == "network-interfaces.rx_rate_limiter.ops");
  CHECK(renamed("vsock.socket") == "vsock.uds_path");
  CHECK(renamed("drives/d.iothreads") == "drives/d.iothreads");
  CHECK(renamed("root.path") == "root.path");
  CHECK(renamed("memory") == "memory");
  World world;
  CHECK(has(world.error_of(sections::vsock, {{"guest_cid", UINT32_MAX}, {"uds_path", "x"}}),
            "vsock.guest_cid"));
}

TEST_CASE("a VM needs a kernel that can be opened") {
  World world;
  CHECK_THROWS_AS(world.config.vm_config(), ConfigError);
  CHECK(has(world.error_of(sections::boot_source, {{"kernel_image_path", world.folder / "none"}}), "none"));
  CHECK(has(world.error_of(sections::boot_source,
                           {{"kernel_image_path", world.file}, {"initrd_path", world.folder / "no-initrd"}}),
            "no-initrd"));
  world.put_kernel({{"initrd_path", world.file}});
  CHECK(world.config.vm_config().boot.kernel_path == world.file);
  CHECK(world.config.vm_config().boot.initrd_path == world.file);
}

TEST_CASE("the machine has a keyboard, and no other controller of one") {
  World world;
  world.put_kernel();
  std::vector<std::string> kinds;
  for (const DeviceConfig& device : world.config.vm_config().devices) kinds.push_back(device.kind);
  CHECK(std::count(kinds.begin(), kinds.end(), "keyboard") == 1);
  CHECK(std::count(kinds.begin(), kinds.end(), "i8042") == 0);
}

TEST_CASE("the kernel is told of the root drive behind what the client says") {
  World world(Transport::pci);
  world.put_kernel({{"boot_args", "console=ttyS0"}});
  CHECK(world.config.vm_config().boot.command_line == "console=ttyS0");
  world.put(sections::drives, world.drive("data"));
  CHECK(world.config.vm_config().boot.command_line == "console=ttyS0");
  world.put(sections::drives, world.drive("root", {{"is_root_device", true}}));
  CHECK(world.config.vm_config().boot.command_line == "console=ttyS0 root=/dev/vda rw");
  world.put(
      sections::drives,
      world.drive("root", {{"is_root_device", true}, {"is_read_only", true}, {"partuuid", "0eaa91a0-01"}}));
  CHECK(world.config.vm_config().boot.command_line == "console=ttyS0 root=PARTUUID=0eaa91a0-01 ro");
}

TEST_CASE(
    "a client that says nothing of the command line gets a quiet one, without PCI where there is none") {
  const auto transport = GENERATE(Transport::mmio, Transport::pci);
  World world(transport);
  world.put_kernel();
  const std::string line = world.config.vm_config().boot.command_line;
  CHECK(has(line, "reboot=k panic=1"));
  CHECK(has(line, "pci=off") == (transport == Transport::mmio));
  for (const char* const given : {"quiet", "", "pci=off quiet"}) {
    world.put_kernel({{"boot_args", given}});
    const std::string own = world.config.vm_config().boot.command_line;
    CHECK(own.starts_with(given));
    CHECK(has(own, "pci=off") == (transport == Transport::mmio || has(given, "pci=off")));
    CHECK(own.find("pci=off") == own.rfind("pci=off"));
  }
  CHECK(world.config.vm_config().transport == transport);
}

TEST_CASE("the root drive is the first disk, the others keep the order in which they came") {
  World world;
  world.put_kernel();
  world.put(sections::drives, world.drive("a"));
  world.put(sections::drives, world.drive("b", {{"is_read_only", true}, {"cache_type", "Writeback"}}));
  world.put(sections::drives, world.drive("root", {{"is_root_device", true}, {"io_engine", "Async"}}));
  CHECK(world.devices() ==
        std::vector<std::string>{"disk path=" + world.file + ",readonly=off,cache=unsafe,aio=auto,id=root",
                                 "disk path=" + world.file + ",readonly=off,cache=unsafe,aio=auto,id=a",
                                 "disk path=" + world.file + ",readonly=on,cache=writeback,aio=auto,id=b"});
  CHECK(world.config.device(sections::drives, "b")->name == "drives/b");
  CHECK_FALSE(world.config.device(sections::drives, "c"));
  CHECK(world.config.is_root("drives/root"));
  CHECK_FALSE(world.config.is_root("drives/a"));
  CHECK(has(world.error_of(sections::drives, world.drive("other", {{"is_root_device", true}})), "'root'"));
  world.put(sections::drives, world.drive("a", {{"is_read_only", true}}));  // keeps its place
  CHECK(world.devices()[1].starts_with("disk path=" + world.file + ",readonly=on"));
  world.config.remove("drives/a");
  CHECK(world.devices().size() == 2);
  CHECK_FALSE(world.config.device(sections::drives, "a"));
  CHECK(world.config.device(sections::drives, "b"));
}

TEST_CASE("a drive of a server is a device of its own, and the memory one that it can map") {
  World world;
  world.put_kernel();
  world.put(sections::drives, world.drive("a"));
  world.put(sections::drives, {{"drive_id", "s"}, {"is_root_device", false}, {"socket", "/run/s,1"}});
  world.put(sections::drives, world.drive("b"));
  CHECK(world.devices()[1] == "vhost-user-disk socket=/run/s,,1");
  CHECK(world.config.device(sections::drives, "s")->kind == "vhost-user-disk");
  CHECK(world.config.vm_config().backing.shared);
  CHECK(has(world.error_of(sections::drives, world.drive("x", {{"socket", "/run/s"}})), "path_on_host"));
  CHECK(
      has(world.error_of(sections::drives, {{"drive_id", "x"}, {"is_root_device", false}}), "path_on_host"));
}

TEST_CASE("a pmem is a device of its own, with its limits, and may be the root device under its number") {
  World world(Transport::pci);
  world.put_kernel({{"boot_args", "quiet"}});
  world.put(sections::pmem, {{"id", "a"}, {"path_on_host", world.file}});
  world.put(sections::pmem, {{"id", "b"},
                             {"path_on_host", world.file},
                             {"read_only", true},
                             {"root_device", true},
                             {"rate_limiter", {{"ops", {{"size", 5}, {"refill_time", 10}}}}}});
  CHECK(world.devices() == std::vector<std::string>{"pmem path=" + world.file + ",readonly=off",
                                                    "pmem path=" + world.file + ",readonly=on,ops=5/10"});
  CHECK(world.config.vm_config().boot.command_line == "quiet root=/dev/pmem1 ro");
  CHECK(world.config.get(sections::pmem)[0] ==
        json{{"id", "a"}, {"path_on_host", world.file}, {"root_device", false}, {"read_only", false}});
  CHECK(world.config.device(sections::pmem, "b")->name == "pmem/b");
  world.put(sections::pmem, {{"id", "b"}, {"path_on_host", world.file}, {"root_device", true}});
  CHECK(world.config.vm_config().boot.command_line == "quiet root=/dev/pmem1 rw");
}

TEST_CASE("there is one root device, a drive or a pmem") {
  World world;
  const json pmem = {{"id", "p"}, {"path_on_host", world.file}, {"root_device", true}};
  world.put(sections::drives, world.drive("same", {{"is_root_device", true}}));
  CHECK(has(world.error_of(sections::pmem, pmem), "drive 'same' is the root device already"));
  world.put(sections::drives, world.drive("same"));
  world.put(sections::pmem, pmem);
  CHECK(world.error_of(sections::pmem, pmem) == "");
  CHECK(has(world.error_of(sections::drives, world.drive("p", {{"is_root_device", true}})), "pmem 'p'"));
  json second = pmem;
  second["id"] = "q";
  CHECK(has(world.error_of(sections::pmem, second), "pmem.root_device"));
  CHECK(has(world.error_of(sections::pmem, {{"id", "r"}, {"path_on_host", world.folder / "none"}}), "none"));
  CHECK(has(world.error_of(sections::pmem, {{"id", "a-b"}, {"path_on_host", world.file}}), "id"));
}

TEST_CASE("memory that can be plugged is in pieces of 128 and 2 MiB unless it is said otherwise") {
  World world;
  world.put_kernel();
  world.put(sections::memory_hotplug, {{"total_size_mib", 1024}});
  CHECK(world.devices() == std::vector<std::string>{"mem total=1024M,slot-size=128M,block-size=2M"});
  CHECK(world.config.get(sections::memory_hotplug) ==
        json{{"total_size_mib", 1024}, {"slot_size_mib", 128}, {"block_size_mib", 2}});
  CHECK(world.config.device(sections::memory_hotplug)->name == "memory-hotplug");
  for (const auto& [body, name] :
       {std::pair(json{{"total_size_mib", 1000}}, "hotplug/memory.total_size_mib"),
        {json{{"total_size_mib", 1024}, {"block_size_mib", 3}}, "hotplug/memory.block_size_mib"},
        {json{{"total_size_mib", 1024}, {"slot_size_mib", 129}}, "hotplug/memory.slot_size_mib"},
        {json{{"total_size_mib", 1024}, {"block_size_mib", 256}}, "hotplug/memory.slot_size_mib"},
        {json{{"total_size_mib", 1024}, {"slot_size_mib", 64}}, "slot_size_mib"},
        {json{{"total_size_mib", 64}}, "total_size_mib"},
        {json{{"total_size_mib", UINT32_MAX}}, "hotplug/memory.total_size_mib"}})
    CHECK(has(world.error_of(sections::memory_hotplug, body), name));
  world.config.note_change(sections::memory_hotplug, {{"requested_size_mib", 5}});
  CHECK_FALSE(world.config.get(sections::memory_hotplug).contains("requested_size_mib"));
}

TEST_CASE("an interface is a tap with its limits, two have not the same address") {
  World world;
  world.put_kernel();
  world.put(
      sections::network_interfaces,
      world.network("eth0", {{"guest_mac", "06:00:00:00:00:0A"},
                             {"mtu", 1400},
                             {"rx_rate_limiter", {{"ops", {{"size", 5}, {"refill_time", 10}}}}},
                             {"tx_rate_limiter", {{"bandwidth", {{"size", 7}, {"refill_time", 20}}}}}}));
  CHECK(world.devices() ==
        std::vector<std::string>{
            "net tap=tap-eth0,mac=06:00:00:00:00:0A,mtu=1400,rx-ops=5/10,tx-bandwidth=7/20"});
  for (const char* const same : {"06:00:00:00:00:0a", "06-00-00-00-00-0A"})
    CHECK(has(world.error_of(sections::network_interfaces, world.network("eth1", {{"guest_mac", same}})),
              "eth0"));
  CHECK(world.error_of(sections::network_interfaces,
                       world.network("eth0", {{"guest_mac", "06:00:00:00:00:0a"}})) == "");
  CHECK(has(world.error_of(sections::network_interfaces, world.network("eth1", {{"mtu", 67}})), "mtu"));
}

TEST_CASE("the interfaces that are named serve the metadata, and those that are not there are refused") {
  World world;
  world.put_kernel();
  CHECK(has(world.error_of(sections::mmds_config, {{"network_interfaces", {"eth1"}}}), "eth1"));
  for (const char* const id : {"eth0", "eth1"}) world.put(sections::network_interfaces, world.network(id));
  world.put(sections::mmds_config, {{"network_interfaces", {"eth1"}}, {"version", "V2"}});
  CHECK(world.devices() ==
        std::vector<std::string>{"net tap=tap-eth0", "net tap=tap-eth1,mmds=169.254.169.254"});
  world.put(sections::mmds_config, {{"network_interfaces", {"eth0"}}, {"ipv4_address", "169.254.1.1"}});
  CHECK(world.devices() == std::vector<std::string>{"net tap=tap-eth0,mmds=169.254.1.1", "net tap=tap-eth1"});
  for (const char* const address : {"banana", "8.8.8.8", "169.254.1.1,queues=2", "169.254.0.1"})
    CHECK(
        has(world.error_of(sections::mmds_config, {{"ipv4_address", address}}), "mmds/config.ipv4_address"));
  world.put(sections::mmds_config, json::object());
  CHECK(world.devices() == std::vector<std::string>{"net tap=tap-eth0", "net tap=tap-eth1"});
  world.config.remove("network-interfaces/eth1");
  CHECK(world.config.all()["mmds-config"] == json::object());
}

TEST_CASE("an interface that has gone serves no metadata any more, and the others go on") {
  World world;
  for (const char* const id : {"eth0", "eth1", "eth10"})
    world.put(sections::network_interfaces, world.network(id));
  world.put(sections::mmds_config, {{"network_interfaces", {"eth1", "eth10"}}});
  world.config.remove("network-interfaces/eth1");
  CHECK(world.config.all()["mmds-config"]["network_interfaces"] == json{"eth10"});
  world.config.remove("drives/eth10");
  CHECK(world.config.all()["mmds-config"]["network_interfaces"] == json{"eth10"});
  world.config.remove("network-interfaces/eth10");
  CHECK(world.config.all()["mmds-config"]["network_interfaces"] == json::array());
}

TEST_CASE("a balloon is a device with its amount in MiB, read back whole, also where it changed") {
  World world;
  world.put_kernel();
  CHECK_FALSE(world.config.device(sections::balloon));
  CHECK(has(world.error_of(sections::balloon, {{"amount_mib", 1}}), "deflate_on_oom"));
  CHECK(
      has(world.error_of(sections::balloon,
                         {{"amount_mib", 1}, {"deflate_on_oom", true}, {"stats_polling_interval_s", 65536}}),
          "stats_polling_interval_s"));
  world.put(sections::balloon, {{"amount_mib", 64}, {"deflate_on_oom", true}});
  CHECK(world.devices() ==
        std::vector<std::string>{
            "balloon target=64M,deflate-on-oom=on,statistics=0,hinting=off,reporting=off"});
  CHECK(world.config.device(sections::balloon)->name == "balloon");
  CHECK(world.config.get(sections::balloon) == json{{"amount_mib", 64},
                                                    {"deflate_on_oom", true},
                                                    {"stats_polling_interval_s", 0},
                                                    {"free_page_hinting", false},
                                                    {"free_page_reporting", false}});
  world.put(sections::balloon, {{"amount_mib", 0},
                                {"deflate_on_oom", false},
                                {"stats_polling_interval_s", 65535},
                                {"free_page_hinting", true},
                                {"free_page_reporting", true}});
  CHECK(world.devices() ==
        std::vector<std::string>{
            "balloon target=0M,deflate-on-oom=off,statistics=65535,hinting=on,reporting=on"});
  world.config.note_change(sections::balloon, {{"amount_mib", 7}});
  world.config.note_change(sections::balloon_statistics, {{"stats_polling_interval_s", 5}});
  const json balloon = world.config.all()["balloon"];
  CHECK(balloon["amount_mib"] == 7);
  CHECK(balloon["stats_polling_interval_s"] == 5);
  CHECK(balloon["free_page_hinting"] == true);
}

TEST_CASE("an id is letters, digits and '_'") {
  World world;
  for (const char* const id : {"", "a b", "../x", "a-b", "\xc3\xa4"})
    CHECK(has(world.error_of(sections::drives, world.drive(id)), "drive_id"));
  CHECK(world.error_of(sections::drives, world.drive("Az_09")) == "");
}

TEST_CASE("a drive's file is looked at when it is put, in the way in which it will be opened") {
  World world;
  const std::string none = world.folder / "none";
  CHECK(has(world.error_of(sections::drives, world.drive("a", {{"path_on_host", none}})), none));
  CHECK(has(world.error_of(sections::drives, world.drive("a", {{"path_on_host", world.folder.path()}})),
            world.folder.path()));
}

TEST_CASE("a change of a device that runs is read back, and what it does not name stays") {
  World world;
  world.put(sections::drives,
            world.drive("a", {{"rate_limiter",
                               {{"ops", {{"size", 5}, {"refill_time", 10}}},
                                {"bandwidth", {{"size", 5}, {"refill_time", 10}, {"one_time_burst", 9}}}}}}));
  world.config.note_change(sections::drives,
                           {{"drive_id", "a"},
                            {"path_on_host", "/other"},
                            {"rate_limiter", {{"bandwidth", {{"size", 1}, {"refill_time", 2}}}}}});
  const json drive = world.config.get(sections::drives)[0];
  CHECK(drive["path_on_host"] == "/other");
  CHECK(drive["rate_limiter"]["ops"]["size"] == 5);
  CHECK(drive["rate_limiter"]["bandwidth"] == json{{"size", 1}, {"refill_time", 2}});
}

}  // namespace hum
