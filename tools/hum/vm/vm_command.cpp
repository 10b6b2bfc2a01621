// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/vm_command.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/hum/exit_codes.h"
#include "tools/hum/vm/daemon_client.h"
#include "tools/hum/vm/device_option.h"
#include "tools/hum/vm/limit_option.h"
#include "tools/hum/vm/size_option.h"
#include "tools/hum/vm/text_table.h"
#include "tools/hum/vm/vm_console.h"
#include "tools/hum/vm/vm_defaults.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string path_of(const std::string& name) {
  return "/v1/vms/" + escaped(name);
}

std::string end_text(const json& vm) {
  if (!vm["end"].is_object()) return "-";
  std::string text = vm["end"].value("cause", "");
  if (vm["end"].contains("exit_code"))
    text += " " + std::to_string(vm["end"]["exit_code"].get<std::int64_t>());
  return text;
}

// What a caller wants to know of a VM that has ended: as `hum run` does.
int exit_code_of_end(const json& vm) {
  if (!vm["end"].is_object()) return exit_ok;
  const std::string cause = vm["end"].value("cause", "");
  if (cause == "debug-exit") return vm["end"].value("exit_code", 0) & 0xff;
  if (cause == "panic") return exit_panic;
  if (cause == "triple-fault") return exit_triple_fault;
  if (cause == "internal-error") return exit_kvm_error;
  if (cause == "host-error" || cause == "lost" || cause == "not-started") return exit_host_error;
  return exit_ok;
}

}  // namespace

struct VmCommand::Options {
  DaemonAddress daemon;
  bool is_json = false;
  bool quiet = false;
  std::vector<std::string> names;
  // Of creation.
  std::string kernel;
  std::string initrd;
  std::optional<std::string> cmdline;
  std::vector<std::string> append;
  std::uint64_t cpus = 1;
  std::string memory = "256M";
  std::vector<std::string> disks;
  std::vector<std::string> networks;
  std::vector<std::string> ports;
  std::string image;
  std::string disk_size;
  std::vector<std::string> volumes;
  std::vector<std::string> devices;
  std::vector<std::string> labels;
  std::vector<std::string> limits;
  std::string restart = "no";
  std::string project = "default";
  bool autostart = false;
  bool detached = false;
  // Of the others.
  std::string of_project;
  std::string state;
  bool force = false;
  std::int64_t timeout = -1;
  std::string of = "console";
  std::string wanted = "stopped";
  std::vector<std::string> changes;
  std::string old_name;
  std::string new_name;
  bool dry_run = false;

  DaemonClient client() const { return DaemonClient(daemon); }
  json spec() const;

 private:
  // tap=NAME and the like; else it is the name of a network.
  static bool is_device(const std::string& network) { return network.find('=') != std::string::npos; }
  json image_source() const;
  json named_networks() const;
};

// What its image was made of.
json VmCommand::Options::image_source() const {
  if (image.empty()) return json::object();
  return client().call("GET", "/v1/images/" + escaped(image))["source"];
}

json VmCommand::Options::named_networks() const {
  json found = json::array();
  for (const std::string& network : networks)
    if (network != "none" && !is_device(network)) found.push_back({{"network", network}});
  if (networks.empty()) found = usual_networks(client(), !ports.empty());
  if (ports.empty()) return found;
  if (found.empty())
    throw ConfigError("publish", ports.front(), "there is no network that publishes ports",
                      "give --net user, or the name of a network");
  found[0]["ports"] = ports;
  return found;
}

