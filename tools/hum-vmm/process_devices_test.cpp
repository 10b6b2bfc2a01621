// SPDX-License-Identifier: Apache-2.0
// The devices of a VM that clients drive through the program.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "tools/hum-vmm/process_testing.h"
#include "vmm/base/testing.h"

namespace hum {

using nlohmann::json;
using namespace testing;

TEST_CASE("placeholder drives of length zero boot, and get their file while the VM runs") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const std::string image_file = process.folder() / "image";
  std::ofstream{image_file};
  std::filesystem::resize_file(image_file, 1 << 20);
  for (const char* const id : {"drive_0", "drive_1"}) {
    const std::string empty = process.folder() / id;
    std::ofstream{empty};
    CHECK(status_of(client, "PUT", std::string("/drives/") + id,
                    {{"drive_id", id}, {"path_on_host", empty}, {"is_root_device", false}}) == 204);
  }
  start(client, "hang", "method=busy");
  CHECK(status_of(client, "PATCH", "/drives/drive_1",
                  {{"drive_id", "drive_1"},
                   {"path_on_host", image_file},
                   {"rate_limiter", {{"ops", {{"size", 100}, {"refill_time", 100}}}}}}) == 204);
  CHECK(fault_of(client, "PATCH", "/drives/drive_2", R"({"drive_id": "drive_2"})").find("drive_2") !=
        std::string::npos);
  CHECK(fault_of(client, "PATCH", "/drives/drive_0",
                 R"({"drive_id": "drive_0", "path_on_host": "/no/such/file"})")
            .find("/no/such/file") != std::string::npos);
  const json drives = json::parse(client.call("GET", "/vm/config")->body)["drives"];
  CHECK(drives[0]["path_on_host"] == process.folder() / "drive_0");
  CHECK(drives[1]["path_on_host"] == image_file);
  CHECK(drives[1]["rate_limiter"]["ops"]["size"] == 100);
}

TEST_CASE("drives come and go while the VM runs on PCI") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM, {"--enable-pci"});
  ApiClient client = process.client();
  const std::string file = process.folder() / "file";
  std::ofstream{file};
  std::filesystem::resize_file(file, 1 << 20);
  const auto drive = [&](const char* id) -> json {
    return {{"drive_id", id}, {"path_on_host", file}, {"is_root_device", false}};
  };
  const auto drives = [&] { return json::parse(client.call("GET", "/vm/config")->body)["drives"]; };
  CHECK(fault_of(client, "DELETE", "/drives/none", "").find("before starting") != std::string::npos);
  const std::string metrics = process.folder() / "metrics";
  REQUIRE(status_of(client, "PUT", "/metrics", {{"metrics_path", metrics}}) == 204);
  ApiClient events = process.client();
  events.send("GET /hum/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
  REQUIRE(events.answer());
  start(client, "hot_plug", "transport=pci");
  REQUIRE(process.says("ready"));
  CHECK(fault_of(client, "DELETE", "/drives/none", "").find("none") != std::string::npos);
  CHECK(fault_of(client, "DELETE", "/drives", "").find("path") != std::string::npos);
  CHECK(fault_of(client, "DELETE", "/vsock", "").find("path") != std::string::npos);
  CHECK(fault_of(client, "DELETE", "/drives/a", "{}").find("body") != std::string::npos);
  json root = drive("a");
  root["is_root_device"] = true;
  CHECK(fault_of(client, "PUT", "/drives/a", root.dump()).find("is_root_device") != std::string::npos);
  json missing = drive("a");
  missing["path_on_host"] = file + ".none";
  CHECK(fault_of(client, "PUT", "/drives/a", missing.dump()).find(file + ".none") != std::string::npos);
  CHECK(drives().empty());

  CHECK(status_of(client, "PUT", "/drives/a", drive("a")) == 204);
  CHECK(fault_of(client, "PUT", "/drives/a", drive("a").dump()).find("is taken") != std::string::npos);
  CHECK(drives().size() == 1);
  REQUIRE(process.says("used"));
  REQUIRE(status_of(client, "PUT", "/actions", {{"action_type", "FlushMetrics"}}) == 204);
  CHECK(client.call("DELETE", "/drives/a")->status == 204);
  CHECK(events.stream_until("\"drives/a\"").find("event: device-gone\n") != std::string::npos);
  CHECK(drives().empty());
  REQUIRE(process.says("gone"));
  REQUIRE(status_of(client, "PUT", "/actions", {{"action_type", "FlushMetrics"}}) == 204);
  CHECK(status_of(client, "PUT", "/drives/b", drive("b")) == 204);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 0});
  std::istringstream lines(content_of(metrics));
  const auto next_count = [&] {
    std::string line;
    std::getline(lines, line);
    return json::parse(line)["block"]["queue_event_count"].get<std::uint64_t>();
  };
  CHECK(next_count() > 0);
  CHECK(next_count() == 0);  // of the one that is gone
}

