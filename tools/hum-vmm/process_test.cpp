// SPDX-License-Identifier: Apache-2.0
// The program as clients see it.
#include "tools/hum-vmm/process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <list>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>

#include "tools/hum-vmm/process_testing.h"
#include "vmm/base/testing.h"

namespace hum {

using nlohmann::json;
using namespace testing;

TEST_CASE("a process that was only started tells who it is, and goes at SIGTERM as if nobody had caught it") {
  VmmProcess process(HUM_VMM_PROGRAM, {"--id", "some-vm"});
  ApiClient client = process.client();
  const json info = json::parse(client.call("GET", "/")->body);
  CHECK(info == json{{"app_name", "Firecracker"},
                     {"id", "some-vm"},
                     {"state", "Not started"},
                     {"vmm_version", "1.14.0"}});
  CHECK(json::parse(client.call("GET", "/version")->body) == json{{"firecracker_version", "1.14.0"}});
  process.signal(SIGTERM);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::signal, SIGTERM});
  CHECK_FALSE(std::filesystem::exists(process.socket()));
}

TEST_CASE("a guest's exit code is the process's, its output the process's output") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  start(client, "exit_code", "exit=7");
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 7});
  CHECK(process.output() == "exit 7\r\n");
}

TEST_CASE("a VM is paused and goes on, both as often as one likes, and SIGHUP ends it with 156") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  CHECK(fault_of(client, "PATCH", "/vm", R"({"state": "Paused"})") ==
        "The requested operation is not supported before starting the microVM.");
  start(client, "hang", "method=busy");
  CHECK(state_of(client) == "Running");
  for (const char* const state : {"Paused", "Resumed"})
    for (int i = 0; i < 2; ++i) {
      CHECK(status_of(client, "PATCH", "/vm", {{"state", state}}) == 204);
      CHECK(state_of(client) == (state == std::string("Paused") ? "Paused" : "Running"));
    }
  for (const auto& [method, path, body] :
       {std::tuple("PUT", "/actions", json{{"action_type", "InstanceStart"}}),
        std::tuple("PUT", "/machine-config", json{{"vcpu_count", 1}, {"mem_size_mib", 32}}),
        std::tuple("PUT", "/boot-source", boot_source("hang", ""))})
    CHECK(fault_of(client, method, path, body.dump()) ==
          "The requested operation is not supported after starting the microVM.");
  process.signal(SIGHUP);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 156});
}

TEST_CASE("Ctrl-Alt-Del is typed for a guest that runs, as long as it takes keys") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const json action = {{"action_type", "SendCtrlAltDel"}};
  CHECK(fault_of(client, "PUT", "/actions", action.dump()) ==
        "The requested operation is not supported before starting the microVM.");
  start(client, "hang", "method=busy");
  // So much has room in the keyboard of a guest that reads nothing.
  for (int i = 0; i < 2; ++i) CHECK(status_of(client, "PUT", "/actions", action) == 204);
  CHECK(fault_of(client, "PUT", "/actions", action.dump()).find("SendCtrlAltDel") != std::string::npos);
  CHECK(state_of(client) == "Running");
}

TEST_CASE("a paused VM ends at a signal, too") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  start(client, "hang", "method=busy");
  CHECK(status_of(client, "PATCH", "/vm", {{"state", "Paused"}}) == 204);
  process.signal(SIGTERM);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::signal, SIGTERM});
}

TEST_CASE("nobody who does not read the guest's output holds up the VM, its clients or a signal") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const std::string serial = process.folder() / "serial";
  REQUIRE(::mkfifo(serial.c_str(), 0600) == 0);
  const Fd both(::open(serial.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  const std::string filler(4096, 'x');
  while (::write(both.get(), filler.data(), filler.size()) > 0) {
  }
  CHECK(status_of(client, "PUT", "/serial", {{"serial_out_path", serial}}) == 204);
  start(client, "hang", "method=busy");
  CHECK(status_of(client, "PATCH", "/vm", {{"state", "Paused"}}) == 204);
  process.signal(SIGHUP);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 156});
}