json VmCommand::Options::spec() const {
  json spec = {{"name", names.front()},
               {"cpus", cpus},
               {"restart", restart},
               {"autostart", autostart},
               {"project", project}};
  spec["memory_mib"] = mib_of("memory", memory);
  if (!kernel.empty()) spec["kernel"] = path_from(fs::current_path(), kernel);
  if (!initrd.empty()) spec["initrd"] = path_from(fs::current_path(), initrd);
  if (!image.empty()) spec["image"] = image;
  if (!disk_size.empty()) spec["disk_mib"] = mib_of("disk-size", disk_size);
  if (!volumes.empty()) spec["volumes"] = volumes;
  if (cmdline) spec["cmdline"] = *cmdline;
  add_guest_kernel(spec, image_source(), client());
  auto& line = spec["cmdline"].get_ref<std::string&>();
  for (const std::string& more : append) line += (line.empty() ? "" : " ") + more;
  json all = json::array();
  const std::string current = fs::current_path();
  const auto add = [&](const std::string& kind, const std::string& text) {
    all.push_back(device_of(kind, kind + std::to_string(all.size()), text, current));
  };
  for (const std::string& disk : disks) add("disk", disk);
  for (const std::string& network : networks)
    if (is_device(network)) add("net", network);
  if (const json named = named_networks(); !named.empty()) spec["networks"] = named;
  for (const std::string& device : devices) all.push_back(device_of(device, all.size(), current));
  if (!all.empty()) spec["devices"] = all;
  if (!limits.empty()) spec["limits"] = limits_of(limits);
  for (const std::string& label : labels) {
    const std::size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0)
      throw ConfigError("label", label, "no label", "give NAME=VALUE");
    spec["labels"][label.substr(0, equals)] = label.substr(equals + 1);
  }
  return spec;
}

void add_daemon_options(CLI::App& app, DaemonAddress& address) {
  app.add_option("--socket", address.socket,
                 "the daemon's socket (default: $HUM_SOCKET, or this user's daemon)");
  app.add_flag("--no-start", address.no_start, "do not start a daemon where none runs");
  app.add_option("--host", address.host.url,
                 "https://HOST:PORT of a daemon that listens there (default: $HUM_HOST)");
  app.add_option("--tls-cert", address.host.certificate,
                 "PEM file of the certificate that says who you are there (default: $HUM_TLS_CERT)");
  app.add_option("--tls-key", address.host.key, "PEM file of its key (default: $HUM_TLS_KEY)");
  app.add_option("--tls-ca", address.host.authorities,
                 "PEM file of the authority that the host's certificate is signed by (default: $HUM_TLS_CA)");
}

void add_json_option(CLI::App& app, bool& is_json, const std::string& help) {
  app.add_flag("--json", is_json, help);
  app.add_option_function<std::string>(
         "--format", [&is_json](const std::string& format) { is_json = format == "json"; },
         "table (default) or json")
      ->check(CLI::IsMember({"table", "json"}));
}

VmCommand::~VmCommand() = default;