TEST_CASE("files come as memory and go while the VM runs on PCI") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM, {"--enable-pci"});
  ApiClient client = process.client();
  const auto pmem = [&](const char* id) -> json {
    const std::string path = process.folder() / id;
    std::ofstream(path) << id;
    std::filesystem::resize_file(path, 2 << 20);
    return {{"id", id}, {"path_on_host", path}};
  };
  const auto known = [&] { return json::parse(client.call("GET", "/vm/config")->body)["pmem"]; };
  json root = pmem("r");
  root["root_device"] = true;
  root["read_only"] = true;
  const bool has_root = GENERATE(false, true);
  if (has_root) REQUIRE(status_of(client, "PUT", "/pmem/r", root) == 204);
  CHECK(fault_of(client, "DELETE", "/pmem/a", "").find("before starting") != std::string::npos);
  if (has_root) {
    start(client, "hang", "method=busy");
    CHECK(fault_of(client, "DELETE", "/pmem/r", "").find("root device") != std::string::npos);
    CHECK(fault_of(client, "PUT", "/pmem/r", root.dump()).find("is taken") != std::string::npos);
    CHECK(status_of(client, "PUT", "/pmem/a", pmem("a")) == 204);
    CHECK(client.call("DELETE", "/pmem/a")->status == 204);  // which nobody uses
    CHECK(known().size() == 1);
    return;
  }
  start(client, "hot_plug_pmem", "transport=pci");
  REQUIRE(process.says("ready"));
  CHECK(fault_of(client, "PUT", "/pmem/r", root.dump()).find("root_device") != std::string::npos);
  json missing = pmem("a");
  missing["path_on_host"] = process.folder() / "none";
  CHECK(fault_of(client, "PUT", "/pmem/a", missing.dump()).find("none") != std::string::npos);
  std::ofstream(process.folder() / "none");
  CHECK(fault_of(client, "PUT", "/pmem/a", missing.dump()).find("pmem.path_on_host") == 0);
  CHECK(known().empty());
  CHECK(status_of(client, "PUT", "/pmem/a", pmem("a")) == 204);
  CHECK(known()[0]["id"] == "a");
  REQUIRE(process.says("used"));
  CHECK(status_of(client, "PATCH", "/pmem/a",
                  {{"id", "a"}, {"rate_limiter", {{"ops", {{"size", 100}, {"refill_time", 100}}}}}}) == 204);
  CHECK(content_of(process.folder() / "a").starts_with("ax"));
  CHECK(client.call("DELETE", "/pmem/a")->status == 204);
  REQUIRE(process.says("gone"));
  for (int tries = 0; tries < 1000 && !known().empty(); ++tries) {
  }
  CHECK(known().empty());
  CHECK(status_of(client, "PUT", "/pmem/b", pmem("b")) == 204);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 0});
  CHECK(content_of(process.folder() / "b").starts_with("bz"));
}

TEST_CASE("drives neither come nor go while the VM runs over MMIO") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  start(client, "hang", "method=busy");
  CHECK(fault_of(client, "PUT", "/drives/a",
                 R"({"drive_id": "a", "path_on_host": "/dev/null", "is_root_device": false})")
            .find("after starting") != std::string::npos);
  CHECK(fault_of(client, "DELETE", "/drives/a", "").find("--enable-pci") != std::string::npos);
}

