// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/vm_defaults.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "devices/net/user_backend.h"
#include "tools/hum/kernel_store.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

StoredKernel stored_kernel() {
  if (auto kernel = default_kernel()) return std::move(*kernel);
  std::fputs("hum: no guest kernel is at hand: fetching one\n", stderr);
  GetOptions options;
  options.progress = [](std::string_view line) {
    std::fprintf(stderr, "hum: %.*s\n", static_cast<int>(line.size()), line.data());
  };
  return get_kernel(options);
}

}  // namespace

void add_guest_kernel(json& spec, const json& image, const DaemonClient& client) {
  // An image says itself how its kernel is started.
  if (!spec.contains("cmdline")) spec["cmdline"] = image.value("cmdline", std::string(usual_cmdline));
  if (spec.contains("kernel") || image.contains("kernel")) return;
  if (client.is_remote())
    throw ConfigError("kernel", "", "missing", "give --image, or --kernel: a path on the daemon's host");
  const StoredKernel stored = stored_kernel();
  spec["kernel"] = stored.kernel_path;
  if (!spec.contains("initrd")) spec["initrd"] = stored.initrd_path;
}

json usual_networks(const DaemonClient& client, bool is_needed) {
  const auto obstacle = client.is_remote() ? std::nullopt : user_network_obstacle("net");
  if (!obstacle || is_needed) return json::array({{{"network", "user"}}});
  std::fprintf(stderr, "hum: the VM has no network: %s\n", obstacle->what());
  return json::array();
}

}  // namespace hum
