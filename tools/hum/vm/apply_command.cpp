// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/apply_command.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tools/hum/exit_codes.h"
#include "tools/hum/test/text.h"
#include "tools/hum/vm/vm_defaults.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::string text_of(const std::string& file) {
  if (file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  return read_text_file(file);
}

std::string list_of(const std::string& type) {
  return "/v1/" + type + "s";
}

// An error of the daemon about one object of the file.
DaemonError about(const std::string& type, const std::string& name, const DaemonError& error) {
  return {error.status(), error.code(), type + " '" + name + "': " + error.what()};
}

// What the image of a VM is made of: one of the same file, or one that there is.
json image_source(DaemonClient& client, const json& vm, const std::vector<WantedObject>& wanted) {
  if (!vm.contains("image")) return json::object();
  for (const WantedObject& each : wanted)
    if (each.type == "image" && each.name == vm["image"].get<std::string>()) return *each.fields;
  return client.call("GET", "/v1/images/" + escaped(vm["image"].get<std::string>()))["source"];
}

}  // namespace

ApplyCommand::ApplyCommand(CLI::App& app, int& exit_code) {
  add_daemon_options(app, daemon_);
  app.add_option("FILE", file_, "TOML: what is to be there; - is standard input")->required();
  app.add_flag("--dry-run", dry_run_, "only show the plan");
  app.add_flag("-y,--yes", yes_, "carry the plan out without a question");
  app.add_flag("--restart", restarts_, "restart VMs where a change counts from the next start on");
  add_json_option(app, is_json_, "print the plan as JSON");
  app.footer(
      "Example of a file:\n"
      "  [volumes.data]\n"
      "  size = \"10G\"\n"
      "  [vms.web]\n"
      "  memory = \"1G\"\n"
      "  volumes = [\"data\"]\n"
      "  restart = \"always\"\n"
      "Its tables: projects, images, networks, volumes and vms; fields are those of the daemon's API.\n"
      "Examples:\n  hum apply shop.toml --dry-run\n  hum apply shop.toml --yes --restart");
  app.callback([this, &exit_code] { exit_code = run(); });
}

std::vector<WantedObject> ApplyCommand::wanted() const {
  const fs::path folder = file_ == "-" ? fs::current_path() : fs::absolute(file_).parent_path();
  return read_apply_file(text_of(file_), file_ == "-" ? "standard input" : file_, folder);
}

FoundObjects ApplyCommand::look(DaemonClient& client, const std::vector<WantedObject>& wanted) {
  FoundObjects found;
  for (const WantedObject& each : wanted) try {
      json there = client.call("GET", list_of(each.type) + "/" + escaped(each.name));
      // A number stands for a name, too, and is none here.
      if (there["name"] != each.name) continue;
      if (each.type == "vm" && each.state != "absent") {
        const json change = vm_change(each, there);
        there["after"] =
            client.call("PATCH", list_of("vm") + "/" + escaped(each.name) + "?dry_run=true", &change);
      }
      found[{each.type, each.name}] = std::make_shared<const json>(std::move(there));
    } catch (const DaemonError& error) {
      if (error.code() != each.type + "-not-found") throw about(each.type, each.name, error);
    }
  return found;
}

// So that nothing is begun where something is wrong.
void ApplyCommand::check(DaemonClient& client, const std::vector<WantedObject>& wanted,
                         const FoundObjects& found) {
  for (const WantedObject& each : wanted) {
    if (each.type == "project" || each.state == "absent" || found.contains({each.type, each.name})) continue;
    json body = *each.fields;
    // What it boots is looked for when it is made.
    if (each.type == "vm" && !body.contains("kernel") && !body.contains("image")) body["kernel"] = "/";
    try {
      client.call("POST", list_of(each.type) + "?dry_run=true", &body);
    } catch (const DaemonError& error) {
      throw about(each.type, each.name, error);
    }
  }
}

bool ApplyCommand::is_agreed() const {
  if (yes_) return true;
  if (file_ == "-" || ::isatty(STDIN_FILENO) == 0 || ::isatty(STDOUT_FILENO) == 0)
    throw ConfigError("yes", "", "missing", "give --yes, or --dry-run, where nobody can be asked");
  std::printf("Carry this out? [y/N] ");
  std::fflush(stdout);
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes" || answer == "Y";
}

void ApplyCommand::carry_out(DaemonClient& client, const std::vector<WantedObject>& wanted,
                             const ApplyPlan& plan) const {
  std::size_t done = 0;
  for (const ApplyStep& step : plan.steps) try {
      json body = step.body ? *step.body : json();
      if (step.type == "vm" && step.action == "create") {
        add_guest_kernel(body, image_source(client, body, wanted), client);
        if (!body.contains("networks")) body["networks"] = usual_networks(client);
      }
      const json answer =
          client.call(step.method, step.target, body.is_null() ? nullptr : &body, step.if_match);
      // Of a change at once there is no operation.
      if (answer.contains("step")) client.finished(answer);
      ++done;
      if (is_json_) continue;
      std::printf("%s %s: %s: done\n", step.type.c_str(), step.name.c_str(), step.action.c_str());
      std::fflush(stdout);
    } catch (const DaemonError& error) {
      throw DaemonError(error.status(), error.code(),
                        step.type + " '" + step.name + "': " + step.action + ": " + error.what() + "; " +
                            std::to_string(done) + " of " + std::to_string(plan.steps.size()) +
                            " steps are done: apply the file again to go on");
    }
}

int ApplyCommand::run() {
  const std::vector<WantedObject> objects = wanted();
  DaemonClient client(daemon_);
  const FoundObjects found = look(client, objects);
  check(client, objects, found);
  const ApplyPlan plan = plan_of(objects, found, restarts_);
  std::fputs((is_json_ ? plan_json(plan).dump(2) + "\n" : plan_text(plan)).c_str(), stdout);
  std::fflush(stdout);
  if (plan.steps.empty() || dry_run_ || !is_agreed()) return exit_ok;
  carry_out(client, objects, plan);
  return exit_ok;
}

}  // namespace hum
