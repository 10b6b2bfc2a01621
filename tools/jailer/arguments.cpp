// SPDX-License-Identifier: Apache-2.0
#include "tools/jailer/arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "tools/hum-vmm/identity.h"
#include "tools/hum/usage.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint64_t highest_id = UINT32_MAX - 1;  // the last one means "as it is" to setresuid(2)

void check_exec_name(const JailerArguments& arguments) {
  const std::string name = arguments.exec_name();
  if (name.empty() || name == "." || name == "..")
    throw ConfigError("--exec-file", arguments.exec_file, "names no file", "give the path of hum-vmm");
  if (name == "dev" || name == "run")
    throw ConfigError("--exec-file", arguments.exec_file, "has the name of a folder of the jail",
                      "give a copy or a link with another name");
}

void check_parent_cgroup(const std::string& path) {
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = std::string_view(path).substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..")
      throw ConfigError("--parent-cgroup", path, "is no relative path of plain names",
                        "give one like vms/blue, below the root of the hierarchy");
    begin = end + 1;
  }
}

// "FILE=VALUE"; the value may have further '='.
CgroupSetting parse_cgroup(const std::string& text) {
  const std::size_t equals = text.find('=');
  const CgroupSetting setting{text.substr(0, equals),
                              equals == std::string::npos ? "" : text.substr(equals + 1)};
  const std::size_t dot = setting.file.find('.');
  const bool plain = std::all_of(setting.file.begin(), setting.file.end(), [](char each) {
    return std::isalnum(static_cast<unsigned char>(each)) != 0 || each == '_' || each == '.';
  });
  if (!plain || dot == 0 || dot == std::string::npos || dot + 1 == setting.file.size() ||
      setting.file.find("..") != std::string::npos)
    throw ConfigError("--cgroup", text, "names no file of a controller", "give one like cpuset.cpus=0-1");
  if (setting.value.empty() || setting.value.find('\n') != std::string::npos)
    throw ConfigError("--cgroup", text, "has no value in one line", "give one like cpuset.cpus=0-1");
  return setting;
}

// In decimal digits alone: elsewhere 01000 may be 512.
std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

std::uint32_t parse_id(const char* key, const std::string& text) {
  const std::optional<std::uint64_t> number = whole_number(text);
  if (!number || *number > highest_id)
    throw ConfigError(key, text, "is no whole number up to " + std::to_string(highest_id),
                      "give one like 1000");
  return static_cast<std::uint32_t>(*number);
}

void apply_limit(JailerArguments& result, const std::string& text) {
  const std::size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const std::string_view value =
      equals == std::string::npos ? std::string_view() : std::string_view(text).substr(equals + 1);
  const std::optional<std::uint64_t> number = whole_number(value);
  if (!number)
    throw ConfigError("--resource-limit", text, "has no whole number", "give one like no-file=1024");
  if (name == "fsize")
    result.most_file_bytes = *number;
  else if (name == "no-file")
    result.most_open_files = *number;
  else
    throw ConfigError("--resource-limit", text, "there is no such limit",
                      "give fsize=BYTES or no-file=COUNT");
}

}  // namespace

std::string JailerArguments::exec_name() const {
  return exec_file.substr(exec_file.rfind('/') + 1);
}

std::optional<JailerArguments> parse_jailer_arguments(const std::vector<std::string>& arguments) {
  JailerArguments result;
  const auto separator = std::find(arguments.begin(), arguments.end(), "--");
  if (separator != arguments.end()) result.passed_on.assign(separator + 1, arguments.end());

  CLI::App app("Starts Hummingbird's virtual machine monitor in a jail of its own.", "hum-jailer");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  std::string uid;
  std::string gid;
  std::vector<std::string> cgroups;
  std::vector<std::string> limits;
  app.add_option("--id", result.id, "the VM's name: letters, digits and '-'")->required();
  app.add_option("--exec-file", result.exec_file, "the program: hum-vmm, or a link to it")->required();
  app.add_option("--uid", uid, "the user that it becomes")->required();
  app.add_option("--gid", gid, "the group that it becomes")->required();
  app.add_option("--chroot-base-dir", result.base, "where the jails are")->capture_default_str();
  app.add_option("--netns", result.netns, "the network namespace to join, a file");
  app.add_flag("--daemonize", result.daemonize, "a session of its own, its streams at /dev/null");
  app.add_flag("--new-pid-ns", result.new_pid_namespace, "a pid namespace of its own");
  app.add_option("--cgroup-version", result.cgroup_version, "1 or 2")
      ->check(CLI::IsMember({1u, 2u}))
      ->capture_default_str();
  app.add_option("--cgroup", cgroups, "FILE=VALUE of the jail's cgroup; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--parent-cgroup", result.parent_cgroup,
                 "where the jail's cgroup is, below the hierarchy's root (default: the program's name)");
  app.add_option("--resource-limit", limits, "fsize=BYTES or no-file=COUNT; may be repeated")
      ->allow_extra_args(false);
  bool version = false;
  app.add_flag("--version", version, "print the versions of the interface and of the program");
  app.footer(
      "All behind -- is passed on to the program. The jail is BASE/NAME/ID/root, NAME the program's file "
      "name.\n\n"
      "Example:\n"
      "  hum-jailer --id vm1 --exec-file /usr/bin/hum-vmm --uid 1000 --gid 1000 -- --no-api --config-file "
      "/vm.json\n\n"
      "Exit codes: those of the program; 0 where --daemonize or --new-pid-ns has started it, 1 an error.");
  std::vector<std::string> reversed(std::make_reverse_iterator(separator), arguments.rend());
  if (std::find(reversed.begin(), reversed.end(), "--version") != reversed.end()) {
    std::printf("Jailer v%.*s\nhum-jailer %s\n", static_cast<int>(dialect_version.size()),
                dialect_version.data(), HUM_VERSION);
    return {};
  }
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw usage_error(app, error);
    app.exit(error);
    return {};
  }
  result.uid = parse_id("--uid", uid);
  result.gid = parse_id("--gid", gid);
  check_instance_id(result.id);
  check_exec_name(result);
  if (result.parent_cgroup.empty()) result.parent_cgroup = result.exec_name();
  check_parent_cgroup(result.parent_cgroup);
  for (const std::string& each : cgroups) result.cgroups.push_back(parse_cgroup(each));
  for (const std::string& each : limits) apply_limit(result, each);
  return result;
}

}  // namespace hum
