// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/console_hub.h"
#include "vmm/base/log.h"
#include "vmm/machine/device_facts.h"
#include "vmm/machine/end_record.h"
#include "vmm/machine/state.h"
#include "vmm/machine/vm_config.h"

namespace hum {

// A virtual machine as a value: Vm vm{config, all_devices()}; vm.start(); vm.wait();
//
// The constructor does all that can fail for configuration's sake: memory, devices, kernel. end,
// press_power_button, press_ctrl_alt_del and console may be used from any thread, all else by one thread at a
// time, the owner. Several VMs live in one process: there are no globals, no signal handlers and no exit().
// vCPU threads use one signal (VmConfig::kick_signal) that nothing else in the process may use.
class Vm {
 public:
  // Throws ConfigError (a wrong or impossible configuration) and HostError (no KVM, no memory); nothing is
  // left behind then. kinds outlives the VM.
  Vm(VmConfig config, std::span<const DeviceKind* const> kinds, Log log = Log());
  // The successor of a VM that was handed over, with the same configuration: start lets its guest go on.
  // Throws also ConfigError (key state) where the state is damaged or another machine's.
  Vm(VmConfig config, std::span<const DeviceKind* const> kinds, MachineState state, Log log = Log());
  // Ends the VM with cause killed if it still runs.
  ~Vm();
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  // The console: output from the first byte on, and input. Lives as long as the VM.
  ConsoleHub& console() const;

  // Starts the vCPUs. Once. Throws HostError.
  void start();

  // Stops the guest between two of its instructions: no vCPU runs, no device has a request in flight, no
  // interrupt is on its way. False if the VM has ended; wait then tells how. Throws HostError.
  bool pause();
  // Lets a paused guest go on. Throws HostError; the VM has ended then.
  void resume();
  // Readable when a device wants the VM to be paused, until the reason was taken: a disk with on-error=pause
  // whose host has no space left. The owner pauses the VM, sees to the cause, and resumes it: what failed is
  // then tried again. A disk's failed requests wait for that even if nobody pauses.
  int pause_wanted_fd() const;
  // A sentence for the user; empty if there is no reason any more.
  std::string take_pause_reason();
  // Changes options of a device, all or none: change("disk0", "bandwidth=10M,ops=off"). Devices are named by
  // their kind and their number among those of that kind. The VM may run, be paused, or not be started.
  // Throws ConfigError (no such device; a value that is not accepted; an option that cannot be changed while
  // the VM runs) and HostError.
  void change(std::string_view device, std::string_view options);
  // Puts another virtio device into a VM with VmConfig::hotplug and tells its guest. Returns its name. The VM
  // may run or be paused. Throws ConfigError and HostError; the VM is as before then.
  std::string attach(const DeviceConfig& device);
  // Takes a device out. True: it is gone, for the guest had no driver at work for it, nor memory of it.
  // False: the guest was asked to let it go, and once it has, take_detached removes the device; a guest may
  // never do it. The VM may run or be paused. Throws ConfigError (there is none of that name; no hotplug) and
  // HostError.
  bool detach(std::string_view device);
  // Readable while there are devices that the guest has let go; -1 without hotplug.
  int detached_fd() const;
  // Removes them and returns their names. Throws HostError.
  std::vector<std::string> take_detached();
  // The configuration as it is now, with the devices that have come and without those that have gone, and
  // with their options as they were changed: that of a successor.
  VmConfig config() const;
  // Has a device do something that is no option, by a word of its kind: request("balloon0", "start-hinting").
  // Throws ConfigError (no such device; nothing that it does; not now) and HostError.
  void request(std::string_view device, std::string_view verb);
  // The state of a paused VM but for its memory (vmm/base/state.h). The VM stays as it is. Throws HostError.
  std::vector<std::byte> save();
  // Pauses the VM if it runs and takes its machine out of it; nothing if the VM has ended. What is left has
  // neither threads nor memory and writes no record: the successor does. Destroy it before the successor is
  // made, for it holds the locks of its disks. Throws HostError.
  std::optional<MachineState> hand_over();

  // Waits for the end, stops every thread, writes the record, finishes the devices' output, and returns the
  // record. Readers of that output who are behind are waited for until give_up_fd is readable; without one
  // (-1), and in the destructor, for 5 seconds. Later calls return the same.
  const EndRecord& wait(int give_up_fd = -1);

  // What the devices have done since they were made; from any thread.
  std::vector<virtio::DeviceReport> device_reports() const;
  // The record as far as it is: of a VM that has not ended with cause running, and all that was counted. The
  // owner.
  EndRecord record() const;
  // The devices that can be changed, with their options as they are. The owner.
  std::vector<DeviceOptions> device_options() const;

  // Readable while there are device errors that were not taken: a device needs a reset by its driver.
  int device_errors_fd() const;
  std::vector<DeviceError> take_device_errors();

  // Readable once the VM has ended and wait will not block for the guest; for event loops.
  int end_fd() const;

  // Asks the guest to switch itself off; false if the machine has no power button.
  bool press_power_button();

  // Types Ctrl-Alt-Del, at which most systems restart; false if the machine has no keyboard, or the guest
  // does not take keys.
  bool press_ctrl_alt_del();

  // Ends the VM now. The first end of a VM counts.
  void end(EndCause cause, const std::string& detail = {});

 private:
  void while_paused(const std::function<void()>& work);

  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace hum
