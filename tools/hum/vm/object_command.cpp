// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/object_command.h"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "tools/hum/exit_codes.h"
#include "tools/hum/vm/size_option.h"
#include "tools/hum/vm/text_table.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

using nlohmann::json;
using Kind = ObjectCommand::Kind;

const char* word(Kind kind) {
  switch (kind) {
    case Kind::image:
      return "image";
    case Kind::volume:
      return "volume";
    case Kind::network:
      return "network";
  }
  return "";
}

std::string upper(std::string text) {
  for (char& each : text) each = static_cast<char>(std::toupper(static_cast<unsigned char>(each)));
  return text;
}

// A file is the daemon's to read, from the root; what is on a server stays as it is.
std::string place_of(const std::string& text) {
  if (text.find("://") != std::string::npos) return text;
  return std::filesystem::absolute(text).lexically_normal().string();
}

std::string names_in(const json& list, const char* field) {
  std::string text;
  for (const json& each : list)
    text += (text.empty() ? "" : ", ") + (field == nullptr ? each : each[field]).get<std::string>();
  return text.empty() ? "-" : text;
}

std::vector<std::string> head_of(Kind kind) {
  switch (kind) {
    case Kind::image:
      return {"NAME", "STATE", "HAS", "SIZE", "DISK", "DIGEST"};
    case Kind::volume:
      return {"NAME", "STATE", "FORMAT", "SIZE", "VMS"};
    case Kind::network:
      return {"NAME", "STATE", "SUBNET", "NAT", "BRIDGE", "VMS"};
  }
  return {};
}

std::vector<std::string> image_row(const json& image) {
  if (!image["content"].is_object()) return {image["name"], image["state"], "-", "-", "-", "-"};
  std::uint64_t size = 0;
  for (const json& part : image["content"]["parts"]) size += part["size"].get<std::uint64_t>();
  const auto disk = image["content"]["disk_size"].get<std::uint64_t>();
  constexpr std::size_t shown = 19;  // "sha256:" and 12 digits
  return {image["name"],
          image["state"],
          names_in(image["content"]["parts"], "name"),
          format_size(size),
          disk == 0 ? "-" : format_size(disk),
          image["digest"].get<std::string>().substr(0, shown)};
}

std::vector<std::string> row_of(Kind kind, const json& object) {
  if (kind == Kind::image) return image_row(object);
  if (kind == Kind::volume)
    return {object["name"], object["state"], object["format"],
            format_size(object["size"].get<std::uint64_t>()), names_in(object["vms"], nullptr)};
  return {object["name"],   object["state"],
          object["subnet"], object["nat"].get<bool>() ? "yes" : "no",
          object["bridge"], names_in(object["vms"], "vm")};
}

}  // namespace

struct ObjectCommand::Options {
  DaemonAddress daemon;
  bool is_json = false;
  bool quiet = false;
  std::vector<std::string> names;
  // Of images.
  std::string kernel;
  std::string initrd;
  std::string disk;
  std::map<std::string, std::string> digests;  // by the part's name
  std::string format;
  std::string cmdline;
  // Of volumes.
  std::string name;
  std::string size;
  std::string image;
  std::string from;
  bool shrink = false;
  // Of networks.
  std::string subnet;
  bool no_nat = false;
  std::string dns_domain;

  DaemonClient client() const { return DaemonClient(daemon); }
};

ObjectCommand::~ObjectCommand() = default;

ObjectCommand::ObjectCommand(CLI::App& app, Kind kind, int& exit_code)
    : kind_(kind), options_(std::make_unique<Options>()) {
  app.require_subcommand(1);
  app.fallthrough();
  add_daemon_options(app, options_->daemon);
  if (kind == Kind::image) add_image_commands(app, exit_code);
  if (kind == Kind::volume) add_volume_commands(app, exit_code);
  if (kind == Kind::network) add_network_commands(app, exit_code);
  const std::string name = word(kind);
  CLI::App& list_app = *app.add_subcommand("ls", "List them");
  add_json_option(list_app, options_->is_json, "print JSON");
  list_app.add_flag("-q,--quiet", options_->quiet, "names only");
  list_app.callback([this, &exit_code] { exit_code = list(); });
  CLI::App& inspect_app = *app.add_subcommand("inspect", "Print all that is known of one, as JSON");
  inspect_app.add_option(upper(name), options_->names, "its name or number")->required();
  inspect_app.callback([this, &exit_code] { exit_code = inspect(); });
  CLI::App& remove_app = *app.add_subcommand("rm", "Delete them");
  remove_app.add_option(upper(name), options_->names, "names or numbers")->required();
  remove_app.callback([this, &exit_code] { exit_code = remove(); });
}

