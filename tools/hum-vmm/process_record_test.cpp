// SPDX-License-Identifier: Apache-2.0
// What is in the file of --record, whatever happens to the process, and what it tells by --ready-fd.
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "tools/hum-vmm/process_testing.h"
#include "vmm/base/fd.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using namespace testing;

json record_in(const std::string& path) {
  return json::parse(content_of(path), nullptr, false);
}

// Field 22 of its stat; its name has no blanks.
std::uint64_t start_ticks_of(pid_t pid) {
  std::istringstream words(content_of("/proc/" + std::to_string(pid) + "/stat"));
  const std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
  return fields.size() > 21 ? std::stoull(fields[21]) : 0;
}

bool is_alone(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  return std::distance(std::filesystem::directory_iterator(folder), {}) == 1;
}

}  // namespace

TEST_CASE("a record says that a process runs, and which, before it has a VM and after SIGKILL") {
  const bool has_vm = GENERATE(false, true);
  if (has_vm && no_kvm()) return;
  const TemporaryFolder folder;
  VmmProcess process(HUM_VMM_PROGRAM, {"--record", folder / "record"});
  ApiClient client = process.client();
  if (has_vm) start(client, "hang", "method=busy");
  const pid_t pid = process.pid();
  const std::uint64_t ticks = start_ticks_of(pid);
  process.signal(SIGKILL);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::signal, SIGKILL});
  const json record = record_in(folder / "record");
  CHECK(record["cause"] == "running");
  CHECK(record["process"] == json{{"pid", pid}, {"start_ticks", ticks}});
  CHECK(record["kernel"]["path"] == (has_vm ? image("hang") : ""));
  CHECK(is_alone(folder / "record"));
}

TEST_CASE("a record has the exit code of a guest, and its last words") {
  if (no_kvm()) return;
  const TemporaryFolder folder;
  VmmProcess process(HUM_VMM_PROGRAM, {"--record", folder / "record"});
  ApiClient client = process.client();
  start(client, "exit_code", "exit=7");
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 7});
  const json record = record_in(folder / "record");
  CHECK(record["cause"] == "debug-exit");
  CHECK(record["guest_exit_code"] == 7);
  CHECK(record["console"] == json{"exit 7"});
  CHECK(is_alone(folder / "record"));
}

TEST_CASE("a record names the signal that ended a process, with a VM or without") {
  const bool has_vm = GENERATE(false, true);
  if (has_vm && no_kvm()) return;
  const TemporaryFolder folder;
  VmmProcess process(HUM_VMM_PROGRAM, {"--record", folder / "record"});
  ApiClient client = process.client();
  if (has_vm) start(client, "hang", "method=busy");
  process.signal(SIGTERM);
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::signal, SIGTERM});
  const json record = record_in(folder / "record");
  CHECK(record["cause"] == "signal");
  CHECK(record["detail"] == "signal 15");
}

TEST_CASE("a record says why a process could not begin") {
  const TemporaryFolder folder;
  std::ofstream(folder / "config.json") << R"({"boot-source": {"kernel_image_path": "/no/such/kernel"}})";
  for (const auto& [flag, file, code] : {std::tuple("--config-file", folder / "config.json", 152),
                                         std::tuple("--config-file", folder / "none.json", 152),
                                         std::tuple("--log-path", folder / "none/log", 1)}) {
    VmmProcess process(HUM_VMM_PROGRAM, {flag, file, "--record", folder / "record"});
    CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, code});
    const json record = record_in(folder / "record");
    CHECK(record["cause"] == "host-error");
    const bool is_read = file == folder / "config.json";
    CHECK(record["detail"].get<std::string>().find(is_read ? "/no/such/kernel" : file) != std::string::npos);
  }
}

TEST_CASE("a start that failed leaves a record of a process that runs") {
  if (no_kvm()) return;
  const TemporaryFolder folder;
  VmmProcess process(HUM_VMM_PROGRAM, {"--record", folder / "record"});
  ApiClient client = process.client();
  std::ofstream(folder / "kernel") << "none";
  REQUIRE(status_of(client, "PUT", "/boot-source", {{"kernel_image_path", folder / "kernel"}}) == 204);
  CHECK(fault_of(client, "PUT", "/actions", R"({"action_type": "InstanceStart"})").find("kernel") !=
        std::string::npos);
  CHECK(record_in(folder / "record")["cause"] == "running");
  start(client, "exit_code", "exit=7");
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 7});
  CHECK(record_in(folder / "record")["guest_exit_code"] == 7);
}

TEST_CASE("a process tells that its VM runs, once, or nothing when it does not come to that") {
  if (no_kvm()) return;
  const TemporaryFolder folder;
  const bool is_good = GENERATE(true, false);
  const json config = {{"boot-source", boot_source(is_good ? "hang" : "nowhere", "method=busy")}};
  std::ofstream(folder / "config") << config.dump();
  auto [told, tells] = make_pipe();
  Fd inherited(::dup(tells.get()));
  VmmProcess process(HUM_VMM_PROGRAM,
                     {"--ready-fd", std::to_string(inherited.get()), "--config-file", folder / "config"});
  tells.reset();
  inherited.reset();
  std::string word(8, 0);
  const ssize_t count = ::read(told.get(), word.data(), word.size());
  CHECK(count == (is_good ? 1 : 0));
  CHECK(::read(told.get(), word.data(), word.size()) == 0);
  if (!is_good) {
    CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 152});
    return;
  }
  CHECK(word[0] == '\n');
  ApiClient client = process.client();
  CHECK(state_of(client) == "Running");
}

TEST_CASE("a descriptor for readiness that is not open is refused") {
  VmmProcess process(HUM_VMM_PROGRAM, {"--ready-fd", "999"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 153});
}

TEST_CASE("a place where no record can be kept is told, and nothing begins") {
  VmmProcess process(HUM_VMM_PROGRAM, {"--record", "/no/such/folder/record"});
  CHECK(process.wait() == ProcessEnd{ProcessEnd::By::exit, 1});
  CHECK(process.messages().find("hum-vmm: record '/no/such/folder/record'") == 0);
}

}  // namespace hum
