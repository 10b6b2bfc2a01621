// SPDX-License-Identifier: Apache-2.0
//
// `hum image`, `hum volume`, `hum network` and `hum project` as the programs that they are.
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/humd/command_testing.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using namespace testing;

std::string file_of(const TemporaryFolder& folder, const std::string& name, std::size_t size) {
  std::ofstream(folder / name) << std::string(size, 'x');
  return folder / name;
}

// The names that the description of the API has for one of its objects.
std::set<std::string> documented(const std::string& object) {
  std::ifstream file(HUM_API_FILE);
  const json schema = json::parse(file)["components"]["schemas"][object]["required"];
  return schema.get<std::set<std::string>>();
}

std::set<std::string> names_in(const json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) names.insert(name);
  return names;
}

}  // namespace

TEST_CASE("an image is imported, listed with what it has, given to a VM and removed") {
  const CommandDaemon daemon;
  const TemporaryFolder folder;
  const std::string disk = file_of(folder, "disk", 1U << 20U);
  CHECK(daemon.said({"image", "ls"}) == "NAME  STATE  HAS  SIZE  DISK  DIGEST\n");
  CHECK(daemon.said({"image", "import", "tiny", "--disk", disk, "--format", "raw", "--cmdline", "quiet"}) ==
        "tiny\n");
  const json all = json::parse(daemon.said({"image", "ls", "--json"}));
  REQUIRE(all.size() == 1);
  CHECK(names_in(all[0]) == documented("Image"));
  const std::string digest = all[0]["digest"];
  CHECK(daemon.said({"image", "ls"}) ==
        "NAME  STATE  HAS       SIZE  DISK  DIGEST\n"
        "tiny  ready  disk.raw  1M    1M    " +
            digest.substr(0, 19) + "\n");
  CHECK(json::parse(daemon.said({"image", "inspect", "tiny"})) == all[0]);
  CHECK(daemon.said({"vm", "create", "web", "--image", "tiny", "--kernel", "/k", "--net", "none"}) ==
        "web\n");
  const json vm = json::parse(daemon.said({"vm", "inspect", "web"}));
  CHECK(vm["spec"]["cmdline"] == "quiet");
  CHECK(vm["image"] == digest);
  CHECK(daemon.said({"image", "rm", "tiny"}) == "tiny\n");
  CHECK(daemon.said({"image", "ls", "-q"}) == "");
}

TEST_CASE("an image of nothing, of a file that is not there or of no known format is refused") {
  const CommandDaemon daemon;
  CHECK(daemon.refused({"image", "import", "tiny"}) ==
        "hum: image: nothing to make it of; give a kernel, a disk, or both\n");
  CHECK(has(daemon.refused({"image", "import", "tiny", "--disk", "/no/disk"}), "hum: format: missing; say"));
  CHECK(has(daemon.refused({"image", "import", "tiny", "--disk", "/no/disk", "--format", "raw"}),
            "hum: disk '/no/disk': no such file"));
  CHECK(has(daemon.refused({"image", "import", "tiny", "--format", "vmdk"}), "vmdk not in {raw,qcow2}"));
  CHECK(has(daemon.refused({"image", "import", "Tiny", "--kernel", "/no/kernel"}), "name 'Tiny': no name"));
  CHECK(daemon.said({"image", "ls", "-q"}) == "");
}

TEST_CASE("a volume is made, resized and removed, and not while a VM has it") {
  const CommandDaemon daemon;
  CHECK(daemon.said({"volume", "create", "data", "--size", "1M"}) == "data\n");
  CHECK(daemon.said({"volume", "create", "copy", "--from", "data"}) == "copy\n");
  daemon.create("web", {"--volume", "data"});
  CHECK(daemon.said({"volume", "ls"}) ==
        "NAME  STATE  FORMAT  SIZE  VMS\n"
        "copy  ready  raw     1M    -\n"
        "data  ready  raw     1M    web\n");
  CHECK(names_in(json::parse(daemon.said({"volume", "inspect", "data"}))) == documented("Volume"));
  CHECK(daemon.said({"volume", "resize", "data", "2M"}) == "data\n");
  CHECK(has(daemon.refused({"volume", "resize", "data", "1M"}), "is less than the volume has, 2M"));
  CHECK(daemon.said({"volume", "resize", "data", "1M", "--shrink"}) == "data\n");
  CHECK(daemon.refused({"volume", "resize", "data", "1500K"}) ==
        "hum: size '1500K': no whole number of MiB; give a size like 512M or 10G\n");
  CHECK(has(daemon.refused({"volume", "create", "data", "--size", "1M"}), "'data' is there already"));
  CHECK(has(daemon.refused({"volume", "create", "more"}), "hum: size_mib: missing; give a size"));
  const ProcessResult some = daemon.hum({"volume", "rm", "data", "none", "copy"});
  CHECK(some.exit_code == 2);
  CHECK(some.output == "copy\n");
  CHECK(has(some.errors, "hum: data: the VM 'web' has the volume 'data'"));
  CHECK(has(some.errors, "hum: none: there is no volume 'none'\n"));
  CHECK(daemon.said({"volume", "ls", "-q"}) == "data\n");
}

TEST_CASE("networks are listed, and one of a name or a subnet that cannot be is refused") {
  const CommandDaemon daemon;
  CHECK(daemon.said({"network", "ls"}) == "NAME  STATE  SUBNET  NAT  BRIDGE  VMS\n");
  CHECK(daemon.said({"network", "ls", "--json"}) == "[]\n");
  CHECK(daemon.refused({"network", "create", "user"}) ==
        "hum: name 'user': stands for the host's own network; give another name\n");
  CHECK(has(daemon.refused({"network", "create", "blue", "--subnet", "10.0.0.0"}), "hum: subnet '10.0.0.0'"));
  CHECK(daemon.refused({"network", "inspect", "blue"}) == "hum: there is no network 'blue'\n");
  const ProcessResult gone = daemon.hum({"network", "rm", "blue"});
  CHECK(gone.exit_code == 2);
  CHECK(gone.errors == "hum: blue: there is no network 'blue'\n");
}

TEST_CASE("a project's quota is set, told with what is used, kept to and taken away") {
  const CommandDaemon daemon;
  CHECK(has(daemon.refused({"project", "set", "lab"}), "hum: quota: nothing is given; give --vms"));
  CHECK(has(daemon.refused({"project", "set", "lab", "--memory", "1K"}), "no whole number of MiB"));
  CHECK(daemon.said({"project", "set", "lab", "--vms", "1", "--memory", "1G"}) == "lab\n");
  daemon.create("web", {"--project", "lab"});
  CHECK(daemon.said({"project", "ls"}) ==
        "NAME  VMS     CPUS      MEMORY\n"
        "lab   1 of 1  1 of any  256M of 1G\n");
  CHECK(has(daemon.refused({"vm", "create", "job", "--kernel", "/k", "--net", "none", "--project", "lab"}),
            "lab"));
  CHECK(daemon.said({"vm", "ls", "--project", "lab", "-q"}) == "web\n");
  CHECK(daemon.said({"vm", "ls", "--project", "other", "-q"}) == "");
  CHECK(daemon.said({"project", "rm", "lab"}) == "lab\n");
  CHECK(daemon.said({"project", "ls", "-q"}) == "");
}

}  // namespace hum
