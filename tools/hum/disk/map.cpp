// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/hum/disk/common.h"
#include "tools/hum/disk/verbs.h"

namespace hum {
namespace {

// Whether one goes on where the other ends.
bool continues(const BlockExtent& before, const BlockExtent& extent) {
  if (before.host.has_value() != extent.host.has_value()) return false;
  if (before.host && *before.host + before.size != *extent.host) return false;
  return before.depth == extent.depth && before.present == extent.present && before.zero == extent.zero &&
         before.data == extent.data && before.compressed == extent.compressed;
}

// As qemu-img map prints it, a line for each.
void print_as_json(std::uint64_t start, const BlockExtent& extent, bool first) {
  nlohmann::ordered_json json = {{"start", start},
                                 {"length", extent.size},
                                 {"depth", extent.depth},
                                 {"present", extent.present},
                                 {"zero", extent.zero},
                                 {"data", extent.data},
                                 {"compressed", extent.compressed}};
  if (extent.host) json["offset"] = *extent.host;
  std::printf("%s%s", first ? "[" : ",\n", json.dump().c_str());
}

void print_as_text(std::uint64_t start, const BlockExtent& extent) {
  const char* const what = extent.compressed ? "compressed"
                           : extent.data     ? "data"
                           : extent.present  ? "zero"
                                             : "nothing";
  std::printf("%16llu %16llu %5u  %-10s  %s\n", static_cast<unsigned long long>(start),
              static_cast<unsigned long long>(extent.size), extent.depth, what,
              extent.host ? std::to_string(*extent.host).c_str() : "");
}

}  // namespace

DiskMap::DiskMap(CLI::App& disk, int& exit_code) {
  CLI::App& app = *disk.add_subcommand("map", "Tell where the parts of a disk are");
  app.add_option("path", path_, "the image, which nobody writes to")->required();
  app.add_option("--format", format_, "raw or qcow2; never guessed")
      ->required()
      ->check(CLI::IsMember({"raw", "qcow2"}));
  app.add_flag("--json", json_, "print JSON, with the fields of qemu-img map");
  app.add_flag("--any-backing", any_backing_, "backing images may be outside of the image's folder");
  app.footer(
      "depth: 0 the image itself, 1 its backing image, and so on. offset: in the file of that image.\n"
      "Examples:\n  hum disk map disk.qcow2 --format qcow2\n  hum disk map --json disk.img --format raw");
  app.callback([this, &exit_code] {
    run();
    exit_code = 0;
  });
}

void DiskMap::run() const {
  const Log log;
  const auto image = open_image(
      "", {.path = path_, .format = parse_format(format_), .read_only = true, .any_backing = any_backing_},
      log);
  if (!json_) std::printf("%16s %16s %5s  %-10s  %s\n", "start", "length", "depth", "what", "offset");
  bool first = true;
  const auto print = [&](std::uint64_t start, const BlockExtent& extent) {
    if (json_)
      print_as_json(start, extent, std::exchange(first, false));
    else
      print_as_text(start, extent);
  };
  BlockExtent last;
  std::uint64_t start = 0;
  for (std::uint64_t at = 0; at < image->size();) {
    BlockExtent extent;
    expect_ok(image->find_extent(at, image->size() - at, extent),
              {"read '" + path_ + "'", "path", path_, "cannot be mapped", "use 'hum disk info'"});
    at += extent.size;
    if (last.size != 0 && continues(last, extent)) {
      last.size += extent.size;
      continue;
    }
    if (last.size != 0) print(start, last);
    start += last.size;
    last = extent;
  }
  if (last.size != 0) print(start, last);
  if (json_) std::printf(first ? "[]\n" : "]\n");
}

}  // namespace hum
