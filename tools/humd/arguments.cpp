// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/arguments.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "tools/hum/usage.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

// Beside this program: they are installed together.
std::string usual_vmm() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / "hum-vmm").string();
}

// All of them, or none.
void check_tls(DaemonArguments& arguments) {
  TlsFiles& files = arguments.tls;
  files.authorities_option = "--tls-client-ca";
  const std::pair<std::string_view, const std::string&> all[] = {
      {"--listen", arguments.listen},
      {files.certificate_option, files.certificate},
      {files.key_option, files.key},
      {files.authorities_option, files.authorities},
  };
  const auto is_given = [](const auto& each) { return !each.second.empty(); };
  if (std::none_of(std::begin(all), std::end(all), is_given)) return;
  for (const auto& [option, value] : all)
    if (value.empty())
      throw ConfigError(std::string(option), "", "missing",
                        "give --listen, --tls-cert, --tls-key and --tls-client-ca together, or none of them");
}

}  // namespace

std::optional<DaemonArguments> parse_daemon_arguments(const std::vector<std::string>& arguments) {
  CLI::App app("Hummingbird's daemon: launches virtual machines and keeps track of them.", "humd");
  app.set_version_flag("--version", "humd " HUM_VERSION);
  std::string state;
  std::string run;
  DaemonArguments result;
  app.add_option(
      "--state", state,
      "folder of what outlives a restart of the host (default: /var/lib/hum; of a user: ~/.local/state/hum)");
  app.add_option("--run", run,
                 "folder of what need not (default: /run/hum; of a user: $XDG_RUNTIME_DIR/hum)");
  app.add_option("--socket", result.socket, "Unix socket of the API (default: humd.sock in the run folder)");
  app.add_option("--vmm", result.vmm_program,
                 "program that runs a VM (default: hum-vmm beside this program)");
  app.add_option("--listen", result.listen,
                 "ADDRESS:PORT of the API by TLS, besides its socket; port 0: any, which is printed");
  app.add_option("--tls-cert", result.tls.certificate, "PEM file of this host's certificate, for --listen");
  app.add_option("--tls-key", result.tls.key, "PEM file of its key, which nobody else may read");
  app.add_option("--tls-client-ca", result.tls.authorities,
                 "PEM file of the authority that clients' certificates are signed by");
  app.add_option("--memory-share", result.share.memory_percent,
                 "percent of the host's memory that VMs together may have (default: 90)")
      ->check(CLI::Range(1U, 10'000U));
  app.add_option("--cpu-share", result.share.cpus_per_processor,
                 "processors of VMs for each of the host's (default: 16)")
      ->check(CLI::Range(1U, 100'000U));
  app.footer(
      "Examples:\n  humd\n  humd --state /srv/hum --run /run/hum --socket /run/hum/api.sock\n"
      "  humd --listen 0.0.0.0:8443 --tls-cert host.pem --tls-key host.key --tls-client-ca clients.pem");
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as the parser wants them
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw usage_error(app, error);
    app.exit(error);
    return {};
  }
  check_tls(result);
  if (state.empty() || run.empty()) result.folders = Folders::usual();
  if (!state.empty()) result.folders.state = fs::absolute(state);
  if (!run.empty()) result.folders.run = fs::absolute(run);
  if (result.socket.empty()) result.socket = result.folders.socket();
  result.vmm_program = fs::absolute(result.vmm_program.empty() ? usual_vmm() : result.vmm_program);
  if (::access(result.vmm_program.c_str(), X_OK) != 0)
    throw ConfigError("--vmm", result.vmm_program, "no program", "give the path of hum-vmm");
  return result;
}

}  // namespace hum