VmCommand::VmCommand(CLI::App& app, int& exit_code) : options_(std::make_unique<Options>()) {
  app.require_subcommand(1);
  app.fallthrough();
  add_daemon_options(app, options_->daemon);
  app.footer("Examples:\n  hum vm run web -d\n  hum vm ls\n  hum vm logs web\n  hum vm rm --force web");
  add_creation(*app.add_subcommand("run", "Create a VM, start it, and attach to its console"), true,
               exit_code);
  add_creation(*app.add_subcommand("create", "Create a VM"), false, exit_code);
  capacity_ = std::make_unique<CapacityCommand>(
      *app.add_subcommand("capacity", "Tell how many more VMs there is room for"), options_->daemon,
      exit_code);
  CLI::App& rename_app = *app.add_subcommand("rename", "Give a VM another name, also while it runs");
  rename_app.add_option("VM", options_->old_name, "the VM's name or number")->required();
  rename_app.add_option("NEW", options_->new_name, "its name from now on")->required();
  rename_app.callback([this, &exit_code] { exit_code = rename(); });
  add_action(app, "start", "Start VMs", exit_code);
  add_action(app, "stop", "Ask the guests to end, and end them if they do not", exit_code);
  add_action(app, "restart", "Stop VMs and start them again", exit_code);
  add_action(app, "kill", "End VMs at once", exit_code);
  add_action(app, "pause", "Halt VMs", exit_code);
  add_action(app, "resume", "Let halted VMs go on", exit_code);

  const auto command = [&](const char* name, const char* help, int (VmCommand::*run)()) -> CLI::App& {
    CLI::App& sub = *app.add_subcommand(name, help);
    sub.callback([this, run, &exit_code] { exit_code = (this->*run)(); });
    return sub;
  };
  CLI::App& list_app = command("ls", "List VMs", &VmCommand::list);
  list_app.add_option("--project", options_->of_project, "only this project's");
  list_app.add_option("--state", options_->state, "only those in this state");
  add_json_option(list_app, options_->is_json, "print JSON");
  list_app.add_flag("-q,--quiet", options_->quiet, "names only");
  CLI::App& inspect_app = command("inspect", "Print all that is known of a VM, as JSON", &VmCommand::inspect);
  inspect_app.add_option("VM", options_->names, "the VM's name or number")->required();
  CLI::App& logs_app = command("logs", "Print what a guest wrote to its console", &VmCommand::logs);
  logs_app.add_option("VM", options_->names, "the VM's name or number")->required()->expected(1);
  logs_app.add_option("--of", options_->of, "console, or vmm for the process's own log")
      ->check(CLI::IsMember({"console", "vmm"}))
      ->capture_default_str();
  CLI::App& console_app = *app.add_subcommand("console", "Attach to a VM's console; Ctrl-] leaves it");
  console_app.add_option("VM", options_->names, "the VM's name or number")->required()->expected(1);
  console_app.callback([this, &exit_code] {
    DaemonClient client = options_->client();
    exit_code = attach_console(client, options_->names.front());
  });
  CLI::App& remove_app = command("rm", "Delete VMs and what belongs to them", &VmCommand::remove);
  remove_app.add_option("VM", options_->names, "names or numbers")->required();
  remove_app.add_flag("-f,--force", options_->force, "those that run, too");
  CLI::App& wait_app =
      command("wait", "Wait until a VM has stopped; its exit code is this command's", &VmCommand::wait);
  wait_app.add_option("VM", options_->names, "the VM's name or number")->required()->expected(1);
  wait_app.add_option("--for", options_->wanted, "stopped, running or paused")
      ->check(CLI::IsMember({"stopped", "running", "paused"}))
      ->capture_default_str();
  wait_app
      .add_option("--timeout", options_->timeout, "seconds; exit code 124 when they are over (default: none)")
      ->check(CLI::Range(0, 366 * 86400));
  CLI::App& update_app = command("update", "Change what a VM is to be", &VmCommand::update);
  update_app.add_option("VM", options_->names, "the VM's name or number")->required()->expected(1);
  update_app
      .add_option("--set", options_->changes,
                  "FIELD=JSON, like memory_mib=512 or restart=\"always\"; may be repeated")
      ->required()
      ->allow_extra_args(false);
  update_app.add_flag("--dry-run", options_->dry_run, "only say what needs a restart");
  top_ = std::make_unique<TopCommand>(*app.add_subcommand("top", "Show what VMs use, again and again"),
                                      options_->daemon, exit_code);
  CLI::App& stats_app = command("stats", "Print a running VM's counters, as JSON", &VmCommand::stats);
  stats_app.add_option("VM", options_->names, "the VM's name or number")->required()->expected(1);
}

