// SPDX-License-Identifier: Apache-2.0
#include "tools/jailer/arguments.h"

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using Words = std::vector<std::string>;

Words with(const Words& more) {
  Words words = {"--id", "vm-1", "--exec-file", "/usr/bin/hum-vmm", "--uid", "123", "--gid", "100"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string key_of(const Words& words) {
  try {
    parse_jailer_arguments(words);
  } catch (const ConfigError& error) {
    return error.key();
  }
  return {};
}

}  // namespace

TEST_CASE("a jailer's command line has Firecracker's flags and defaults") {
  const JailerArguments plain = *parse_jailer_arguments(with({}));
  CHECK(plain.id == "vm-1");
  CHECK(plain.exec_name() == "hum-vmm");
  CHECK(plain.uid == 123);
  CHECK(plain.gid == 100);
  CHECK(plain.base == "/srv/jailer");
  CHECK(plain.parent_cgroup == "hum-vmm");
  CHECK(plain.cgroup_version == 1);
  CHECK(plain.most_open_files == 2048);
  CHECK_FALSE(plain.most_file_bytes);
  CHECK(plain.passed_on.empty());

  const JailerArguments all = *parse_jailer_arguments(with({"--chroot-base-dir",
                                                            "/jails",
                                                            "--netns",
                                                            "/run/netns/a",
                                                            "--daemonize",
                                                            "--new-pid-ns",
                                                            "--cgroup",
                                                            "cpuset.cpus=0-1",
                                                            "--cgroup",
                                                            "io.max=8:0 rbps=1",
                                                            "--cgroup-version",
                                                            "2",
                                                            "--parent-cgroup",
                                                            "a/b",
                                                            "--resource-limit",
                                                            "fsize=0",
                                                            "--resource-limit=no-file=18446744073709551615",
                                                            "--",
                                                            "--no-api",
                                                            "--",
                                                            "--id"}));
  CHECK(all.base == "/jails");
  CHECK(all.netns == "/run/netns/a");
  CHECK(all.daemonize);
  CHECK(all.new_pid_namespace);
  CHECK(all.cgroups == std::vector<CgroupSetting>{{"cpuset.cpus", "0-1"}, {"io.max", "8:0 rbps=1"}});
  CHECK(all.cgroup_version == 2);
  CHECK(all.parent_cgroup == "a/b");
  CHECK(all.most_file_bytes == 0);
  CHECK(all.most_open_files == UINT64_MAX);
  CHECK(all.passed_on == Words{"--no-api", "--", "--id"});
}

TEST_CASE("a jail has the name by which its program was given, link or not") {
  for (const auto& [path, name] : {std::pair("/usr/libexec/hummingbird/firecracker", "firecracker"),
                                   {"firecracker", "firecracker"},
                                   {"./a.out", "a.out"}}) {
    Words words = with({});
    words[3] = path;
    CHECK(parse_jailer_arguments(words)->exec_name() == name);
  }
  const auto* const wrong = GENERATE("", "/", "/usr/bin/", "..", "/usr/.", "dev", "/opt/run");
  Words words = with({});
  words[3] = wrong;
  CHECK(key_of(words) == "--exec-file");
}

TEST_CASE("an id that is no plain name of 1 to 64 characters is refused") {
  Words words = with({});
  words[1] = std::string(64, 'a');
  CHECK(key_of(words).empty());
  const auto wrong =
      GENERATE(as<std::string>(), "", "a/b", "..", "a b", "a_b", "a.b", "\xc3\xa4", std::string(65, 'a'));
  words[1] = wrong;
  CHECK(key_of(words) == "--id");
}

TEST_CASE("users and groups are numbers that setresuid takes as they are") {
  for (const std::size_t at : {5u, 7u}) {
    Words words = with({});
    for (const char* const good : {"0", "4294967294"}) {
      words[at] = good;
      CHECK(key_of(words).empty());
    }
    for (const char* const wrong : {"-1", "4294967295", "4294967296", "root", "1x", ""}) {
      words[at] = wrong;
      CHECK(key_of(words) == (at == 5 ? "--uid" : "--gid"));
    }
  }
}

TEST_CASE("users and groups are decimal numbers, with zeros before them as well") {
  Words words = with({});
  words[5] = "01000";
  words[7] = "0010";
  const JailerArguments arguments = *parse_jailer_arguments(words);
  CHECK(arguments.uid == 1000);
  CHECK(arguments.gid == 10);
  words[5] = "0x10";
  CHECK(key_of(words) == "--uid");
}

TEST_CASE("a cgroup's file is one of a controller, and its value is one line") {
  const auto* const wrong =
      GENERATE("cpu.weight", "cpu.weight=", "=1", "weight=1", ".weight=1", "cpu.=1", "cpu.we/ight=1",
               "../cpu.x=1", "cpu..x=1", "cpu.x y=1", "cpu.x=1\n2", "/etc/cpu.x=1");
  CHECK(key_of(with({"--cgroup", wrong})) == "--cgroup");
}

TEST_CASE("a parent cgroup is a relative path of plain names") {
  const auto* const wrong = GENERATE("/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "/");
  CHECK(key_of(with({"--parent-cgroup", wrong})) == "--parent-cgroup");
}

TEST_CASE("limits are those there are, with whole numbers") {
  const auto* const wrong = GENERATE("fsize", "fsize=", "fsize=-1", "fsize=1k", "fsize=18446744073709551616",
                                     "=1", "core=1", "no-file= 1");
  CHECK(key_of(with({"--resource-limit", wrong})) == "--resource-limit");
}

TEST_CASE("what is missing, unknown or there twice on a jailer's command line is named") {
  for (const std::size_t at : {0u, 2u, 4u, 6u}) {
    Words words = with({});
    const std::string name = words[at];
    words.erase(words.begin() + static_cast<std::ptrdiff_t>(at),
                words.begin() + static_cast<std::ptrdiff_t>(at) + 2);
    CHECK(key_of(words) == name);
  }
  CHECK(key_of(with({"--node", "0"})) == "--node");
  CHECK(key_of(with({"--id", "other"})) == "--id");
  CHECK(key_of(with({"--cgroup-version", "3"})) == "--cgroup-version");
  CHECK(key_of(with({"--netns"})) == "--netns");
}

}  // namespace hum
