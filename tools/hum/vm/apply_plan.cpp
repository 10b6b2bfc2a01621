// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/apply_plan.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/hum/vm/daemon_client.h"
#include "tools/hum/vm/text_table.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr std::string_view wait = "?wait_s=60";

// What a VM keeps that a file does not say.
constexpr std::string_view kept_fields[] = {"name", "kernel", "initrd", "cmdline", "networks"};

std::string path_of(const WantedObject& object) {
  return "/v1/" + object.type + "s/" + escaped(object.name);
}

ConfigError conflict(const WantedObject& object, const std::string& problem, const std::string& fix) {
  return {object.type, object.name, problem, fix};
}

SharedJson shared(json value) {
  return std::make_shared<const json>(std::move(value));
}

// Fields that one object has otherwise than another, or alone.
json differences(const json& before, const json& after) {
  json found = json::object();
  for (const json* const each : {&before, &after})
    for (const auto& [key, value] : each->items()) {
      const json was = before.value(key, json());
      const json is = after.value(key, json());
      if (was != is) found[key] = {was, is};
    }
  return found;
}

// Or is about to.
bool runs(const json& vm) {
  return vm["state"] != "stopped" || !vm["restart_at"].is_null();
}

bool is_to_grow(const WantedObject& volume, const json& there) {
  const json wanted = volume.fields->value("size_mib", json());
  const auto size = there["size"].get<std::uint64_t>();
  const std::uint64_t size_mib = size >> 20U;
  if (!wanted.is_number_unsigned() || wanted == size_mib) return false;
  if (wanted < size_mib)
    throw conflict(volume, "it has " + format_size(size) + ", and would lose what is behind its new end",
                   "keep its size, or make it smaller with 'hum volume resize --shrink'");
  return true;
}

class Planner {
 public:
  Planner(const FoundObjects& found, bool restarts) : found_(found), restarts_(restarts) {}

  ApplyPlan plan(std::vector<WantedObject> wanted) {
    std::sort(wanted.begin(), wanted.end(), [](const WantedObject& a, const WantedObject& b) {
      const auto place = [](const WantedObject& each) {
        return std::pair(each.fields->value("start_order", json(0)), each.name);
      };
      return place(a) < place(b);
    });
    for (const WantedObject& each : wanted)
      if (each.type == "vm") end_vm(each);
    for (const WantedObject& each : wanted)
      if (each.type == "volume" && each.state != "absent") halt_vms_on(each, wanted);
    for (const char* const type : {"project", "image", "network", "volume", "vm"})
      for (const WantedObject& each : wanted)
        if (each.type == type && each.state != "absent") make(each);
    for (const char* const type : {"volume", "network", "image", "project"})
      for (const WantedObject& each : wanted)
        if (each.type == type && each.state == "absent") remove(each);
    return std::move(plan_);
  }

 private:
  const json* find(const WantedObject& object) const {
    const auto found = found_.find({object.type, object.name});
    return found == found_.end() ? nullptr : found->second.get();
  }

  ApplyStep& add(const char* action, const WantedObject& object, const char* method, std::string target) {
    plan_.steps.push_back({.action = action,
                           .type = object.type,
                           .name = object.name,
                           .method = method,
                           .target = std::move(target)});
    return plan_.steps.back();
  }

  void act(const char* action, const WantedObject& vm) {
    add(action, vm, "POST", path_of(vm) + "/" + action + std::string(wait)).body = shared(json::object());
  }

  // What stops or goes does so before anything else.
  void end_vm(const WantedObject& vm) {
    const json* const there = find(vm);
    if (vm.state != "running" && there != nullptr && runs(*there)) act("stop", vm);
    if (vm.state != "absent") return;
    if (there == nullptr)
      ++plan_.unchanged;
    else
      add("delete", vm, "DELETE", path_of(vm) + std::string(wait));
  }

  // A volume grows while nobody runs on it.
  void halt_vms_on(const WantedObject& volume, const std::vector<WantedObject>& wanted) {
    const json* const there = find(volume);
    if (there == nullptr || !is_to_grow(volume, *there)) return;
    for (const WantedObject& vm : wanted) {
      const json* const user = vm.type == "vm" && vm.state == "running" ? find(vm) : nullptr;
      const json& users = (*there)["vms"];
      if (user == nullptr || !runs(*user) || std::find(users.begin(), users.end(), vm.name) == users.end())
        continue;
      if (!restarts_)
        throw conflict(volume, "cannot grow while the VM '" + vm.name + "' runs on it",
                       "give --restart, or stop it first");
      if (halted_.insert(vm.name).second) act("stop", vm);
    }
  }

  void remove(const WantedObject& object) {
    if (find(object) == nullptr)
      ++plan_.unchanged;
    else
      add("delete", object, "DELETE", path_of(object) + (object.type == "project" ? "" : std::string(wait)));
  }

  void make(const WantedObject& object) {
    const std::size_t before = plan_.steps.size();
    const json* const there = find(object);
    if (object.type == "project")
      make_project(object, there);
    else if (there == nullptr)
      create(object);
    else if (object.type == "volume")
      change_volume(object, *there);
    else if (object.type == "vm")
      change_vm(object, *there);
    else
      expect_same(object, *there);
    const auto is_of_it = [&](const ApplyStep& each) {
      return each.type == object.type && each.name == object.name;
    };
    if (plan_.steps.size() == before && std::none_of(plan_.steps.begin(), plan_.steps.end(), is_of_it))
      ++plan_.unchanged;
  }