void VmCommand::add_creation(CLI::App& app, bool runs, int& exit_code) {
  Options& options = *options_;
  app.add_option("NAME", options.names, "of the VM")->required()->expected(1);
  app.add_option("-k,--kernel", options.kernel,
                 "guest kernel (default: the newest of 'hum kernel list', or one that is fetched)");
  app.add_option("-i,--initrd", options.initrd,
                 "initial RAM disk (default: the one that came with the kernel)");
  app.add_option_function<std::string>(
      "--cmdline", [&options](const std::string& text) { options.cmdline = text; },
      "the kernel's command line, instead of '" + std::string(usual_cmdline) + "'");
  app.add_option("-a,--append", options.append, "added to the command line; may be repeated")
      ->allow_extra_args(false);
  app.add_option("-c,--cpus", options.cpus, "virtual CPUs")->check(CLI::Range(1, 32))->capture_default_str();
  app.add_option("-m,--memory", options.memory, "memory, like 512M or 2G")->capture_default_str();
  app.add_option("--disk", options.disks, "a disk: PATH[,KEY=VALUE...], see hum devices; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--image", options.image, "make it of this image (hum image ls)");
  app.add_option("--disk-size", options.disk_size,
                 "of its own disk, like 20G (default: as large as its image's)");
  app.add_option("--volume", options.volumes, "a disk of hum volume; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--net", options.networks,
                 "a network: user (the host's), the name of one of hum network, none, or tap=NAME, "
                 "bridge=NAME..., see hum devices; may be repeated (default: user)")
      ->allow_extra_args(false);
  app.add_option(
         "-p,--publish", options.ports,
         "[ADDRESS:]HOST:GUEST[/udp]: a port of the host for the guest's server, on its first network; "
         "may be repeated")
      ->allow_extra_args(false);
  app.add_option("--device", options.devices, "any device: KIND[,KEY=VALUE...]; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--limit", options.limits,
                 "of the VM's process on this host: " + limit_help() + "; may be repeated")
      ->allow_extra_args(false);
  app.add_option("-l,--label", options.labels, "NAME=VALUE; may be repeated")->allow_extra_args(false);
  app.add_option("--restart", options.restart, "when it has ended by itself: no, on-failure or always")
      ->check(CLI::IsMember({"no", "on-failure", "always"}))
      ->capture_default_str();
  app.add_option("--project", options.project, "the project it belongs to")->capture_default_str();
  app.add_flag("--autostart", options.autostart, "start it when the host has started");
  if (runs) app.add_flag("-d,--detach", options.detached, "do not attach to its console");
  app.add_flag("--json", options.is_json, "print the operation as JSON");
  app.footer(
      runs ? "Examples:\n  hum vm run web\n  hum vm run web -d --memory 1G --restart always --disk root.img\n"
           : "Example:\n  hum vm create web --memory 1G --disk root.img");
  app.callback([this, runs, &exit_code] { exit_code = create(runs); });
}

void VmCommand::add_action(CLI::App& app, const std::string& kind, const std::string& help, int& exit_code) {
  CLI::App& sub = *app.add_subcommand(kind, help);
  sub.add_option("VM", options_->names, "names or numbers")->required();
  if (kind == "stop" || kind == "restart")
    sub.add_option("-t,--timeout", options_->timeout,
                   "seconds for the guest (default: the VM's stop_timeout_s)")
        ->check(CLI::Range(0, 86400));
  sub.callback([this, kind, &exit_code] { exit_code = act(kind); });
}

int VmCommand::create(bool starts) {
  DaemonClient client = options_->client();
  const bool attaches = starts && !options_->detached && !options_->is_json && ::isatty(STDIN_FILENO) != 0;
  if (attaches) expect_console(client);
  const json spec = options_->spec();
  const json operation = client.finished(
      client.call("POST", std::string("/v1/vms?wait_s=60") + (starts ? "&start=true" : ""), &spec));
  if (options_->is_json)
    std::printf("%s\n", operation.dump(2).c_str());
  else if (!attaches)
    std::printf("%s\n", options_->names.front().c_str());
  return attaches ? attach_console(client, options_->names.front()) : exit_ok;
}

// All of them, whatever becomes of one.
int VmCommand::act(const std::string& kind) {
  DaemonClient client = options_->client();
  int code = exit_ok;
  for (const std::string& name : options_->names) {
    json body = json::object();
    if (options_->timeout >= 0 && (kind == "stop" || kind == "restart"))
      body["timeout_s"] = static_cast<std::uint64_t>(options_->timeout);
    try {
      client.finished(client.call("POST", path_of(name) + "/" + kind + "?wait_s=60", &body));
      std::printf("%s\n", name.c_str());
    } catch (const DaemonError& error) {
      std::fprintf(stderr, "hum: %s: %s\n", name.c_str(), error.what());
      code = exit_bad_request;
    }
  }
  return code;
}

int VmCommand::remove() {
  DaemonClient client = options_->client();
  int code = exit_ok;
  for (const std::string& name : options_->names) try {
      client.finished(
          client.call("DELETE", path_of(name) + "?wait_s=60" + (options_->force ? "&force=true" : "")));
      std::printf("%s\n", name.c_str());
    } catch (const DaemonError& error) {
      std::fprintf(stderr, "hum: %s: %s\n", name.c_str(), error.what());
      code = exit_bad_request;
    }
  return code;
}