void ObjectCommand::add_image_commands(CLI::App& app, int& exit_code) {
  app.footer(
      "Examples:\n"
      "  hum image import debian --disk debian.qcow2 --format qcow2 --kernel vmlinuz --initrd initrd.img \\\n"
      "    --cmdline 'console=ttyS0 root=/dev/vda1'\n"
      "  hum vm run web --image debian --disk-size 20G\n"
      "  hum image ls");
  CLI::App& sub =
      *app.add_subcommand("import", "Copy a kernel, an initial RAM disk and a disk into an image");
  Options& options = *options_;
  sub.add_option("NAME", options.names, "of the image")->required()->expected(1);
  sub.add_option("-k,--kernel", options.kernel, "guest kernel; a file or an http:// URL, as the next two");
  sub.add_option("-i,--initrd", options.initrd, "initial RAM disk");
  sub.add_option("--disk", options.disk, "disk, which each VM has a copy of that costs what it changes");
  for (const char* const part : {"kernel", "initrd", "disk"})
    sub.add_option(std::string("--") + part + "-digest", options.digests[part],
                   std::string("what the ") + part + " must be, sha256:... or its 64 digits");
  sub.add_option("--format", options.format, "the disk's: raw or qcow2; it is never guessed")
      ->check(CLI::IsMember({"raw", "qcow2"}));
  sub.add_option("--cmdline", options.cmdline, "the kernel's command line for VMs that give none");
  sub.footer(
      "Examples:\n"
      "  hum image import tiny --kernel vmlinux --disk root.img --format raw\n"
      "  hum image import cloud --disk http://images.example/root.qcow2 --format qcow2 \\\n"
      "    --disk-digest 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 --kernel vmlinuz");
  sub.callback([this, &exit_code] {
    json body = {{"name", options_->names.front()}};
    for (const auto& [key, value] :
         {std::pair("kernel", &options_->kernel), std::pair("initrd", &options_->initrd),
          std::pair("disk", &options_->disk)}) {
      if (!value->empty()) body[key] = place_of(*value);
      const std::string& digest = options_->digests[key];
      if (digest.empty()) continue;
      body[std::string(key) + "_digest"] =
          digest.find(':') == std::string::npos ? "sha256:" + digest : digest;
    }
    if (!options_->disk.empty() && options_->format.empty())
      throw ConfigError("format", "", "missing", "say what the disk is: --format raw or --format qcow2");
    if (!options_->format.empty()) body["format"] = options_->format;
    if (!options_->cmdline.empty()) body["cmdline"] = options_->cmdline;
    exit_code = make(body.dump());
  });
}

void ObjectCommand::add_volume_commands(CLI::App& app, int& exit_code) {
  app.footer(
      "Examples:\n  hum volume create data --size 10G\n  hum vm run db --volume data\n"
      "  hum volume resize data 20G\n  hum volume create copy --from data");
  Options& options = *options_;
  CLI::App& create = *app.add_subcommand("create", "Make a disk for VMs");
  create.add_option("NAME", options.names, "of the volume")->required()->expected(1);
  create.add_option("-s,--size", options.size, "like 10G; may be left out with --image and --from");
  create.add_option("--format", options.format, "raw (default) or qcow2")
      ->check(CLI::IsMember({"raw", "qcow2"}));
  create.add_option("--image", options.image, "begin with this image's disk");
  create.add_option("--from", options.from, "begin with a copy of this volume, which no VM runs on now");
  create.callback([this, &exit_code] {
    json body = {{"name", options_->names.front()}};
    if (!options_->size.empty()) body["size_mib"] = mib_of("size", options_->size);
    if (!options_->format.empty()) body["format"] = options_->format;
    if (!options_->image.empty()) body["image"] = options_->image;
    if (!options_->from.empty()) body["from"] = options_->from;
    exit_code = make(body.dump());
  });
  CLI::App& resize = *app.add_subcommand("resize", "Give a volume another size, while no VM runs on it");
  resize.add_option("VOLUME", options.name, "its name or number")->required();
  resize.add_option("SIZE", options.size, "like 20G")->required();
  resize.add_flag("--shrink", options.shrink,
                  "also if it becomes smaller: what is behind its new end is lost");
  resize.callback([this, &exit_code] {
    DaemonClient client = options_->client();
    const json body = {{"size_mib", mib_of("size", options_->size)}, {"shrink", options_->shrink}};
    client.finished(client.call("PATCH", path() + "/" + escaped(options_->name) + "?wait_s=1", &body));
    std::printf("%s\n", options_->name.c_str());
    exit_code = exit_ok;
  });
}