TEST_CASE("a serial port's limit drops what is over it, and the metrics tell how much") {
  if (no_kvm()) return;
  const testing::TemporaryFolder folder;
  {
    VmmProcess process(HUM_VMM_PROGRAM);
    ApiClient client = process.client();
    CHECK(status_of(client, "PUT", "/metrics", {{"metrics_path", folder / "metrics"}}) == 204);
    CHECK(status_of(client, "PUT", "/serial",
                    {{"serial_out_path", folder / "serial"},
                     {"rate_limiter", {{"size", 4}, {"refill_time", 3'600'000}}}}) == 204);
    start(client, "exit_code", "exit=7");
    CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 7});
  }
  CHECK(content_of(folder / "serial") == "exit");
  CHECK(json::parse(content_of(folder / "metrics"))["uart"]["rate_limiter_dropped_bytes"] == 4);
}

TEST_CASE("a second PUT of the logger leaves what it does not name, and the level is the usual one again") {
  const testing::TemporaryFolder folder;
  VmmProcess process(HUM_VMM_PROGRAM, {"--show-level"});
  ApiClient client = process.client();
  const std::string log = folder / "log";
  CHECK(status_of(client, "PUT", "/logger", {{"log_path", log}, {"level", "Off"}}) == 204);
  CHECK(status_of(client, "PUT", "/logger", json::object()) == 204);
  CHECK(status_of(client, "PUT", "/boot-source", boot_source("hang", "method=busy")) == 204);
  if (no_kvm()) return;
  CHECK(status_of(client, "PUT", "/actions", {{"action_type", "InstanceStart"}}) == 204);
  process.signal(SIGHUP);
  process.wait();
  CHECK(content_of(log).find(":ERROR] the VM has ended") != std::string::npos);
}

TEST_CASE("an error of a device's option names the field of the request") {
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const std::string file = process.folder() / "disk";
  std::ofstream(file) << "x";
  if (no_kvm()) return;
  CHECK(status_of(client, "PUT", "/drives/a",
                  {{"drive_id", "a"}, {"path_on_host", file}, {"is_root_device", false}}) == 204);
  CHECK(status_of(client, "PUT", "/vsock", {{"guest_cid", 3}, {"uds_path", std::string(200, 'x')}}) == 204);
  CHECK(status_of(client, "PUT", "/boot-source", boot_source("hang", "method=busy")) == 204);
  CHECK(fault_of(client, "PUT", "/actions", R"({"action_type": "InstanceStart"})")
            .find("vsock.uds_path 'xxx") == 0);
}

TEST_CASE("the metrics tell how long the process's start took, as far as its parent says when that was") {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const auto start = std::to_string(now.tv_sec * 1'000'000 + now.tv_nsec / 1000);
  const testing::TemporaryFolder folder;
  {
    if (no_kvm()) return;
    VmmProcess process(HUM_VMM_PROGRAM, {"--start-time-us", start, "--start-time-cpu-us", "0",
                                         "--parent-cpu-time-us", "5000000"});
    ApiClient client = process.client();
    CHECK(status_of(client, "PUT", "/metrics", {{"metrics_path", folder / "metrics"}}) == 204);
    CHECK(client.call("GET", "/version")->status == 200);
    CHECK(status_of(client, "PATCH", "/machine-config", json::object()) == 400);
    REQUIRE(status_of(client, "PUT", "/boot-source", boot_source("exit_code", "exit=7")) == 204);
    REQUIRE(status_of(client, "PUT", "/actions", {{"action_type", "InstanceStart"}}) == 204);
    CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 7});
  }
  const json metrics = json::parse(content_of(folder / "metrics"));
  const auto took = metrics["api_server"]["process_startup_time_us"].get<std::uint64_t>();
  CHECK(took > 0);
  CHECK(took < 30'000'000);
  CHECK(metrics["api_server"]["process_startup_time_cpu_us"].get<std::uint64_t>() > 5'000'000);
  CHECK(metrics["get_api_requests"]["vmm_version_count"] == 1);
  CHECK(metrics["patch_api_requests"]["machine_cfg_fails"] == 1);
}

TEST_CASE("no GET takes a body") {
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  for (const char* const path : {"/", "/version", "/vm/config", "/machine-config", "/mmds"})
    CHECK(fault_of(client, "GET", path, "{}") == "GET request cannot have a body.");
}

