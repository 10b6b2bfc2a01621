// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace hum {

// Where the daemon keeps what it has: the state folder outlives the host's restart, the run folder need not.
struct Folders {
  std::filesystem::path state;
  std::filesystem::path run;

  // For root /var/lib/hum and /run/hum, else $XDG_STATE_HOME/hum (~/.local/state/hum) and
  // $XDG_RUNTIME_DIR/hum. Throws ConfigError where no variable says so.
  static Folders usual();

  std::string store() const { return state / "humd.db"; }
  std::string socket() const { return run / "humd.sock"; }

  std::filesystem::path vms() const { return state / "vms"; }
  std::filesystem::path vm(std::int64_t id) const { return vms() / std::to_string(id); }
  std::string vm_log(std::int64_t id) const { return vm(id) / "vmm.log"; }
  std::string vm_passt_log(std::int64_t id) const { return vm(id) / "passt.log"; }
  std::string vm_console(std::int64_t id) const { return vm(id) / "console.log"; }
  std::string vm_end(std::int64_t id) const { return vm(id) / "end.json"; }

  std::filesystem::path images() const { return state / "images"; }
  std::filesystem::path volumes() const { return state / "volumes"; }
  // Beside the run folder, as others' programs read there.
  std::filesystem::path networks() const { return run.string() + "-networks"; }

  std::filesystem::path live_vms() const { return run / "vms"; }
  std::filesystem::path live_vm(std::int64_t id) const { return live_vms() / std::to_string(id); }
  std::string vm_lock(std::int64_t id) const { return live_vm(id) / "lock"; }
  std::string vm_config(std::int64_t id) const { return live_vm(id) / "vmm.json"; }
  std::string vm_socket(std::int64_t id) const { return live_vm(id) / "api.sock"; }
  std::string vm_record(std::int64_t id) const { return live_vm(id) / "record.json"; }
};

}  // namespace hum