void ObjectCommand::add_network_commands(CLI::App& app, int& exit_code) {
  app.footer(
      "Examples:\n  hum network create blue\n  hum vm run web --net blue -p 8080:80\n"
      "VMs of one network reach each other by name. Needs root; without it a VM has --net user.");
  Options& options = *options_;
  CLI::App& create =
      *app.add_subcommand("create", "Make a network of VMs: a bridge with addresses, names and NAT");
  create.add_option("NAME", options.names, "of the network")->required()->expected(1);
  create.add_option("--subnet", options.subnet,
                    "like 10.1.2.0/24 (default: one of 10.77.0.0/16 that is free)");
  create.add_flag("--no-nat", options.no_nat, "its VMs reach each other and this host only");
  create.add_option("--dns-domain", options.dns_domain, "of its VMs' names (default: hum.internal)");
  create.callback([this, &exit_code] {
    json body = {{"name", options_->names.front()}, {"nat", !options_->no_nat}};
    if (!options_->subnet.empty()) body["subnet"] = options_->subnet;
    if (!options_->dns_domain.empty()) body["dns_domain"] = options_->dns_domain;
    exit_code = make(body.dump());
  });
}

std::string ObjectCommand::path() const {
  return std::string("/v1/") + word(kind_) + "s";
}

int ObjectCommand::make(const std::string& body) {
  DaemonClient client = options_->client();
  const json given = json::parse(body);
  client.finished(client.call("POST", path() + "?wait_s=1", &given));
  std::printf("%s\n", options_->names.front().c_str());
  return exit_ok;
}

int ObjectCommand::list() {
  DaemonClient client = options_->client();
  const json all = client.list(path(), std::string(word(kind_)) + "s");
  if (options_->is_json) {
    std::printf("%s\n", all.dump(2).c_str());
    return exit_ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const json& each : all) {
    if (options_->quiet)
      std::printf("%s\n", each["name"].get<std::string>().c_str());
    else
      rows.push_back(row_of(kind_, each));
  }
  if (!options_->quiet) std::fputs(text_table(head_of(kind_), rows).c_str(), stdout);
  return exit_ok;
}

int ObjectCommand::inspect() {
  DaemonClient client = options_->client();
  json all = json::array();
  for (const std::string& name : options_->names)
    all.push_back(client.call("GET", path() + "/" + escaped(name)));
  std::printf("%s\n", (all.size() == 1 ? all[0] : all).dump(2).c_str());
  return exit_ok;
}

// All of them, whatever becomes of one.
int ObjectCommand::remove() {
  DaemonClient client = options_->client();
  int code = exit_ok;
  for (const std::string& name : options_->names) try {
      client.finished(client.call("DELETE", path() + "/" + escaped(name) + "?wait_s=1"));
      std::printf("%s\n", name.c_str());
    } catch (const DaemonError& error) {
      std::fprintf(stderr, "hum: %s: %s\n", name.c_str(), error.what());
      code = exit_bad_request;
    }
  return code;
}

EventsCommand::EventsCommand(CLI::App& app, int& exit_code) {
  add_daemon_options(app, daemon_);
  add_json_option(app, is_json_, "one JSON object a line");
  app.footer("Example: hum events --json | jq .type");
  app.callback([this, &exit_code] { exit_code = run(); });
}

int EventsCommand::run() const {
  DaemonClient client(daemon_);
  client.call("GET", "/v1/version");  // starts a daemon, if there is none
  client.follow("/v1/events", [this](const std::string& type, const std::string& text) {
    json data = json::parse(text, nullptr, false);
    if (data.is_discarded()) data = text;
    if (is_json_) {
      std::printf("%s\n", json{{"type", type}, {"data", data}}.dump().c_str());
    } else {
      std::string line = type;
      if (data.is_object())
        for (const auto& [key, value] : data.items())
          line += " " + key + "=" + (value.is_string() ? value.get<std::string>() : value.dump());
      std::printf("%s\n", line.c_str());
    }
    return std::fflush(stdout) == 0;
  });
  return exit_ok;
}

}  // namespace hum