TEST_CASE("a balloon is put before the start, and changed, asked and read after it") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const auto get = [&](const std::string& path) { return json::parse(client.call("GET", path)->body); };
  const std::string too_early = "The requested operation is not supported before starting the microVM.";
  CHECK(fault_of(client, "GET", "/balloon", "") == "No balloon device found.");
  CHECK(status_of(client, "PUT", "/balloon",
                  {{"amount_mib", 8},
                   {"deflate_on_oom", false},
                   {"stats_polling_interval_s", 1},
                   {"free_page_hinting", true}}) == 204);
  CHECK(get("/balloon")["free_page_reporting"] == false);
  for (const char* const path : {"/balloon/statistics", "/balloon/hinting/status"})
    CHECK(fault_of(client, "GET", path, "") == too_early);
  CHECK(fault_of(client, "PATCH", "/balloon", R"({"amount_mib": 9})") == too_early);
  for (const char* const path : {"/balloon/hinting/start", "/balloon/hinting/stop"})
    CHECK(fault_of(client, "PATCH", path, "") == too_early);

  start(client, "hang", "method=busy");
  CHECK(get("/balloon/statistics") ==
        json{{"target_pages", 2048}, {"target_mib", 8}, {"actual_pages", 0}, {"actual_mib", 0}});
  CHECK(status_of(client, "PATCH", "/balloon", {{"amount_mib", 32}}) == 204);
  CHECK(get("/balloon/statistics")["target_mib"] == 32);
  CHECK(fault_of(client, "PATCH", "/balloon", R"({"amount_mib": 33})") != "");
  CHECK(get("/balloon")["amount_mib"] == 32);
  CHECK(status_of(client, "PATCH", "/balloon/statistics", {{"stats_polling_interval_s", 2}}) == 204);
  CHECK(fault_of(client, "PATCH", "/balloon/statistics", R"({"stats_polling_interval_s": 0})") != "");
  CHECK(get("/vm/config")["balloon"]["stats_polling_interval_s"] == 2);
  CHECK(get("/balloon/hinting/status") == json{{"host_cmd", 0}});
  // The guest has no driver for it.
  CHECK(fault_of(client, "PATCH", "/balloon/hinting/start", R"({"acknowledge_on_stop": false})") != "");
  CHECK(fault_of(client, "PATCH", "/balloon/hinting/stop", "") != "");
  CHECK(fault_of(client, "PATCH", "/balloon/hinting/stop", R"({"x": 1})").find("x") != std::string::npos);
  CHECK(fault_of(client, "PATCH", "/balloon/hinting/go", "{}").find("Invalid request method") == 0);
}

TEST_CASE("a VM without a balloon, or one without statistics and hinting, says so") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const bool has_one = GENERATE(false, true);
  if (has_one)
    CHECK(status_of(client, "PUT", "/balloon", {{"amount_mib", 0}, {"deflate_on_oom", false}}) == 204);
  start(client, "hang", "method=busy");
  CHECK((client.call("GET", "/balloon")->status == 200) == has_one);
  CHECK((status_of(client, "PATCH", "/balloon", {{"amount_mib", 1}}) == 204) == has_one);
  for (const auto& [method, path, body] :
       {std::tuple("GET", "/balloon/statistics", ""), std::tuple("GET", "/balloon/hinting/status", ""),
        std::tuple("PATCH", "/balloon/statistics", R"({"stats_polling_interval_s": 1})"),
        std::tuple("PATCH", "/balloon/hinting/start", ""), std::tuple("PATCH", "/balloon/hinting/stop", "")})
    CHECK(fault_of(client, method, path, body) != "");
}

