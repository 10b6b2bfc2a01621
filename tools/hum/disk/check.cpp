// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "devices/block/qcow2_check.h"
#include "devices/block/raw_file.h"
#include "tools/hum/disk/common.h"
#include "tools/hum/disk/verbs.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using Kind = Qcow2Findings::Kind;

nlohmann::ordered_json as_json(const Qcow2Findings& findings) {
  nlohmann::ordered_json problems = nlohmann::ordered_json::object();
  for (const auto& [kind, count] : findings.counts) problems[to_string(kind)] = count;
  nlohmann::ordered_json first = nlohmann::ordered_json::array();
  for (const Qcow2Findings::Problem& each : findings.first)
    first.push_back({{"kind", to_string(each.kind)}, {"text", each.text}});
  return {{"errors", findings.errors()},
          {"leaks", findings.leaks()},
          {"problems", problems},
          {"first", first},
          {"used_clusters", findings.used_clusters},
          {"data_clusters", findings.data_clusters},
          {"compressed_clusters", findings.compressed_clusters}};
}

void print(const Qcow2Findings& findings, std::uint64_t cluster_size) {
  for (const Qcow2Findings::Problem& each : findings.first)
    std::printf("%-11s %s\n", to_string(each.kind), each.text.c_str());
  if (findings.errors() == 0 && findings.leaks() == 0) {
    std::printf("no errors: %llu clusters are in use\n",
                static_cast<unsigned long long>(findings.used_clusters));
    return;
  }
  std::printf("%llu errors, %llu leaked clusters (%s)\n", static_cast<unsigned long long>(findings.errors()),
              static_cast<unsigned long long>(findings.leaks()),
              with_bytes(findings.leaks() * cluster_size).c_str());
  if (findings.errors() != 0)
    std::printf("take a copy; then 'hum disk check --repair all' mends counts and flags\n");
  else
    std::printf("nothing is lost but space; 'hum disk check --repair leaks' gives it back\n");
}

}  // namespace

DiskCheck::DiskCheck(CLI::App& disk, int& exit_code) {
  CLI::App& app = *disk.add_subcommand("check", "Look for errors and leaked clusters in a qcow2 image");
  app.add_option("path", path_, "the image, which nobody uses")->required();
  app.add_option("--format", format_, "qcow2; a raw image has nothing to check")
      ->required()
      ->check(CLI::IsMember({"qcow2"}));
  app.add_option("--repair", repair_,
                 "leaks: give leaked clusters back; all: also make reference counts and flags anew")
      ->check(CLI::IsMember({"leaks", "all"}));
  app.add_flag("--json", json_, "print JSON");
  app.footer(
      "Exit codes: 0 no errors, 1 errors, 3 leaked clusters only, 2 the check could not be made.\n"
      "Examples:\n  hum disk check disk.qcow2 --format qcow2\n"
      "  hum disk check disk.qcow2 --format qcow2 --repair leaks");
  app.callback([this, &exit_code] { exit_code = run(); });
}

int DiskCheck::run() const {
  const auto file = RawFile::open("path", path_, repair_.empty());
  const Qcow2Header header = read_qcow2_header("path", path_, *file);
  Qcow2Check check("path", path_, *file, header);
  Qcow2Findings before = check.run();
  if (!repair_.empty())
    expect_ok(check.repair(repair_ == "all"),
              {"repair '" + path_ + "'", "path", path_, "its uses cannot be counted in an image of its kind",
               "convert it to a new image ('hum disk convert')"});
  const Qcow2Findings& after = check.findings();
  if (after.count(Kind::unreadable) != 0) throw HostError(EIO, "read the tables of '" + path_ + "'");
  if (json_) {
    nlohmann::ordered_json json = {{"path", path_}, {"format", "qcow2"}};
    json.update(as_json(after));
    if (!repair_.empty()) json["before_repair"] = as_json(before);
    print_json(json);
  } else {
    if (!repair_.empty())
      std::printf("before the repair: %llu errors, %llu leaked clusters\n",
                  static_cast<unsigned long long>(before.errors()),
                  static_cast<unsigned long long>(before.leaks()));
    print(after, header.cluster_size());
  }
  return after.errors() != 0 ? exit_disk_errors : after.leaks() != 0 ? exit_disk_leaks : 0;
}

}  // namespace hum