int VmCommand::list() {
  DaemonClient client = options_->client();
  std::string query = "/v1/vms";
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty())
      query += (query.find('?') == std::string::npos ? "?" : "&") + std::string(name) + escaped(value);
  };
  add("project=", options_->of_project);
  add("state=", options_->state);
  const json all = client.list(query, "vms");
  if (options_->is_json) {
    std::printf("%s\n", all.dump(2).c_str());
    return exit_ok;
  }
  if (options_->quiet) {
    for (const json& vm : all) std::printf("%s\n", vm["name"].get<std::string>().c_str());
    return exit_ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const json& vm : all)
    rows.push_back({vm["name"], vm["state"], std::to_string(vm["spec"]["cpus"].get<unsigned>()),
                    format_size(vm["spec"]["memory_mib"].get<std::uint64_t>() << 20U),
                    vm["pid"].is_null() ? "-" : std::to_string(vm["pid"].get<std::int64_t>()),
                    vm["pid"].is_null()
                        ? "-"
                        : age_of(vm["started"].is_string() ? vm["started"].get<std::string>() : "", now()),
                    end_text(vm)});
  std::fputs(text_table({"NAME", "STATE", "CPUS", "MEMORY", "PID", "RUNS FOR", "LAST END"}, rows).c_str(),
             stdout);
  return exit_ok;
}

int VmCommand::inspect() {
  DaemonClient client = options_->client();
  json all = json::array();
  for (const std::string& name : options_->names) all.push_back(client.call("GET", path_of(name)));
  std::printf("%s\n", (all.size() == 1 ? all[0] : all).dump(2).c_str());
  return exit_ok;
}

int VmCommand::logs() {
  DaemonClient client = options_->client();
  client.call("GET", path_of(options_->names.front()));  // starts a daemon, if there is none
  const std::string text = client.text(path_of(options_->names.front()) + "/logs?of=" + options_->of);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return exit_ok;
}

int VmCommand::wait() {
  DaemonClient client = options_->client();
  const auto late = options_->timeout < 0
                        ? std::chrono::steady_clock::time_point::max()
                        : std::chrono::steady_clock::now() + std::chrono::seconds(options_->timeout);
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::seconds>(late - std::chrono::steady_clock::now()).count();
    const json vm =
        client.call("GET", path_of(options_->names.front()) + "/wait?for=" + options_->wanted +
                               "&timeout_s=" + std::to_string(std::clamp<std::int64_t>(left, 0, 60)));
    if (vm["state"] == options_->wanted && !(options_->wanted == "stopped" && !vm["restart_at"].is_null()))
      return options_->wanted == "stopped" ? exit_code_of_end(vm) : exit_ok;
    if (std::chrono::steady_clock::now() >= late) return exit_timeout;
  }
}

int VmCommand::update() {
  DaemonClient client = options_->client();
  json changes = json::object();
  for (const std::string& change : options_->changes) {
    const std::size_t equals = change.find('=');
    if (equals == std::string::npos || equals == 0)
      throw ConfigError("set", change, "no change", "give FIELD=JSON, like cpus=2");
    // A word without quotes is a text.
    const std::string text = change.substr(equals + 1);
    json value = json::parse(text, nullptr, false);
    changes[change.substr(0, equals)] = value.is_discarded() ? json(text) : value;
  }
  const json answer = client.call(
      "PATCH", path_of(options_->names.front()) + (options_->dry_run ? "?dry_run=true" : ""), &changes);
  for (const json& field : answer["needs_restart"])
    std::printf("%s: from the next start on\n", field.get<std::string>().c_str());
  return exit_ok;
}

int VmCommand::rename() {
  DaemonClient client = options_->client();
  const json change = {{"name", options_->new_name}};
  client.call("PATCH", path_of(options_->old_name), &change);
  std::printf("%s\n", options_->new_name.c_str());
  return exit_ok;
}

int VmCommand::stats() {
  DaemonClient client = options_->client();
  std::printf("%s\n", client.call("GET", path_of(options_->names.front()) + "/statistics").dump(2).c_str());
  return exit_ok;
}

}  // namespace hum
