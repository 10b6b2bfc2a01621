// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/project_command.h"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "tools/hum/exit_codes.h"
#include "tools/hum/vm/daemon_client.h"
#include "tools/hum/vm/size_option.h"
#include "tools/hum/vm/text_table.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

using nlohmann::json;

std::string path_of(const std::string& name) {
  return "/v1/projects/" + escaped(name);
}

// "3 of 10", "3 of any"
std::string share(const json& project, const char* key) {
  const json& most = project["quota"][key];
  const auto text = [&](const json& number) {
    const auto value = number.get<std::uint64_t>();
    return std::string(key) == "memory_mib" ? format_size(value << 20U) : std::to_string(value);
  };
  return text(project["used"][key]) + " of " + (most.is_null() ? "any" : text(most));
}

}  // namespace

struct ProjectCommand::Options {
  DaemonAddress daemon;
  bool is_json = false;
  bool quiet = false;
  std::string name;
  std::vector<std::string> names;
  std::optional<std::uint64_t> vms;
  std::optional<std::uint64_t> cpus;
  std::string memory;

  DaemonClient client() const { return DaemonClient(daemon); }
};

ProjectCommand::~ProjectCommand() = default;

ProjectCommand::ProjectCommand(CLI::App& app, int& exit_code) : options_(std::make_unique<Options>()) {
  app.require_subcommand(1);
  app.fallthrough();
  add_daemon_options(app, options_->daemon);
  app.footer(
      "A project is a word that VMs are given (hum vm run --project lab). One without a quota has no limit.\n"
      "Examples:\n  hum project set lab --vms 10 --cpus 16 --memory 8G\n  hum project ls\n  hum project rm "
      "lab");
  CLI::App& list_app = *app.add_subcommand("ls", "List the projects that have a quota");
  add_json_option(list_app, options_->is_json, "print JSON");
  list_app.add_flag("-q,--quiet", options_->quiet, "names only");
  list_app.callback([this, &exit_code] { exit_code = list(); });
  CLI::App& set_app = *app.add_subcommand("set", "Give a project a quota, in place of the one that it has");
  set_app.add_option("PROJECT", options_->name, "its name")->required();
  set_app.add_option("--vms", options_->vms, "at most so many VMs, running or not (default: any number)");
  set_app.add_option("--cpus", options_->cpus, "virtual processors of all of them");
  set_app.add_option("--memory", options_->memory, "memory of all of them, like 8G");
  set_app.callback([this, &exit_code] { exit_code = set(); });
  CLI::App& inspect_app = *app.add_subcommand("inspect", "Print a project's quota and what it has, as JSON");
  inspect_app.add_option("PROJECT", options_->name, "its name")->required();
  inspect_app.callback([this, &exit_code] { exit_code = inspect(); });
  CLI::App& remove_app = *app.add_subcommand("rm", "Take the quotas of projects away; their VMs stay");
  remove_app.add_option("PROJECT", options_->names, "names")->required();
  remove_app.callback([this, &exit_code] { exit_code = remove(); });
}

int ProjectCommand::list() {
  DaemonClient client = options_->client();
  const json answer = client.call("GET", "/v1/projects");
  if (options_->is_json) {
    std::printf("%s\n", answer["projects"].dump(2).c_str());
    return exit_ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const json& each : answer["projects"]) {
    if (options_->quiet) std::printf("%s\n", each["name"].get<std::string>().c_str());
    rows.push_back({each["name"], share(each, "vms"), share(each, "cpus"), share(each, "memory_mib")});
  }
  if (!options_->quiet) std::fputs(text_table({"NAME", "VMS", "CPUS", "MEMORY"}, rows).c_str(), stdout);
  return exit_ok;
}

int ProjectCommand::set() {
  json quota = json::object();
  if (options_->vms) quota["vms"] = *options_->vms;
  if (options_->cpus) quota["cpus"] = *options_->cpus;
  if (!options_->memory.empty()) quota["memory_mib"] = mib_of("memory", options_->memory);
  if (quota.empty())
    throw ConfigError("quota", "", "nothing is given",
                      "give --vms, --cpus or --memory; hum project rm takes it away");
  options_->client().call("PUT", path_of(options_->name), &quota);
  std::printf("%s\n", options_->name.c_str());
  return exit_ok;
}

int ProjectCommand::inspect() {
  DaemonClient client = options_->client();
  std::printf("%s\n", client.call("GET", path_of(options_->name)).dump(2).c_str());
  return exit_ok;
}

// All of them, whatever becomes of one.
int ProjectCommand::remove() {
  DaemonClient client = options_->client();
  int code = exit_ok;
  for (const std::string& name : options_->names) try {
      client.call("DELETE", path_of(name));
      std::printf("%s\n", name.c_str());
    } catch (const DaemonError& error) {
      std::fprintf(stderr, "hum: %s: %s\n", name.c_str(), error.what());
      code = exit_bad_request;
    }
  return code;
}

struct CapacityCommand::Options {
  explicit Options(const DaemonAddress& address) : daemon(address) {}

  const DaemonAddress& daemon;
  bool is_json = false;
  std::uint64_t cpus = 1;
  std::string memory = "256M";
  std::string project;
};

CapacityCommand::~CapacityCommand() = default;

CapacityCommand::CapacityCommand(CLI::App& app, const DaemonAddress& daemon, int& exit_code)
    : options_(std::make_unique<Options>(daemon)) {
  app.add_option("-c,--cpus", options_->cpus, "virtual CPUs of one")->capture_default_str();
  app.add_option("-m,--memory", options_->memory, "memory of one")->capture_default_str();
  app.add_option("--project", options_->project, "also within this project's quota");
  add_json_option(app, options_->is_json, "print JSON");
  app.footer("Example: hum vm capacity --cpus 2 --memory 1G");
  app.callback([this, &exit_code] { exit_code = run(); });
}

int CapacityCommand::run() {
  DaemonClient client(options_->daemon);
  const std::uint64_t memory = mib_of("memory", options_->memory);
  const json room = client.call(
      "GET", "/v1/capacity?cpus=" + std::to_string(options_->cpus) + "&memory_mib=" + std::to_string(memory) +
                 (options_->project.empty() ? "" : "&project=") + escaped(options_->project));
  if (options_->is_json) {
    std::printf("%s\n", room.dump(2).c_str());
    return exit_ok;
  }
  const auto size = [](const json& mib) { return format_size(mib.get<std::uint64_t>() << 20U); };
  std::printf("%llu more with %llu CPUs and %s fit (%s)\n",
              static_cast<unsigned long long>(room["fit"].get<std::uint64_t>()),
              static_cast<unsigned long long>(options_->cpus), size(room["one"]["memory_mib"]).c_str(),
              room["limited_by"].get<std::string>().c_str());
  std::printf("in use: %s of %s CPUs, %s of %s of memory\n", room["used"]["cpus"].dump().c_str(),
              room["capacity"]["cpus"].dump().c_str(), size(room["used"]["memory_mib"]).c_str(),
              size(room["capacity"]["memory_mib"]).c_str());
  for (const auto& [name, how] : room["limits"].items())
    std::printf("limits of %s: %s\n", name.c_str(), how.get<std::string>().c_str());
  return exit_ok;
}

}  // namespace hum