TEST_CASE("slashes in front of a path count as one, and one at its end as none") {
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  for (const char* const path : {"//", "//version", "/version/", "///vm/config/", "/machine-config/"})
    CHECK(client.call("GET", path)->status == 200);
  CHECK(status_of(client, "PUT", "//machine-config/", {{"vcpu_count", 1}, {"mem_size_mib", 32}}) == 204);
  for (const char* const path : {"/version//", "/vm//config", "/drives/"})
    CHECK(fault_of(client, "GET", path, "").find("Invalid request method and/or path") == 0);
}

TEST_CASE("a start that fails leaves a process that can be told better") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  CHECK(fault_of(client, "PUT", "/actions", R"({"action_type": "InstanceStart"})").find("boot-source") !=
        std::string::npos);
  std::ofstream(process.folder() / "no-kernel") << "nothing that boots";
  CHECK(status_of(client, "PUT", "/boot-source", {{"kernel_image_path", process.folder() / "no-kernel"}}) ==
        204);
  CHECK(fault_of(client, "PUT", "/actions", R"({"action_type": "InstanceStart"})").find("kernel") !=
        std::string::npos);
  CHECK(state_of(client) == "Not started");
  start(client, "exit_code", "exit=3");
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 3});
}

TEST_CASE("a config file starts the VM, with and without an API") {
  if (no_kvm()) return;
  const testing::TemporaryFolder folder;
  const json config = {{"boot-source", boot_source("exit_code", "exit=9")},
                       {"drives", json::array()},
                       {"machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}, {"ht_enabled", false}}},
                       {"network_interfaces", json::array()},
                       {"balloon", {{"amount_mib", 1}, {"deflate_on_oom", true}}},
                       {"vsock", nullptr},
                       {"pmem", {{{"id", "p"}, {"path_on_host", folder / "memory"}, {"read_only", true}}}},
                       {"memory-hotplug", {{"total_size_mib", 256}, {"slot_size_mib", 256}}},
                       {"logger", {{"log_path", folder / "log"}, {"level", "Info"}, {"show_level", true}}},
                       {"metrics", {{"metrics_path", folder / "metrics"}}}};
  std::ofstream(folder / "config.json") << config;
  std::ofstream(folder / "memory") << "some bytes";
  std::vector<std::string> arguments = {"--config-file", folder / "config.json", "--level", "Error"};
  if (GENERATE(false, true)) arguments.emplace_back("--no-api");
  VmmProcess process(HUM_VMM_PROGRAM, arguments);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 9});
  CHECK(process.output() == "exit 9\r\n");
  CHECK(process.messages().empty());
  CHECK(content_of(folder / "log").find(":INFO] the VM has ended: debug-exit") != std::string::npos);
  const json metrics = json::parse(content_of(folder / "metrics"));
  CHECK(metrics["utc_timestamp_ms"].get<std::uint64_t>() > 0);
}

TEST_CASE("threads that give much memory back do so within their system calls") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  REQUIRE(status_of(client, "PUT", "/serial", {{"serial_out_path", "/dev/null"}}) == 204);
  start(client, "endless_print", "");
  for (int round = 0; round < 8; ++round) {
    std::list<ApiClient> readers;  // who read nothing, so that much is kept for them
    for (int i = 0; i < 8; ++i)
      readers.emplace_back(process.client())
          .send(
              "GET /hum/v1/console?readonly=on HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: "
              "hum-console\r\n\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
  }
  const auto answer = client.call("GET", "/");
  REQUIRE(answer);
  CHECK(json::parse(answer->body)["state"] == "Running");
}

