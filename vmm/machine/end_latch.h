// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/device/device.h"
#include "vmm/machine/device_facts.h"
#include "vmm/machine/end_record.h"
#include "vmm/memory/guest_memory.h"

namespace hum {

// The one place where a VM's end is decided: the first of all requests counts; and where wishes for a pause
// and what devices have suffered wait for the VM's owner. Any thread.
class EndLatch final : public MachineControl {
 public:
  struct End {
    EndCause cause = EndCause::running;
    std::string detail = {};
    std::optional<std::uint32_t> guest_exit_code = {};
  };

  // memory tells a reboot from the end of a panic. stop_vcpus is called once, by the thread that ends the VM.
  EndLatch(const GuestMemory& memory, std::function<void()> stop_vcpus);

  void power_off() override;
  void reset() override;
  void debug_exit(std::uint32_t code) override;
  void guest_panicked() override;
  void want_pause(std::string_view reason) override;

  // True if this call was the one that counted.
  bool triple_fault();
  bool end(End end);

  int fd() const { return ended_.fd(); }
  // What was decided; cause running before that.
  End get() const;

  // Readable while there is a reason to pause that was not taken.
  int pause_wanted_fd() const { return pause_wanted_.fd(); }
  std::string take_pause_reason();

  // A guest that breaks its devices again and again is heard only as often as somebody listens.
  void device_broke(std::string_view device, std::string_view reason);
  int device_errors_fd() const { return device_errors_told_.fd(); }
  std::vector<DeviceError> take_device_errors();

 private:
  static constexpr std::size_t most_device_errors = 64;

  bool after_panic() const;

  const GuestMemory& memory_;
  std::function<void()> stop_vcpus_;
  EventFd ended_;
  EventFd pause_wanted_;
  EventFd device_errors_told_;
  mutable std::mutex mutex_;  // guards all below
  End end_;
  std::string pause_reason_;
  std::vector<DeviceError> device_errors_;
};

}  // namespace hum
