// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/manifest.h"

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

std::vector<TestCase> parse(const std::string& text) {
  return parse_manifest(text, "m.toml", "suite");
}

// What is said of a manifest; empty if nothing is wrong with it.
std::string complaint(const std::string& text) {
  try {
    parse(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

std::string of_test(const std::string& line) {
  return complaint("[[test]]\nname = \"t\"\nimage = \"i.elf\"\n" + line + "\n");
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("every key of a manifest reaches the test") {
  const auto tests = parse(R"([[test]]
name = "blk-1"
image = "blk.elf"
what = "a disk"
fault = "vmm/a.cpp: s/a/b/"
arguments = "x=@TRANSPORT@"
groups = ["virtio", "disk"]
cpus = 2
memory = "128M"
shared-memory = "on"
transports = ["pci", "mmio"]
irqchips = ["kernel"]
boot = "pvh"
initrd = "@DISK@"
modules = ["m.bin=text", "/abs"]
disks = ["id=a", ""]
devices = ["testdev"]
input = "hi\n"
environment = { NR_CPUS = "2" }
timeout = 7
expect = "triple-fault"
slow = true
needs = "lab"
)");
  REQUIRE(tests.size() == 1);
  const TestCase& test = tests.front();
  CHECK(test.name == "blk-1");
  CHECK(test.place == "m.toml:1");
  CHECK(test.image == "suite/blk.elf");
  CHECK(test.what == "a disk");
  CHECK(test.fault == "vmm/a.cpp: s/a/b/");
  CHECK(test.arguments == "x=@TRANSPORT@");
  CHECK(test.groups == std::vector<std::string>{"virtio", "disk"});
  CHECK(test.machine == std::map<std::string, std::string>{
                            {"cpus", "2"}, {"memory", "128M"}, {"shared-memory", "on"}, {"boot", "pvh"}});
  CHECK(test.transports == std::vector<std::string>{"pci", "mmio"});
  CHECK(test.irqchips == std::vector<std::string>{"kernel"});
  CHECK(test.initrd == "@DISK@");
  CHECK(test.modules == std::vector<std::string>{"suite/m.bin=text", "/abs"});
  CHECK(test.disks == std::vector<std::string>{"id=a", ""});
  CHECK(test.devices == std::vector<std::string>{"testdev"});
  CHECK(test.input == "hi\n");
  CHECK(test.environment == std::map<std::string, std::string>{{"NR_CPUS", "2"}});
  CHECK(test.timeout == 7);
  CHECK(test.expect.ending == Ending::triple_fault);
  CHECK(test.slow);
  CHECK(test.need == Need::lab);
}

TEST_CASE("defaults hold for the tests that do not say otherwise, and for them alone") {
  const auto tests = parse(
      "[defaults]\ntimeout = 5\ncpus = 2\n[[test]]\nname = \"a\"\nimage = \"a\"\n"
      "[[test]]\nname = \"b\"\nimage = \"b\"\ntimeout = 6\n");
  REQUIRE(tests.size() == 2);
  CHECK(tests[0].timeout == 5);
  CHECK(tests[1].timeout == 6);
  CHECK(tests[1].machine.at("cpus") == "2");
  CHECK_FALSE(tests[0].arguments.has_value());
}

TEST_CASE("a number to be expected is an exit code, 0 a pass and 77 a skip") {
  const auto expected = [](const std::string& value) {
    return parse("[[test]]\nname = \"t\"\nimage = \"i\"\nexpect = " + value + "\n").front().expect;
  };
  CHECK(expected("0").ending == Ending::pass);
  CHECK(expected("77").ending == Ending::skip);
  CHECK(expected("255").ending == Ending::fail);
  CHECK(expected("255").exit_code == 255u);
  CHECK_FALSE(expected("\"fail\"").exit_code.has_value());
}

TEST_CASE("what is wrong in a manifest is told with its file and line and what is accepted") {
  CHECK(contains(of_test("colour = 3"),
                 "m.toml:4: key 'colour': there is no such key; the keys are name, image"));
  CHECK(of_test("cpus = 0") == "m.toml:4: cpus '0': not accepted; give a whole number from 1 to 64");
  CHECK(of_test("cpus = 65") == "m.toml:4: cpus '65': not accepted; give a whole number from 1 to 64");
  CHECK(of_test("cpus = 64").empty());
  CHECK(of_test("timeout = 0") == "m.toml:4: timeout '0': not accepted; give a whole number from 1 to 86400");
  CHECK(of_test("timeout = \"1\"") ==
        "m.toml:4: timeout '1': not accepted; give a whole number from 1 to 86400");
  CHECK(contains(of_test("transports = [\"usb\"]"), "m.toml:4: transport 'usb'"));
  CHECK(contains(of_test("transports = []"), "m.toml:4: transports"));
  CHECK(contains(of_test("irqchips = [\"split\", \"split\"]"), "give each value once"));
  CHECK(contains(of_test("groups = \"one\""), "m.toml:4: groups 'one': not accepted; give a list"));
  CHECK(of_test("slow = 1") == "m.toml:4: slow '1': not accepted; give true or false");
  CHECK(of_test("needs = \"luck\"") == "m.toml:4: needs 'luck': not accepted; give \"lab\" or \"direct-io\"");
  CHECK(contains(of_test("expect = \"joy\""), "m.toml:4: expect 'joy': not accepted; give pass, skip, fail"));
  CHECK(contains(of_test("expect = \"interrupted\""), "not accepted"));
  CHECK(contains(of_test("expect = -1"), "give a whole number from 0 to 4294967295"));
  CHECK(contains(of_test("environment = { A = 1 }"), "m.toml:4: environment.A '1'"));
  CHECK(contains(of_test("cpus = 1\ncpus = 2"), "m.toml:5: "));  // a key given twice
  CHECK(contains(of_test("name ="), "m.toml:4"));
}

TEST_CASE("a manifest has tests with names and images, and nothing else") {
  CHECK(complaint("") == "m.toml: there is no [[test]] in it; add one");
  CHECK(contains(complaint("[[test]]\nimage = \"i\"\n"), "m.toml:1: name: the test has none"));
  CHECK(contains(complaint("[[test]]\nname = \"t\"\n"), "m.toml:1: image: the test has none"));
  CHECK(
      contains(complaint("[[test]]\nname = \"T x\"\nimage = \"i\"\n"), "m.toml:1: name 'T x': not accepted"));
  CHECK(contains(complaint("[defaults]\nname = \"t\"\n[[test]]\nname = \"t\"\nimage = \"i\"\n"),
                 "m.toml:1: key 'defaults'"));
  CHECK(contains(complaint("[[tests]]\nname = \"t\"\n"), "m.toml:1: key 'tests': not accepted"));
  CHECK(contains(complaint("test = 3\n"), "m.toml:1: key 'test': not accepted"));
}

}  // namespace hum