TEST_CASE("what GET /vm/config tells is a config file that starts the same VM") {
  if (no_kvm()) return;
  const testing::TemporaryFolder folder;
  for (const char* const name : {"disk", "memory"}) std::ofstream(folder / name) << "some bytes";
  json config;
  {
    VmmProcess process(HUM_VMM_PROGRAM);
    ApiClient client = process.client();
    for (const auto& [path, body] : std::vector<std::pair<std::string, json>>{
             {"/logger", {{"log_path", folder / "log"}, {"level", "Debug"}}},
             {"/logger", {{"level", "Info"}, {"show_level", true}}},
             {"/metrics", {{"metrics_path", folder / "metrics"}}},
             {"/serial", {{"serial_out_path", folder / "serial"}}},
             {"/entropy", json::object()},
             {"/balloon", {{"amount_mib", 1}, {"deflate_on_oom", true}}},
             {"/hotplug/memory", {{"total_size_mib", 256}}},
             {"/pmem/p", {{"id", "p"}, {"path_on_host", folder / "memory"}}},
             {"/mmds/config", {{"network_interfaces", json::array()}, {"version", "V2"}}},
             {"/vsock", {{"guest_cid", 3}, {"uds_path", folder / "vsock"}}},
             {"/cpu-config", {{"kvm_capabilities", {"!56"}}}},
             {"/drives/d", {{"drive_id", "d"}, {"path_on_host", folder / "disk"}, {"is_root_device", true}}},
             {"/machine-config", {{"vcpu_count", 2}, {"mem_size_mib", 64}}},
             {"/boot-source", boot_source("exit_code", "exit=9")}})
      CHECK(status_of(client, "PUT", path, body) == 204);
    config = json::parse(client.call("GET", "/vm/config")->body);
  }
  std::ofstream(folder / "config.json") << config;
  VmmProcess process(HUM_VMM_PROGRAM, {"--no-api", "--config-file", folder / "config.json"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 9});
  CHECK(content_of(folder / "log").find(":INFO] the VM has ended") != std::string::npos);
}

TEST_CASE("metadata is put, changed and read at any time, within its limit") {
  VmmProcess process(HUM_VMM_PROGRAM, {"--mmds-size-limit", "60"});
  ApiClient client = process.client();
  CHECK(json::parse(client.call("GET", "/mmds")->body) == json::object());
  CHECK(fault_of(client, "PATCH", "/mmds", R"({"a": 1})") == "The MMDS data store is not initialized.");
  CHECK(status_of(client, "PUT", "/mmds", {{"latest", {{"id", "i-1"}, {"name", "x"}}}}) == 204);
  CHECK(status_of(client, "PATCH", "/mmds", {{"latest", {{"name", nullptr}}}}) == 204);
  CHECK(status_of(client, "PUT", "/mmds", {{"long", std::string(60, 'x')}}) == 413);
  CHECK(fault_of(client, "PUT", "/mmds", "{") != "");
  CHECK(fault_of(client, "PUT", "/mmds", "") == "Empty PUT request.");
  CHECK(json::parse(client.call("GET", "/mmds")->body) == json{{"latest", {{"id", "i-1"}}}});
}

TEST_CASE("metadata comes from a file, too") {
  const testing::TemporaryFolder folder;
  std::ofstream(folder / "metadata") << R"({"latest": {}})";
  {
    VmmProcess process(HUM_VMM_PROGRAM, {"--metadata", folder / "metadata"});
    ApiClient client = process.client();
    CHECK(json::parse(client.call("GET", "/mmds")->body) == json{{"latest", json::object()}});
  }
  std::ofstream(folder / "metadata") << "no JSON";
  VmmProcess process(HUM_VMM_PROGRAM, {"--metadata", folder / "metadata"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 152});
}

TEST_CASE("a wrong config file ends the process with 152, a wrong command line with 153") {
  const testing::TemporaryFolder folder;
  const auto* const text =
      GENERATE("", "[]", "{\"boot-source\": {}}", "{\"boat-source\": {}}", "{\"serial\": {}}",
               "{\"drives\": {}}", "{\"machine-config\": {\"vcpu_count\": 1, \"mem_size_mib\": 32}}",
               "{\"balloon\": {\"amount_mib\": 1}}");
  std::ofstream(folder / "config.json") << text;
  VmmProcess process(HUM_VMM_PROGRAM, {"--no-api", "--config-file", folder / "config.json"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 152});
  CHECK_FALSE(process.messages().empty());
}

TEST_CASE("a wrong command line ends the process with 153 and a word why") {
  const auto arguments =
      GENERATE(as<std::vector<std::string>>(), std::vector<std::string>{"--no-such"},
               std::vector<std::string>{"--id", "a b"}, std::vector<std::string>{"--no-api"},
               std::vector<std::string>{"--level", "Loud"}, std::vector<std::string>{"--snapshot-version"},
               std::vector<std::string>{"--describe-snapshot", "/snapshot"},
               std::vector<std::string>{"--start-time-us", "-1"},
               std::vector<std::string>{"--start-time-cpu-us", "soon"},
               std::vector<std::string>{"--http-api-max-payload-size", "0"});
  VmmProcess process(HUM_VMM_PROGRAM, arguments);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 153});
  CHECK(process.messages().find("hum-vmm: --") == 0);
}

