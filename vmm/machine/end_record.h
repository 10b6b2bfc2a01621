// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/kvm/cpu_registers.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// Why a VM ended.
enum class EndCause : std::uint8_t {
  running,         // it has not
  power_off,       // the guest switched itself off
  reboot,          // the guest reset itself
  panic,           // the guest's kernel panicked
  debug_exit,      // the guest wrote to the exit port
  triple_fault,    // a vCPU shut down
  internal_error,  // KVM could not go on
  signal,          // a signal asked the program to end
  killed,          // the user ended it
  host_error,      // a device or the program failed
};

std::string_view to_string(EndCause cause);

// Whether the guest chose this end: it switched off, restarted, or wrote to the exit port.
bool is_orderly(EndCause cause);

// Everything about a VM's life that is worth keeping, as one JSON document.
struct EndRecord {
  EndCause cause = EndCause::running;
  std::string detail;                            // in words; empty where the cause says it all
  std::optional<std::uint32_t> guest_exit_code;  // of debug_exit
  std::string kernel;                            // path as given, or VmConfig::kernel_name
  std::string kernel_digest;                     // "sha256:..."
  std::string boot_protocol;
  std::string started;          // UTC, ISO 8601
  double duration_seconds = 0;  // from the first instruction to the end
  std::uint32_t ended_vcpu = 0;
  std::optional<std::uint64_t> instruction_pointer;  // where a vCPU failed
  std::string symbol;                                // and its name there, where symbols are known
  struct VcpuState {
    std::uint32_t id = 0;
    CpuRegisters registers;
    std::string symbol;  // at its instruction pointer
  };
  std::vector<VcpuState> vcpus;                // of a VM that did not end by the guest's own wish
  std::map<std::string, std::uint64_t> exits;  // user-space exits by KVM's reason
  std::uint64_t collected_writes = 0;          // accesses that came along with the exit of another
  struct Window {
    std::uint64_t reads = 0;
    std::uint64_t writes = 0;
  };
  std::map<std::string, Window> windows;  // accesses by device
  std::vector<virtio::DeviceReport> devices;
  std::vector<std::string> console;  // the last lines

  // With this process's number and its start, in clock ticks since the host's boot (field 22 of
  // /proc/PID/stat; 0 where there is no /proc). indent: in blanks; -1: all on one line.
  std::string to_json(int indent = 2) const;
};

// Keeps a record in a file: readers see a whole document at any moment, cause `running` until the end. The
// process's identity in it tells a reader whether the VM was killed without a word.
class RecordFile {
 public:
  // Checks that the folder can be written. Throws ConfigError (key record).
  explicit RecordFile(std::string path);

  // Writes a temporary file beside the path and renames it. Throws HostError.
  void write(const EndRecord& record) const;

 private:
  std::string path_;
};

// As EndRecord::started.
std::string utc_now();

}  // namespace hum
