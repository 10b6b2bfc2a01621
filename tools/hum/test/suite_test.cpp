// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/suite.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tools/hum/test/runner.h"
#include "tools/hum/test/text.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using Names = std::vector<std::string>;

Names names_of(const std::vector<TestCase>& tests) {
  Names names;
  for (const TestCase& test : tests) names.push_back(test.name);
  return names;
}

TestCase sample() {
  TestCase test;
  test.name = "blk";
  test.image = "blk.elf";
  test.arguments = "t=@TRANSPORT@ i=@IRQCHIP@";
  return test;
}

// A folder of manifests, removed at the end.
struct Folder : hum::testing::TemporaryFolder {
  Folder() {
    write_text_file(
        *this / "b.toml",
        "[[test]]\nname = \"two\"\nimage = \"2.elf\"\ngroups = [\"g\"]\ntransports = [\"pci\", \"mmio\"]\n"
        "[[test]]\nname = \"three\"\nimage = \"3.elf\"\nslow = true\n");
    write_text_file(*this / "a.toml", "[[test]]\nname = \"one\"\nimage = \"1.elf\"\n");
  }
};

std::string complaint(const SuiteOptions& options) {
  try {
    load_suite(options);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("a test runs once for each transport and irqchip of its lists") {
  TestCase test = sample();
  CHECK(expand(test, {}).front().arguments == "t=pci i=split");
  CHECK(names_of(expand(test, {})) == Names{"blk"});
  test.transports = {"pci", "mmio"};
  test.irqchips = {"split", "kernel"};
  const auto all = expand(test, {});
  CHECK(names_of(all) == Names{"blk/pci/split", "blk/pci/kernel", "blk/mmio/split", "blk/mmio/kernel"});
  CHECK(all[3].arguments == "t=mmio i=kernel");
  CHECK(all[3].machine == std::map<std::string, std::string>{{"transport", "mmio"}, {"irqchip", "kernel"}});
}

TEST_CASE("a machine option of the command line takes the place of the test's, and narrows its lists") {
  TestCase test = sample();
  test.machine["cpus"] = "1";
  CHECK(expand(test, {{"cpus", "4"}}).front().machine.at("cpus") == "4");
  CHECK(expand(test, {{"transport", "mmio"}}).front().arguments == "t=mmio i=split");
  test.transports = {"pci", "mmio"};
  CHECK(names_of(expand(test, {{"transport", "mmio"}})) == Names{"blk/mmio"});
  test.transports = {"pci"};
  CHECK(expand(test, {{"transport", "mmio"}}).empty());
}

TEST_CASE("a pattern is compared with the name, the name without variant, and the groups") {
  TestCase test = sample();
  test.name = "virtio-blk/pci";
  test.groups = {"disk"};
  for (const char* pattern : {"virtio-blk/pci", "virtio-blk", "virtio-*", "*/pci", "disk", "d?sk"})
    CHECK(matches(test, pattern));
  for (const char* pattern : {"virtio", "pci", "disks", ""}) CHECK_FALSE(matches(test, pattern));
}

TEST_CASE("a folder's manifests run in order of their names, slow tests only when asked for") {
  const Folder folder;
  const Suite suite = load_suite({.paths = {folder.path()}});
  CHECK(names_of(suite.tests) == Names{"one", "two/pci", "two/mmio"});
  CHECK(suite.slow_left_out == 1);
  CHECK(load_suite({.paths = {folder.path()}, .all = true}).tests.size() == 4);
  CHECK(names_of(load_suite({.paths = {folder.path()}, .filters = {"three"}}).tests) == Names{"three"});
  CHECK(names_of(load_suite({.paths = {folder.path()}, .filters = {"g", "o*"}}).tests) ==
        Names{"one", "two/pci", "two/mmio"});
}

TEST_CASE("repeated tests come one round after the other, with names of their own") {
  const Folder folder;
  CHECK(names_of(load_suite({.paths = {folder.path()}, .filters = {"two"}, .repeat = 2}).tests) ==
        Names{"two/pci", "two/mmio", "two/pci#2", "two/mmio#2"});
}

TEST_CASE("images are tests by themselves, a .flat one on kvm-unit-tests' machine") {
  const Suite suite = load_suite({.paths = {"x/a.elf", "b.flat"}, .arguments = "hello", .timeout = 3});
  CHECK(names_of(suite.tests) == Names{"a", "b"});
  CHECK(suite.tests[0].arguments == "hello");
  CHECK(suite.tests[0].timeout == 3);
  CHECK(suite.tests[0].machine.empty());
  CHECK(suite.tests[1].machine.at("irqchip") == "kernel");
  CHECK(suite.tests[1].environment.has_value());
}

TEST_CASE("nothing to run and two tests of one name are told") {
  const Folder folder;
  CHECK(complaint({.paths = {folder.path()}, .filters = {"nothing"}}) ==
        "tests: none is left to run; give another --filter; --list lists them");
  CHECK(complaint({.paths = {folder / "a.toml", folder / "a.toml"}}) ==
        folder / "a.toml" + ":1: name 'one': two tests have this name, the other is at " + folder.path() +
            "/a.toml:1; give each its own; --repeat runs one several times");
  CHECK(complaint({.paths = {"x/a.elf", "y/a.elf"}}) ==
        "test 'a': two tests have this name, the other is x/a.elf; give each its own; --repeat runs one "
        "several "
        "times");
  write_text_file(folder / "c.toml", "[[test]]\n");
  CHECK(complaint({.paths = {folder.path()}}).find("c.toml:1: name") != std::string::npos);
}

TEST_CASE("a test becomes a command line of hum run, with files of its own") {
  TestCase test = sample();
  test.machine = {{"cpus", "2"}, {"memory", "1G"}};
  test.initrd = "@DISK@";
  test.modules = {"m=text", "@DISK@=x"};
  test.disks = {"", "id=a"};
  test.devices = {"testdev"};
  test.environment.emplace();
  CHECK(run_arguments(test, "/tmp/7", "r.json") ==
        std::vector<std::string>{"hum", "run", "--console=stdio", "--kernel=blk.elf", "--record=r.json",
                                 "--timeout=30", "--cmdline", "t=@TRANSPORT@ i=@IRQCHIP@", "--cpus=2",
                                 "--memory=1G", "--initrd=/tmp/7.file", "--module=/tmp/7.environment",
                                 "--module=m=text", "--module=/tmp/7.file=x", "--disk=/tmp/7.disk0",
                                 "--disk=/tmp/7.disk1,id=a", "--device=testdev"});
  CHECK(environment_text(test) == "BOOTLOADER=0\nMEMLIMIT=1024\nMEMSIZE=1024\nNR_CPUS=2\nTEST_DEVICE=1\n");
  test.environment = {{"NR_CPUS", "8"}, {"A", "b c"}};
  test.devices.clear();
  test.machine.clear();
  CHECK(environment_text(test) ==
        "A=b c\nBOOTLOADER=0\nMEMLIMIT=256\nMEMSIZE=256\nNR_CPUS=8\nTEST_DEVICE=0\n");
}

}  // namespace hum
