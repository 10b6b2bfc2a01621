// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/kernel_command.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/hum/kernel_store.h"

namespace hum {
namespace {

nlohmann::ordered_json as_json(const StoredKernel& kernel) {
  return {{"name", kernel.name},
          {"version", kernel.version},
          {"kernel", kernel.kernel_path},
          {"initrd", kernel.initrd_path}};
}

}  // namespace

KernelCommand::KernelCommand(CLI::App& app, int& exit_code) {
  app.require_subcommand(1);
  CLI::App& get_app =
      *app.add_subcommand("get", "Fetch the distribution's kernel and make a small root for it");
  get_app.add_option("--flavour", flavour_, "cloud (small, for virtual machines) or generic")
      ->check(CLI::IsMember({"cloud", "generic"}))
      ->default_str("cloud");
  get_app.add_option("--deb", deb_, "take this linux-image package instead of fetching one");
  get_app.add_flag("--installed", installed_, "take this host's own kernel of /boot");
  get_app.add_flag("--force", force_, "make it anew if it is there");
  get_app.add_flag("-q,--quiet", quiet_, "no progress");
  get_app.add_flag("--json", json_, "print what was stored as JSON");
  get_app.footer(
      "Nothing is installed on this host and no root is needed: the package is unpacked into the cache.\n\n"
      "Examples:\n  hum kernel get\n  hum kernel get --deb ./linux-image-6.1.0-cloud-amd64.deb");
  get_app.callback([this, &exit_code] {
    get();
    exit_code = 0;
  });
  CLI::App& list_app = *app.add_subcommand("list", "List the kernels at hand, the newest first");
  list_app.add_flag("--json", json_, "print JSON");
  list_app.callback([this, &exit_code] {
    list();
    exit_code = 0;
  });
}

void KernelCommand::get() const {
  GetOptions options;
  options.flavour = flavour_ == "generic" ? GetOptions::Flavour::generic : GetOptions::Flavour::cloud;
  options.from_deb = deb_;
  options.from_installed = installed_;
  options.force = force_;
  if (!quiet_)
    options.progress = [](std::string_view line) {
      std::fprintf(stderr, "hum: %.*s\n", static_cast<int>(line.size()), line.data());
    };
  const StoredKernel kernel = get_kernel(options);
  if (json_) {
    std::printf("%s\n", as_json(kernel).dump(2).c_str());
  } else {
    std::printf("%s\n", kernel.name.c_str());
  }
}

void KernelCommand::list() const {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const StoredKernel& kernel : list_kernels()) {
    if (!json_)
      std::printf("%-32s %-16s %s\n", kernel.name.c_str(), kernel.version.c_str(),
                  kernel.kernel_path.c_str());
    all.push_back(as_json(kernel));
  }
  if (json_) std::printf("%s\n", all.dump(2).c_str());
  if (!json_ && all.empty()) std::fputs("hum: no kernel is at hand; 'hum kernel get' fetches one\n", stderr);
}

}  // namespace hum