  void create(const WantedObject& object) {
    ApplyStep& step = add(object.type == "image" ? "import" : "create", object, "POST",
                          "/v1/" + object.type + "s" + std::string(wait));
    step.body = object.fields;
    step.changes = shared(differences({{"name", object.name}}, *object.fields));
    if (object.state == "running") act("start", object);
  }

  void make_project(const WantedObject& project, const json* there) {
    json wanted = *project.fields;
    wanted.erase("name");
    json quota = there == nullptr ? json::object() : (*there)["quota"];
    for (auto each = quota.begin(); each != quota.end();)
      each = each->is_null() ? quota.erase(each) : std::next(each);
    const json changes = differences(quota, wanted);
    if (there != nullptr && changes.empty()) return;
    ApplyStep& step = add("set", project, "PUT", path_of(project));
    step.body = shared(std::move(wanted));
    step.changes = shared(changes);
  }

  void change_volume(const WantedObject& volume, const json& there) {
    const json format = volume.fields->value("format", there["format"]);
    if (format != there["format"])
      throw conflict(volume, "its format is " + there["format"].get<std::string>() + ", not " + format.dump(),
                     "give it another name, or 'hum volume rm' it first");
    if (!is_to_grow(volume, there)) return;
    const json& wanted = volume.fields->at("size_mib");
    ApplyStep& step = add("resize", volume, "PATCH", path_of(volume) + std::string(wait));
    step.body = shared({{"size_mib", wanted}});
    step.changes = shared({{"size_mib", {there["size"].get<std::uint64_t>() >> 20U, wanted}}});
  }

  // Images and networks do not change.
  static void expect_same(const WantedObject& object, const json& there) {
    const json& is = object.type == "image" ? there["source"] : there;
    json was = json::object();
    for (const auto& [key, value] : object.fields->items()) was[key] = is.value(key, json());
    const json others = differences(object.type == "image" ? is : was, *object.fields);
    if (others.empty()) return;
    const auto first = others.begin();
    throw conflict(object,
                   "is there already, and " + first.key() + " is " + (*first)[0].dump() + " in place of " +
                       (*first)[1].dump(),
                   "it cannot be changed: give it another name, or 'hum " + object.type + " rm' it first");
  }

  void change_vm(const WantedObject& vm, const json& there) {
    const json& after = there["after"];
    const json changes = differences(there["spec"], after["spec"]);
    const auto later = after["needs_restart"].get<std::vector<std::string>>();
    const bool ends = vm.state == "stopped";
    if (!changes.empty()) {
      ApplyStep& step = add("change", vm, "PATCH", path_of(vm));
      step.body = shared(vm_change(vm, there));
      step.changes = shared(changes);
      if (!ends && !restarts_ && runs(there)) step.later = later;
      step.if_match = '"' + std::to_string(there["generation"].get<std::int64_t>()) + '"';
    }
    if (ends) return;
    if (!runs(there) || halted_.contains(vm.name))
      act("start", vm);
    else if (!later.empty() && restarts_)
      act("restart", vm);
    else if (there["state"] == "paused")
      act("resume", vm);
  }

  const FoundObjects& found_;
  bool restarts_;
  std::set<std::string> halted_;  // VMs that are stopped for what is done to their volumes
  ApplyPlan plan_;
};

std::string changes_text(const ApplyStep& step) {
  constexpr std::size_t longest = 60;
  const auto shown = [](const json& value) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    return text.size() <= longest ? text : text.substr(0, longest - 3) + "...";
  };
  std::string text;
  if (!step.changes) return text;
  for (const auto& [key, values] : step.changes->items()) {
    text += (text.empty() ? "" : ", ") + key + " ";
    if (!values[0].is_null()) text += shown(values[0]) + " -> ";
    text += values[1].is_null() ? "none" : shown(values[1]);
    if (std::find(step.later.begin(), step.later.end(), key) != step.later.end())
      text += " (from its next start on)";
  }
  return text;
}

}  // namespace

json vm_change(const WantedObject& wanted, const json& vm) {
  json change = *wanted.fields;
  change.erase("name");
  for (const auto& [key, value] : vm["spec"].items())
    if (!change.contains(key) &&
        std::find(std::begin(kept_fields), std::end(kept_fields), key) == std::end(kept_fields))
      change[key] = nullptr;
  return change;
}

ApplyPlan plan_of(const std::vector<WantedObject>& wanted, const FoundObjects& found, bool restarts) {
  return Planner(found, restarts).plan(wanted);
}

std::string plan_text(const ApplyPlan& plan) {
  std::vector<std::vector<std::string>> rows;
  for (const ApplyStep& step : plan.steps)
    rows.push_back({step.action, step.type, step.name, changes_text(step)});
  const std::string same = std::to_string(plan.unchanged) +
                           (plan.unchanged == 1 ? " is as it should be" : " are as they should be");
  if (rows.empty()) return "nothing to do: " + same + "\n";
  return text_table({"STEP", "TYPE", "NAME", "WHAT"}, rows) + std::to_string(rows.size()) + " to do, " +
         same + "\n";
}

json plan_json(const ApplyPlan& plan) {
  json steps = json::array();
  for (const ApplyStep& step : plan.steps)
    steps.push_back({{"action", step.action},
                     {"type", step.type},
                     {"name", step.name},
                     {"changes", step.changes ? *step.changes : json::object()},
                     {"needs_restart", step.later}});
  return {{"steps", steps}, {"unchanged", plan.unchanged}};
}

}  // namespace hum
