// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/unittests_cfg.h"

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

TestCase only(const std::string& lines) {
  const auto tests = parse_unittests_cfg("[t]\nfile = t.flat\n" + lines, "u.cfg", "x86");
  REQUIRE(tests.size() == 1);
  return tests.front();
}

std::string complaint(const std::string& text) {
  try {
    parse_unittests_cfg(text, "u.cfg", "");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("words are split as a shell does") {
  using Words = std::vector<std::string>;
  CHECK(shell_words("").empty());
  CHECK(shell_words("  a  b\tc ") == Words{"a", "b", "c"});
  CHECK(shell_words("-append 'one two' x\"y z\"w") == Words{"-append", "one two", "xy zw"});
  CHECK(shell_words("a\\ b '' \"q\\\"\"") == Words{"a b", "", "q\""});
}

TEST_CASE("a section becomes a test on the machine that kvm-unit-tests expect") {
  const auto tests = parse_unittests_cfg(
      "# a comment\n[smptest]\nfile = smptest.flat\nsmp = 3\ngroups = smp nodefault\n\n"
      "[vmexit]\nfile = vmexit.flat\nextra_params = -cpu qemu64,+x2apic -m 2048 -append 'ipi 3'\narch = "
      "x86_64\n"
      "timeout = 2m\n",
      "u.cfg", "x86");
  REQUIRE(tests.size() == 2);
  CHECK(tests[0].name == "smptest");
  CHECK(tests[0].place == "u.cfg:2");
  CHECK(tests[0].image == "x86/smptest.flat");
  CHECK(tests[0].machine == std::map<std::string, std::string>{{"cpus", "3"}, {"irqchip", "kernel"}});
  CHECK(tests[0].groups == std::vector<std::string>{"smp"});
  CHECK(tests[0].slow);
  CHECK(tests[0].timeout == 90);
  CHECK(tests[0].arguments == "");
  CHECK(tests[0].environment.has_value());
  CHECK(tests[0].skip.empty());
  CHECK(tests[1].arguments == "ipi 3");
  CHECK(tests[1].machine.at("memory") == "2048");
  CHECK(tests[1].timeout == 120);
  CHECK_FALSE(tests[1].slow);
  CHECK(tests[1].skip.empty());
}

TEST_CASE("what this machine has not makes a test a skip with the reason") {
  CHECK(only("arch = i386").skip == "is for i386");
  CHECK(only("accel = tcg").skip == "is for the accelerator tcg");
  CHECK(only("extra_params = -cpu qemu64,-pcid").skip == "asks for the processor qemu64,-pcid");
  CHECK(only("extra_params = -cpu Opteron_G1").skip == "asks for the processor Opteron_G1");
  CHECK(only("extra_params = -device intel-iommu,eim=off").skip == "asks for the device intel-iommu,eim=off");
  CHECK(only("extra_params = -machine vmport=on").skip == "asks for the machine vmport=on");
  CHECK(only("extra_params = -kernel x").skip == "asks for QEMU's option -kernel");
  CHECK(only("extra_params = -append").skip == "QEMU's option -append has no value");
  CHECK(only("smp = 65").skip == "cpus '65': not accepted; give a whole number from 1 to 64");
  CHECK(only("efi = yes").skip == "says 'efi', which means nothing here");
  CHECK(only("check = /nonexistent/file=Y").skip == "there is no /nonexistent/file");
  CHECK(only("check = /proc/sys/kernel/ostype=Hurd").skip == "/proc/sys/kernel/ostype is Linux, not Hurd");
}

TEST_CASE("what this machine has is no reason for a skip") {
  CHECK(only("check = /proc/sys/kernel/ostype=Linux").skip.empty());
  CHECK(only("extra_params = -cpu max,+svm -m 4g -device pc-testdev -overcommit cpu-pm=on").skip.empty());
  const TestCase split = only("extra_params = -machine kernel_irqchip=split --append \"10 `date +%s`\"");
  CHECK(split.machine.at("irqchip") == "split");
  CHECK(split.arguments->starts_with("10 1"));
  CHECK(only("extra_params = \"\"\"-append\n 'two lines'\"\"\"\narch = x86_64").arguments == "two lines");
  CHECK(only("timeout = 0").timeout == 86'400);
}

TEST_CASE("what is no list of tests is told with its line") {
  CHECK(complaint("") == "u.cfg: there is no [name] of a test in it");
  CHECK(complaint("file = x\n") ==
        "u.cfg:1 'file = x': not understood; a list has [name] lines and KEY = VALUE lines");
  CHECK(complaint("[a]\nnonsense\n") ==
        "u.cfg:2 'nonsense': not understood; a list has [name] lines and KEY = VALUE lines");
  CHECK(complaint("[a]\nsmp = 1\n") == "u.cfg:1: file: the test has none; give the image's path");
  CHECK(complaint("[a]\nfile = f\ntimeout = soon\n") ==
        "u.cfg:1: timeout 'soon': not accepted; give seconds, up to a day");
}

}  // namespace hum