TEST_CASE("a pmem is put before the start, and its limits change after it") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const std::string file = process.folder() / "memory";
  std::ofstream{file};
  const json pmem = {{"id", "p"}, {"path_on_host", file}};
  CHECK(status_of(client, "PUT", "/pmem/p", pmem) == 204);
  REQUIRE(status_of(client, "PUT", "/boot-source", boot_source("hang", "method=busy")) == 204);
  CHECK(fault_of(client, "PUT", "/actions", R"({"action_type": "InstanceStart"})").find("has no bytes") !=
        std::string::npos);
  std::filesystem::resize_file(file, 3 << 20);
  const json limit = {{"ops", {{"size", 5}, {"refill_time", 100}}}};
  CHECK(fault_of(client, "PATCH", "/pmem/p", json{{"id", "p"}, {"rate_limiter", limit}}.dump()) ==
        "The requested operation is not supported before starting the microVM.");
  start(client, "hang", "method=busy");
  CHECK(status_of(client, "PATCH", "/pmem/p", {{"id", "p"}, {"rate_limiter", limit}}) == 204);
  CHECK(json::parse(client.call("GET", "/vm/config")->body)["pmem"][0]["rate_limiter"] == limit);
  CHECK(fault_of(client, "PATCH", "/pmem/q", R"({"id": "q"})").find("q") != std::string::npos);
  CHECK(fault_of(client, "PATCH", "/pmem/p", R"({"id": "p", "read_only": true})").find("read_only") !=
        std::string::npos);
  CHECK(fault_of(client, "PUT", "/pmem/p", pmem.dump()) ==
        "The requested operation is not supported after starting the microVM.");
}

TEST_CASE("memory that can be plugged is put before the start, and requested and read after it") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  const std::string too_early = "The requested operation is not supported before starting the microVM.";
  const bool has_some = GENERATE(true, false);
  if (has_some) CHECK(status_of(client, "PUT", "/hotplug/memory", {{"total_size_mib", 1024}}) == 204);
  CHECK(fault_of(client, "GET", "/hotplug/memory", "") == too_early);
  CHECK(fault_of(client, "PATCH", "/hotplug/memory", R"({"requested_size_mib": 2})") == too_early);
  start(client, "hang", "method=busy");
  if (!has_some) {
    CHECK(fault_of(client, "GET", "/hotplug/memory", "") == "No memory hotplug device found.");
    CHECK(fault_of(client, "PATCH", "/hotplug/memory", R"({"requested_size_mib": 2})") != "");
    return;
  }
  json status = {{"total_size_mib", 1024},
                 {"slot_size_mib", 128},
                 {"block_size_mib", 2},
                 {"plugged_size_mib", 0},
                 {"requested_size_mib", 0}};
  CHECK(json::parse(client.call("GET", "/hotplug/memory")->body) == status);
  CHECK(status_of(client, "PATCH", "/hotplug/memory", {{"requested_size_mib", 1024}}) == 204);
  for (const char* const size : {"1026", "3"})
    CHECK(fault_of(client, "PATCH", "/hotplug/memory", "{\"requested_size_mib\": " + std::string(size) + "}")
              .find("requested") != std::string::npos);
  status["requested_size_mib"] = 1024;
  CHECK(json::parse(client.call("GET", "/hotplug/memory")->body) == status);
  CHECK(fault_of(client, "PUT", "/hotplug/memory", R"({"total_size_mib": 1024})") ==
        "The requested operation is not supported after starting the microVM.");
}

// What its device asks of the kernel is asked by a thread with a filter of system calls.
TEST_CASE("a guest plugs the memory that it is asked to plug, uses it, and unplugs it") {
  if (no_kvm()) return;
  VmmProcess process(HUM_VMM_PROGRAM);
  ApiClient client = process.client();
  CHECK(status_of(client, "PUT", "/hotplug/memory", {{"total_size_mib", 128}}) == 204);
  CHECK(status_of(client, "PUT", "/entropy", json::object()) == 204);
  start(client, "mem_blocks", "transport=mmio");
  CHECK(status_of(client, "PATCH", "/hotplug/memory", {{"requested_size_mib", 8}}) == 204);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 0});
}

}  // namespace hum