TEST_CASE("a filter of system calls that was made for another program is not read, and the log says so") {
  VmmProcess process(HUM_VMM_PROGRAM, {"--seccomp-filter", "/no/such/filter"});
  CHECK(process.client().call("GET", "/version")->status == 200);
  process.signal(SIGHUP);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 156});
  CHECK(process.messages().find("--seccomp-filter /no/such/filter") != std::string::npos);
}

TEST_CASE("the version's first line is one that Firecracker's clients read") {
  VmmProcess process(HUM_VMM_PROGRAM, {"--version"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 0});
  CHECK(process.output().find("Firecracker v1.14.0\n") == 0);
}

TEST_CASE("a guest finds the CPUID leaves and registers that a CPU configuration gives it") {
  if (no_kvm()) return;
  const testing::TemporaryFolder folder;
  // mov ecx, 0x1a0; rdmsr; and eax, 1; mov esi, eax; mov eax, 0x80000002; cpuid; and eax, 0x7e; or eax, esi;
  // out 0xf4, eax; hlt
  write_kernel(folder / "kernel",
               {0xb9, 0xa0, 0x01, 0,    0,    0x0f, 0x32, 0x83, 0xe0, 0x01, 0x89, 0xc6, 0xb8, 0x02,
                0,    0,    0x80, 0x0f, 0xa2, 0x83, 0xe0, 0x7e, 0x09, 0xf0, 0xe7, 0xf4, 0xf4});
  json cpu = {{"cpuid_modifiers",
               {{{"leaf", "0x80000002"},
                 {"subleaf", "0x0"},
                 {"flags", 0},
                 {"modifiers", {{{"register", "eax"}, {"bitmap", "0b0101010x"}}}}}}}};
  const bool is_set = GENERATE(true, false);
  cpu["msr_modifiers"] = {{{"addr", "0x1a0"}, {"bitmap", is_set ? "0b1" : "0b0"}}};
  std::ofstream(folder / "cpu.json") << cpu;
  const bool is_file = GENERATE(true, false);
  std::ofstream(folder / "config.json") << json{{"boot-source", {{"kernel_image_path", folder / "kernel"}}},
                                                {"machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}}},
                                                {"cpu-config", is_file ? json(folder / "cpu.json") : cpu}};
  VmmProcess process(HUM_VMM_PROGRAM, {"--no-api", "--config-file", folder / "config.json"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 0x54 | (is_set ? 1 : 0)});
}

TEST_CASE("what KVM does not have is an error of the start, and a process that can be told better") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  CHECK(status_of(client, "PUT", "/boot-source", boot_source("exit_code", "exit=4")) == 204);
  const auto fault_with = [&](const json& cpu) {
    REQUIRE(status_of(client, "PUT", "/cpu-config", cpu) == 204);
    return fault_of(client, "PUT", "/actions", R"({"action_type": "InstanceStart"})");
  };
  CHECK(fault_with({{"kvm_capabilities", {"99999"}}}).find("capability '99999'") == 0);
  const json leaf = {{"leaf", "0x3fffffff"}, {"subleaf", "0x0"}, {"flags", 0}, {"modifiers", json::array()}};
  CHECK(fault_with({{"cpuid_modifiers", {leaf}}}).find("cpuid '0x3fffffff.0x0'") == 0);
  CHECK(fault_with({{"msr_modifiers", {{{"addr", "0x12345678"}, {"bitmap", "0b1"}}}}})
            .find("msr '0x12345678'") == 0);
  CHECK(fault_of(client, "PUT", "/cpu-config", R"({"reg_modifiers": []})").find("unknown field") !=
        std::string::npos);
  CHECK(json::parse(client.call("GET", "/vm/config")->body)["cpu-config"].contains("msr_modifiers"));
  CHECK(status_of(client, "PUT", "/cpu-config", json::object()) == 204);
  CHECK(status_of(client, "PUT", "/actions", {{"action_type", "InstanceStart"}}) == 204);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 4});
}

