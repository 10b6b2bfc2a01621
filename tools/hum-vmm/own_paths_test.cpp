// SPDX-License-Identifier: Apache-2.0
// The program's own API as clients see it.
#include "tools/hum-vmm/own_paths.h"

#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "tools/hum-vmm/process_testing.h"
#include "tools/hum-vmm/testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using testing::ApiClient;
using testing::VmmProcess;

bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  WARN("skipped: /dev/kvm cannot be opened");
  return true;
}

struct World {
  unsigned status_of(const std::string& method, const std::string& path, const json& body) {
    const auto answer = client.call(method, path, body.dump());
    return answer ? answer->status : 0;
  }
  json get(const std::string& path) {
    const auto answer = client.call("GET", path);
    REQUIRE(answer);
    CHECK(answer->status == 200);
    return json::parse(answer->body);
  }
  void start(const std::string& image, const std::string& arguments) {
    REQUIRE(status_of("PUT", "/machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}}) == 204);
    REQUIRE(status_of("PUT", "/boot-source",
                      {{"kernel_image_path", std::string(HUM_IMAGE_FOLDER) + "/" + image + ".elf"},
                       {"boot_args", arguments}}) == 204);
    REQUIRE(status_of("PUT", "/actions", {{"action_type", "InstanceStart"}}) == 204);
  }
  void put_drive() {
    const std::string file = process.folder() / "disk";
    std::ofstream{file};
    std::filesystem::resize_file(file, 1 << 20);
    REQUIRE(status_of("PUT", "/drives/data",
                      {{"drive_id", "data"}, {"path_on_host", file}, {"is_root_device", false}}) == 204);
  }
  ApiClient stream(const std::string& path, const std::string& headers = {}) {
    ApiClient it = process.client();
    it.send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
    return it;
  }

  VmmProcess process{HUM_VMM_PROGRAM, {"--id", "some-vm"}};
  ApiClient client = process.client();
};

constexpr const char* upgrade = "Connection: Upgrade\r\nUpgrade: hum-console\r\n";

struct Event {
  std::uint64_t id = 0;
  std::string type;
  json data;
};

// The next one, none at the stream's end.
std::optional<Event> next_event(ApiClient& stream) {
  const std::string text = stream.stream_until("\n\n");
  if (!text.ends_with("\n\n")) return {};
  if (text.starts_with(":")) return next_event(stream);
  Event event;
  event.id = std::stoull(text.substr(4));
  const std::size_t type = text.find("event: ") + 7;
  event.type = text.substr(type, text.find('\n', type) - type);
  event.data = json::parse(text.substr(text.find("data: ") + 6));
  return event;
}

}  // namespace

TEST_CASE("the VM's state is told from before its start on") {
  if (no_kvm()) return;
  World world;
  CHECK(world.get("/hum/v1/vm") == json{{"id", "some-vm"},
                                        {"state", "not-started"},
                                        {"started", nullptr},
                                        {"uptime_seconds", 0.0},
                                        {"paused", nullptr},
                                        {"end", nullptr}});
  world.start("hang", "method=busy");
  json vm = world.get("/hum/v1/vm");
  CHECK(vm["state"] == "running");
  CHECK(vm["started"].get<std::string>().ends_with("Z"));
  CHECK(vm["uptime_seconds"] > 0.0);
  CHECK(world.status_of("PATCH", "/vm", {{"state", "Paused"}}) == 204);
  vm = world.get("/hum/v1/vm");
  CHECK(vm["state"] == "paused");
  CHECK(vm["paused"] == json{{"by", "client"}});
}

TEST_CASE("events tell of the VM's whole life, and last of its end with the record") {
  if (no_kvm()) return;
  World world;
  ApiClient events = world.stream("/hum/v1/events");
  CHECK(events.answer()->status == 200);
  CHECK(events.headers.find("Content-Type: text/event-stream\r\n") != std::string::npos);
  world.start("hang", "method=busy");
  CHECK(next_event(events)->data == json{{"state", "running"}});
  for (const char* const state : {"Paused", "Paused", "Resumed"})
    CHECK(world.status_of("PATCH", "/vm", {{"state", state}}) == 204);
  CHECK(next_event(events)->data == json{{"state", "paused"}, {"paused_by", "client"}});
  const auto resumed = next_event(events);
  REQUIRE(resumed);
  CHECK(resumed->type == "state");
  CHECK(resumed->data == json{{"state", "running"}});
  CHECK(resumed->id == 3);
  ApiClient late = world.stream("/hum/v1/events", "Last-Event-ID: 2\r\n");
  CHECK(late.answer()->status == 200);
  CHECK(next_event(late)->id == 3);
  CHECK(world.stream("/hum/v1/events", "Last-Event-ID: x\r\n").answer()->status == 400);
  world.process.signal(SIGHUP);
  for (ApiClient* const each : {&events, &late}) {
    const auto end = next_event(*each);
    REQUIRE(end);
    CHECK(end->type == "end");
    CHECK(end->data["cause"] == "signal");
    CHECK(end->data["duration_seconds"] > 0.0);
    CHECK_FALSE(next_event(*each));
  }
  CHECK(world.process.wait() == ProcessEnd{ProcessEnd::By::exit, 156});
}

TEST_CASE("a guest's panic is an event before the end") {
  if (no_kvm()) return;
  World world;
  ApiClient events = world.stream("/hum/v1/events");
  REQUIRE(events.answer());
  world.start("panic_pvpanic", "");
  CHECK(next_event(events)->type == "state");
  CHECK(next_event(events)->type == "guest-panic");
  const auto end = next_event(events);
  REQUIRE(end);
  CHECK(end->data["cause"] == "panic");
}

TEST_CASE("a device that its guest has broken is an event") {
  if (no_kvm()) return;
  World world;
  world.put_drive();
  ApiClient events = world.stream("/hum/v1/events");
  REQUIRE(events.answer());
  REQUIRE(world.status_of("PUT", "/entropy", json::object()) == 204);
  world.start("hostile_loop", "transport=mmio memory=32");
  std::optional<Event> event;
  do {
    event = next_event(events);
    REQUIRE(event);
  } while (event->type != "device-error");
  CHECK(event->data["device"] == "drives/data");
  CHECK_FALSE(event->data["reason"].get<std::string>().empty());
}

TEST_CASE("a VM that a disk wants to be paused says so until its host has room again") {
  if (no_kvm()) return;
  World world;
  world.put_drive();
  ApiClient events = world.stream("/hum/v1/events");
  REQUIRE(events.answer());
  world.start("block_changes", "transport=mmio");
  ApiClient console = world.stream("/hum/v1/console?readonly=on", upgrade);
  REQUIRE(console.answer());
  REQUIRE(console.stream_until("ready\r\n").ends_with("ready\r\n"));
  const std::string larger = world.process.folder() / "larger";
  std::ofstream{larger};
  std::filesystem::resize_file(larger, 2 << 20);
  rlimit limit{};
  REQUIRE(::prlimit(world.process.pid(), RLIMIT_FSIZE, nullptr, &limit) == 0);
  const rlimit low{.rlim_cur = 1 << 16, .rlim_max = limit.rlim_max};
  REQUIRE(::prlimit(world.process.pid(), RLIMIT_FSIZE, &low, nullptr) == 0);
  CHECK(world.status_of("PATCH", "/hum/v1/devices/drives/data", {{"on-error", "pause"}}) == 204);
  CHECK(world.status_of("PATCH", "/hum/v1/devices/drives/data", {{"path", larger}}) == 204);
  CHECK(next_event(events)->data == json{{"state", "running"}});
  const auto paused = next_event(events);
  REQUIRE(paused);
  CHECK(paused->data["state"] == "paused");
  CHECK(paused->data["paused_by"] == "device");
  CHECK(paused->data["reason"].get<std::string>().find(larger) != std::string::npos);
  // Each try lets it run for a moment.
  json vm;
  for (int tries = 0; tries < 1000 && vm["state"] != "paused"; ++tries) vm = world.get("/hum/v1/vm");
  CHECK(vm["paused"] == json{{"by", "device"}, {"reason", paused->data["reason"]}});
  std::string state;
  for (int tries = 0; tries < 1000 && state != "Paused"; ++tries) state = world.get("/")["state"];
  CHECK(state == "Paused");
  REQUIRE(::prlimit(world.process.pid(), RLIMIT_FSIZE, &limit, nullptr) == 0);
  CHECK(world.status_of("PATCH", "/vm", {{"state", "Resumed"}}) == 204);
  std::optional<Event> event;
  do {
    event = next_event(events);
    REQUIRE(event);
  } while (event->type != "end");
  CHECK(event->data["guest_exit_code"] == 0);
}

TEST_CASE("the console is read by many and written by one, from the boot on") {
  if (no_kvm()) return;
  World world;
  CHECK(world.stream("/hum/v1/console", upgrade).answer()->status == 409);  // before the start
  world.start("serial_io", "expect=hello");
  ApiClient writer = world.stream("/hum/v1/console", upgrade);
  const auto answer = writer.answer();
  REQUIRE(answer);
  CHECK(answer->status == 101);
  CHECK(writer.headers.find("Upgrade: hum-console\r\n") != std::string::npos);
  CHECK(writer.stream_until("ready\r\n") == "ready\r\n");
  CHECK(world.stream("/hum/v1/console", upgrade).answer()->status == 409);
  ApiClient reader = world.stream("/hum/v1/console?readonly=on", upgrade);
  CHECK(reader.answer()->status == 101);
  CHECK(reader.stream_until("ready\r\n") == "ready\r\n");
  reader.send("ignored");
  writer.send("hello\n");
  writer.end_sending();
  CHECK(writer.stream_until("hello\r\n") == "hello\r\n");
  CHECK(reader.stream_until("hello\r\n") == "hello\r\n");
  for (ApiClient* const each : {&writer, &reader}) {
    CHECK(each->stream_until("PASS\r\n") == "PASS\r\n");
    CHECK(each->closed());
  }
  CHECK(world.process.wait() == ProcessEnd{ProcessEnd::By::exit, 0});
}

TEST_CASE("readers of a console who do not read hold up neither the guest nor its end") {
  if (no_kvm()) return;
  World world;
  const std::string file = world.process.folder() / "serial";
  REQUIRE(world.status_of("PUT", "/serial", {{"serial_out_path", file}}) == 204);
  world.start("endless_print", "");
  ApiClient slow = world.stream("/hum/v1/console", upgrade);
  REQUIRE(slow.answer());
  const auto printed = [&] {
    return world.get("/hum/v1/statistics")["console"]["output_bytes"].get<std::uint64_t>();
  };
  const std::uint64_t before = printed();
  while (printed() < before + 100'000) {
  }
  world.process.signal(SIGHUP);
  CHECK(world.process.wait() == ProcessEnd{ProcessEnd::By::exit, 156});
}

TEST_CASE("the console asks for its protocol, and for no other query") {
  World world;
  const auto answer = world.client.call("GET", "/hum/v1/console");
  REQUIRE(answer);
  CHECK(answer->status == 426);
  CHECK(world.client.headers.find("Upgrade: hum-console\r\n") != std::string::npos);
  CHECK(world.stream("/hum/v1/console", "Connection: Upgrade\r\nUpgrade: websocket\r\n").answer()->status ==
        426);
  CHECK(world.stream("/hum/v1/console?readonly=maybe", upgrade).answer()->status == 400);
}

TEST_CASE("statistics come as JSON and in Prometheus' text") {
  if (no_kvm()) return;
  World world;
  world.put_drive();
  CHECK(world.get("/hum/v1/statistics")["devices"] == json::array());
  world.start("virtio_blk", "transport=mmio sectors=2048 serial=data");
  json all;
  do {
    all = world.get("/hum/v1/statistics");
  } while (all["devices"][0]["queues"].empty());
  CHECK(all["devices"][0]["name"] == "drives/data");
  CHECK(all["exits"]["port-out"] >= 0);
  ApiClient text = world.stream("/hum/v1/statistics", "Accept: text/plain\r\n");
  ApiClient metrics = world.stream("/hum/v1/metrics");
  for (ApiClient* const each : {&text, &metrics}) {
    const auto answer = each->answer();
    if (!answer) continue;  // the guest has ended by itself
    CHECK(answer->status == 200);
    CHECK(each->headers.find("Content-Type: text/plain; version=0.0.4") != std::string::npos);
    CHECK(answer->body.find("hum_queue_requests_total{device=\"drives/data\",queue=\"0\"} ") !=
          std::string::npos);
  }
}

TEST_CASE("devices tell their options, and those that are live can be changed") {
  if (no_kvm()) return;
  World world;
  world.put_drive();
  CHECK(world.get("/hum/v1/devices") == json::array());
  CHECK(world.status_of("PATCH", "/hum/v1/devices/drives/data", {{"ops", "5"}}) == 409);
  REQUIRE(world.status_of("PUT", "/entropy", json::object()) == 204);
  world.start("hang", "method=busy");
  const auto option = [&](const char* name) { return world.get("/hum/v1/devices")[0]["options"][name]; };
  const json devices = world.get("/hum/v1/devices");
  REQUIRE(devices.size() == 2);
  CHECK(devices[0]["name"] == "drives/data");
  CHECK(devices[0]["kind"] == "disk");
  CHECK(devices[1]["name"] == "entropy");
  CHECK(option("ops") == json{{"value", "off"}, {"live", true}});
  CHECK(option("on-error")["live"] == true);
  CHECK(option("readonly") == json{{"value", "off"}, {"live", false}});
  CHECK(option("overlay") == json{{"value", nullptr}, {"live", true}});
  CHECK(world.status_of("PATCH", "/hum/v1/devices/drives/data",
                        {{"ops", "100/10+5"}, {"bandwidth", "1M"}, {"size", 2 << 20}}) == 204);
  CHECK(option("ops")["value"] == "100/10+5");
  CHECK(option("bandwidth")["value"] == "1048576/1000");
  CHECK(std::filesystem::file_size(world.process.folder() / "disk") == 2 << 20);
  for (const auto& [body, part] : {std::pair(json{{"ops", "many"}}, "drives/data.ops"),
                                   {json{{"readonly", true}}, "readonly"},
                                   {json{{"no-such", 1}}, "no-such"},
                                   {json{{"ops=1,bandwidth", "1"}}, "ops=1,bandwidth"},
                                   {json{{"ops", 1.5}}, "drives/data.ops"},
                                   {json{{"ops", nullptr}}, "drives/data.ops"},
                                   {json{{"path", std::string("a\0b", 3)}}, "drives/data.path"},
                                   {json{{"size", "1K"}}, "size"},
                                   {json{{"path", "/no,such"}, {"ops", "1"}}, "/no,such"},
                                   {json::object(), "nothing to change"},
                                   {json::array(), "nothing to change"},
                                   {json(), "nothing to change"}}) {
    const auto answer = world.client.call("PATCH", "/hum/v1/devices/drives/data", body.dump());
    REQUIRE(answer);
    INFO(body << ": " << answer->body);
    CHECK((answer->status == 400 || answer->status == 500));
    CHECK(answer->body.find(part) != std::string::npos);
    CHECK(option("ops")["value"] == "100/10+5");
  }
  CHECK(world.client.call("PATCH", "/hum/v1/devices/drives/data", "{")->status == 400);
  CHECK(world.client.call("PATCH", "/hum/v1/devices/drives/data", "")->status == 400);
  CHECK(world.status_of("PATCH", "/hum/v1/devices/drives/other", {{"ops", "1"}}) == 404);
  CHECK(world.status_of("PATCH", "/hum/v1/devices/", {{"ops", "1"}}) == 404);
}

TEST_CASE("the power button reaches a guest, while it runs and after a pause") {
  if (no_kvm()) return;
  World world;
  const bool is_paused = GENERATE(false, true);
  const std::string button = "/hum/v1/vm/power-button";
  CHECK(world.client.call("PUT", button)->status == 409);
  CHECK(world.client.call("PUT", button, "{}")->status == 400);
  CHECK(world.client.call("GET", button)->status == 405);
  CHECK(world.client.headers.find("Allow: PUT\r\n") != std::string::npos);
  // mov dx, 0x603; in al, dx; test al, 1; jz -5; mov eax, 5; out 0xf4, eax; hlt
  const std::string kernel = world.process.folder() / "kernel";
  testing::write_kernel(
      kernel, {0x66, 0xba, 0x03, 0x06, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0xb8, 5, 0, 0, 0, 0xe7, 0xf4, 0xf4});
  REQUIRE(world.status_of("PUT", "/machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}}) == 204);
  REQUIRE(world.status_of("PUT", "/boot-source", {{"kernel_image_path", kernel}}) == 204);
  REQUIRE(world.status_of("PUT", "/actions", {{"action_type", "InstanceStart"}}) == 204);
  if (is_paused) REQUIRE(world.status_of("PATCH", "/vm", {{"state", "Paused"}}) == 204);
  CHECK(world.client.call("PUT", button)->status == 204);
  if (is_paused) {
    CHECK(world.process.runs());
    CHECK(world.status_of("PATCH", "/vm", {{"state", "Resumed"}}) == 204);
  }
  CHECK(world.process.wait() == ProcessEnd{ProcessEnd::By::exit, 5});
}

TEST_CASE("a process without a VM ends at once with its clients' streams") {
  World world;
  ApiClient events = world.stream("/hum/v1/events");
  REQUIRE(events.answer());
  const auto begin = std::chrono::steady_clock::now();
  world.process.signal(SIGTERM);
  CHECK_FALSE(next_event(events));
  CHECK(world.process.wait() == ProcessEnd{ProcessEnd::By::signal, SIGTERM});
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(900));
}

TEST_CASE("paths and methods that there are not are told apart") {
  World world;
  CHECK(world.client.call("GET", "/hum/v1/no-such")->status == 404);
  CHECK(world.client.call("GET", "/hum/v1/")->status == 404);
  for (const char* const path : {"vm", "events", "console", "statistics", "metrics", "devices"}) {
    CHECK(world.client.call("PUT", std::string("/hum/v1/") + path, "{}")->status == 405);
    CHECK(world.client.headers.find("Allow: GET\r\n") != std::string::npos);
    CHECK(world.client.call("GET", std::string("/hum/v1/") + path, "{}")->status == 400);
  }
  CHECK(world.client.call("GET", "/hum/v1/devices/drives/data")->status == 405);
  CHECK(world.client.headers.find("Allow: DELETE, PATCH, PUT\r\n") != std::string::npos);
  CHECK(world.client.call("GET", "/hum/v2/vm")->status == 400);  // the dialect's answer
}

}  // namespace hum
