// SPDX-License-Identifier: Apache-2.0
//
// `hum apply` as the program that it is.
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/humd/command_testing.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using namespace testing;

class ApplyFile {
 public:
  explicit ApplyFile(const std::string& text) { write(text); }
  void write(const std::string& text) { std::ofstream(path()) << text; }
  std::string path() const { return folder_ / "shop.toml"; }

 private:
  TemporaryFolder folder_;
};

constexpr const char* shop = R"(
[projects.lab]
vms = 3
[volumes.data]
size = "1M"
[vms.web]
project = "lab"
kernel = "no-kernel"
networks = []
volumes = ["data"]
[vms.db]
state = "stopped"
kernel = "/no/kernel"
networks = []
)";

json vm(const CommandDaemon& daemon, const std::string& name) {
  return json::parse(daemon.said({"vm", "inspect", name}));
}

}  // namespace

TEST_CASE("a file is shown as a plan, carried out, and there is nothing to do then") {
  const CommandDaemon daemon;
  const ApplyFile file(shop);
  const std::string plan =
      "STEP    TYPE     NAME  WHAT\n"
      "set     project  lab   vms 3\n"
      "create  volume   data  size_mib 1\n"
      "create  vm       db    kernel /no/kernel, networks []\n";
  CHECK_THAT(daemon.said({"apply", file.path(), "--dry-run"}), Catch::StartsWith(plan));
  CHECK(daemon.said({"vm", "ls", "-q"}) == "");
  const ProcessResult unasked = daemon.hum({"apply", file.path()});
  CHECK(unasked.exit_code == 2);
  CHECK(unasked.errors == "hum: yes: missing; give --yes, or --dry-run, where nobody can be asked\n");
  CHECK(daemon.said({"vm", "ls", "-q"}) == "");

  CHECK_THAT(daemon.said({"apply", file.path(), "--yes"}),
             Catch::EndsWith("5 to do, 0 are as they should be\n"
                             "project lab: set: done\n"
                             "volume data: create: done\n"
                             "vm db: create: done\n"
                             "vm web: create: done\n"
                             "vm web: start: done\n"));
  const json web = vm(daemon, "web");
  CHECK(web["state"] == "running");
  CHECK(web["project"] == "lab");
  CHECK_THAT(web["spec"]["kernel"].get<std::string>(), Catch::EndsWith("/no-kernel"));
  CHECK(vm(daemon, "db")["state"] == "stopped");
  CHECK(daemon.said({"apply", file.path(), "--yes"}) == "nothing to do: 4 are as they should be\n");
}

TEST_CASE("a changed file changes what is there, and takes away what is to be absent") {
  const CommandDaemon daemon;
  ApplyFile file(shop);
  daemon.said({"apply", file.path(), "--yes"});
  file.write(R"(
[volumes.data]
state = "absent"
[vms.web]
state = "absent"
[vms.db]
kernel = "/no/kernel"
networks = []
memory = "64M"
)");
  CHECK_THAT(daemon.said({"apply", file.path(), "--yes"}), Catch::Contains("memory_mib 256 -> 64"));
  CHECK(daemon.said({"vm", "ls", "-q"}) == "db\n");
  CHECK(daemon.said({"volume", "ls", "-q"}) == "");
  CHECK(vm(daemon, "db")["state"] == "running");

  file.write("[vms.db]\nmemory = \"96M\"\n");
  const std::int64_t pid = vm(daemon, "db")["pid"];
  CHECK_THAT(daemon.said({"apply", file.path(), "--yes"}),
             Catch::Contains("memory_mib 64 -> 96 (from its next start on)"));
  CHECK(vm(daemon, "db")["pid"] == pid);
  CHECK(vm(daemon, "db")["spec"]["kernel"] == "/no/kernel");
  file.write("[vms.db]\nmemory = \"128M\"\n");
  const json plan = json::parse(daemon.said({"apply", file.path(), "--yes", "--restart", "--json"}));
  CHECK(plan["steps"][1]["action"] == "restart");
  CHECK(vm(daemon, "db")["pid"] != pid);
}

TEST_CASE("where something of a file is wrong nothing of it is begun") {
  const CommandDaemon daemon;
  ApplyFile file("[volumes.data]\nsize = \"1M\"\n[vms.web]\nkernel = \"/k\"\ncpus = 99\n");
  CHECK_THAT(daemon.refused({"apply", file.path(), "--yes"}), Catch::Contains("hum: vm 'web': "));
  file.write("[volumes.data]\nsize = \"1M\"\ncolour = \"red\"\n");
  CHECK_THAT(daemon.refused({"apply", file.path(), "--yes"}), Catch::Contains("hum: volume 'data': "));
  CHECK(daemon.said({"volume", "ls", "-q"}) == "");
  CHECK_THAT(daemon.refused({"apply", "/no/file", "--yes"}), Catch::Contains("/no/file"));
  CHECK_THAT(daemon.refused({"apply"}), Catch::Contains("FILE"));
}

TEST_CASE("what fails on the way is said with the step, and the file can be applied again") {
  const CommandDaemon daemon;
  ApplyFile file("[images.tiny]\nkernel = \"no-kernel\"\n[volumes.data]\nsize = \"1M\"\n");
  const ProcessResult failed = daemon.hum({"apply", file.path(), "--yes"});
  CHECK(failed.exit_code == 2);
  CHECK_THAT(failed.errors, Catch::Contains("hum: image 'tiny': import: "));
  CHECK_THAT(failed.errors, Catch::Contains("; 0 of 2 steps are done: apply the file again to go on"));
  file.write("[volumes.data]\nsize = \"1M\"\n");
  daemon.said({"apply", file.path(), "--yes"});
  CHECK(daemon.said({"volume", "ls", "-q"}) == "data\n");
}

TEST_CASE("on a terminal the plan is asked about") {
  const CommandDaemon daemon;
  const ApplyFile file("[volumes.data]\nsize = \"1M\"\n");
  const TerminalResult no = on_terminal(daemon.command({"apply", file.path()}), "[y/N] ", "n\n");
  CHECK(no.exit_code == 0);
  CHECK(daemon.said({"volume", "ls", "-q"}) == "");
  const TerminalResult yes = on_terminal(daemon.command({"apply", file.path()}), "[y/N] ", "y\n");
  CHECK_THAT(yes.output, Catch::Contains("volume data: create: done"));
  CHECK(daemon.said({"volume", "ls", "-q"}) == "data\n");
}

}  // namespace hum