TEST_CASE("a guest that writes 123 where Firecracker has its boot timer has its time in the log") {
  if (no_kvm()) return;
  const testing::TemporaryFolder folder;
  // mov byte [0xc0000000], 123; mov eax, 6; out 0xf4, eax; hlt
  write_kernel(folder / "kernel", {0xc6, 0x05, 0, 0, 0, 0xc0, 123, 0xb8, 6, 0, 0, 0, 0xe7, 0xf4, 0xf4});
  std::ofstream(folder / "config.json")
      << json{{"boot-source", {{"kernel_image_path", folder / "kernel"}}},
              {"machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}}}};
  const bool is_on = GENERATE(true, false);
  std::vector<std::string> arguments = {"--no-api", "--config-file", folder / "config.json", "--log-path",
                                        folder / "log"};
  if (is_on) arguments.emplace_back("--boot-timer");
  if (GENERATE(true, false)) arguments.emplace_back("--enable-pci");
  VmmProcess process(HUM_VMM_PROGRAM, arguments);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 6});
  CHECK((content_of(folder / "log").find("] Guest-boot-time = ") != std::string::npos) == is_on);
}

TEST_CASE("metrics and log go to fifos that nobody reads, and the VM does not wait for them") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const std::string log = process.folder() / "log";
  const std::string metrics = process.folder() / "metrics";
  REQUIRE(::mkfifo(log.c_str(), 0600) == 0);
  REQUIRE(::mkfifo(metrics.c_str(), 0600) == 0);
  CHECK(status_of(client, "PUT", "/logger", {{"log_path", log}, {"level", "Debug"}}) == 204);
  CHECK(status_of(client, "PUT", "/metrics", {{"metrics_path", metrics}}) == 204);
  CHECK(fault_of(client, "PUT", "/metrics", json{{"metrics_path", metrics}}.dump()) != "");
  start(client, "hang", "method=busy");
  for (int i = 0; i < 1000; ++i)
    REQUIRE(status_of(client, "PUT", "/actions", {{"action_type", "FlushMetrics"}}) == 204);
  const Fd reader(::open(metrics.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  std::string text(1 << 20, '\0');
  const ssize_t count = ::read(reader.get(), text.data(), text.size());
  REQUIRE(count > 0);
  text.resize(static_cast<std::size_t>(count));
  const json first = json::parse(text.substr(0, text.find('\n')));
  CHECK(first["put_api_requests"]["logger_count"] == 1);
  CHECK(first["put_api_requests"]["metrics_count"] == 2);
  CHECK(first["put_api_requests"]["metrics_fails"] == 1);
  CHECK(first["put_api_requests"]["actions_count"] == 1);
  CHECK(status_of(client, "PUT", "/actions", {{"action_type", "FlushMetrics"}}) == 204);
  // The rest of the line that found half the room it needs, and one that tells of the lost ones.
  text.assign(1 << 20, '\0');
  const ssize_t more = ::read(reader.get(), text.data(), text.size());
  REQUIRE(more > 0);
  text.resize(static_cast<std::size_t>(more));
  text.pop_back();
  const json last = json::parse(text.substr(text.rfind('\n') + 1));
  CHECK(last["logger"]["missed_metrics_count"].get<std::uint64_t>() > 0);
}

TEST_CASE("a file that has reached the limit of sizes takes no more metrics, and the VM goes on") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const std::string metrics = process.folder() / "metrics";
  CHECK(status_of(client, "PUT", "/metrics", {{"metrics_path", metrics}}) == 204);
  start(client, "hang", "method=busy");
  rlimit limit{};
  REQUIRE(::prlimit(process.pid(), RLIMIT_FSIZE, nullptr, &limit) == 0);
  const rlimit low{.rlim_cur = std::filesystem::file_size(metrics), .rlim_max = limit.rlim_max};
  REQUIRE(::prlimit(process.pid(), RLIMIT_FSIZE, &low, nullptr) == 0);
  CHECK(status_of(client, "PUT", "/actions", {{"action_type", "FlushMetrics"}}) == 204);
  REQUIRE(::prlimit(process.pid(), RLIMIT_FSIZE, &limit, nullptr) == 0);
  CHECK(status_of(client, "PUT", "/actions", {{"action_type", "FlushMetrics"}}) == 204);
  const std::string text = content_of(metrics);
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  CHECK(json::parse(text)["logger"]["missed_metrics_count"] == 1);
}

}  // namespace hum
