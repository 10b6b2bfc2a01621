// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/mmds/metadata_service.h"
#include "devices/mmds/metadata_store.h"
#include "tools/http/api_stream.h"
#include "tools/http/event_feed.h"
#include "tools/hum-vmm/console_log.h"
#include "tools/hum-vmm/console_service.h"
#include "tools/hum-vmm/logger.h"
#include "tools/hum-vmm/metrics.h"
#include "tools/hum-vmm/microvm_config.h"
#include "tools/hum-vmm/request_counts.h"
#include "tools/hum/stdio_console.h"
#include "tools/hum/terminal.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/machine/vm.h"

namespace hum {

// The process's one VM with what a client can ask of it: configured, started, paused, changed. It belongs to
// the thread of its loop, which also sees to pauses that a device wants and to the VM's end.
class Microvm {
 public:
  enum class State : std::uint8_t { not_started, running, paused };

  struct Settings {
    std::string id;
    Transport transport = Transport::mmio;
    std::size_t most_metadata_bytes = MetadataStore::default_limit;
    bool boot_timer = false;
    bool has_clients = true;  // of events
    std::string record;       // a path; empty: none is kept
    std::optional<ConsoleLogSettings> console_log = {};
  };

  // ended is called once, by the loop. Both references outlive the VM. Throws ConfigError, HostError.
  Microvm(Settings settings, EventLoop& loop, Logger& logger, std::function<void()> ended);
  ~Microvm();
  Microvm(const Microvm&) = delete;
  Microvm& operator=(const Microvm&) = delete;

  const std::string& id() const { return settings_.id; }
  // Paused is also a VM that stands still because a device wants it.
  State state() const { return device_pause_.empty() ? state_ : State::paused; }
  // What a device waits for that wants the VM to be paused; empty: none does.
  const std::string& device_pause() const { return device_pause_; }
  const MicrovmConfig& config() const { return config_; }
  // What the guest is told by its interfaces with the metadata service; may change at any time.
  MetadataStore& metadata() { return metadata_; }

  // What a PUT, or a config file, says of a section. Before the start. Throws ConfigError, HostError.
  void put(const Section& section, const nlohmann::json& checked);
  // What a PUT says of one more element of a list, and the removal of one, while a VM runs that has hotplug
  // (a removal also before the start). A device that the guest has at work is gone only once the guest has
  // let it go. Throw ConfigError, HostError.
  bool hotplug() const { return settings_.transport == Transport::pci; }
  void attach(const Section& section, const nlohmann::json& checked);
  void detach(const Section& section, const std::string& id);
  // Changes the machine before the start, or a device of a VM that runs. Throws ConfigError, HostError.
  void patch(const Section& section, const nlohmann::json& checked);

  // Of a VM that runs: what the section's device reports, the numbers by their names.
  nlohmann::json report_of(const Section& section) const;
  // Has the balloon ask for the guest's free pages, which with acknowledge are the guest's again as soon as
  // it has told of all; or ends that. Each throws ConfigError.
  void start_hinting(bool acknowledge);
  void stop_hinting();

  // Each throws ConfigError, HostError.
  void start();
  void pause();
  void resume();
  void flush_metrics();
  // Types Ctrl-Alt-Del in a VM that runs.
  void press_ctrl_alt_del();

  // Asks the guest of a VM that runs to switch itself off; false: its machine has no such button.
  bool press_power_button() { return vm_->press_power_button(); }

  // Ends the VM, if there is one: ended is called then.
  void end(EndCause cause, const std::string& detail);
  // The record of a VM that has ended; null: none has.
  const EndRecord* record() const { return record_; }

  RequestCounts& requests() { return requests_; }

  // What the VM has done so far; of one that was not started nothing.
  EndRecord report() const;
  ConsoleHub::Traffic console_traffic() const;
  std::vector<DeviceOptions> device_options() const;
  // Changes a device of a VM that runs, in the words of its own options. Throws ConfigError, HostError.
  void change_device(const std::string& name, const std::string& options) { vm_->change(name, options); }
  EventFeed& events() { return events_; }
  // The streams of all clients end with what they have.
  void end_streams();
  // For the metrics: from the process's start, as who started it says, until it serves.
  void set_startup(const StartupTimes& times) { startup_ = times; }
  // Of a VM that was started. Null: another client writes. Throws HostError.
  std::shared_ptr<ApiStream> open_console(bool writes) { return console_->open(writes); }

 private:
  // Of the devices' names those in the metrics: "block_rootfs" of "drives/rootfs".
  std::map<std::string, std::string> metrics_names() const;
  // A device is gone, which reported this before.
  void forget(const std::string& device, const std::vector<virtio::DeviceReport>& reports);
  DeviceConfig known_device(const Section& section, const std::string& id) const;
  void open_standard_console(Vm& vm);
  void keep_running_record();
  void publish_state();
  void watch_device_errors();
  void publish_device_errors();
  void on_end();
  void on_pause_wanted();
  void on_detached();
  void guarded(const std::function<void()>& work);

  Settings settings_;
  EventLoop& loop_;
  Logger& logger_;
  std::function<void()> ended_;
  MicrovmConfig config_;
  State state_ = State::not_started;  // as clients want it
  std::string device_pause_;
  EventFeed events_;
  std::optional<MetricsFile> metrics_;
  RequestCounts requests_;
  StartupTimes startup_;
  std::optional<std::chrono::microseconds> pause_took_;
  std::optional<std::chrono::microseconds> resume_took_;
  MetadataStore metadata_;
  std::optional<MetadataService> metadata_service_;
  Timer metrics_timer_;
  Timer retry_timer_;
  Timer errors_timer_;
  std::optional<Vm> vm_;
  std::optional<ConsoleLog> console_log_;
  std::optional<ConsoleService> console_;
  const EndRecord* record_ = nullptr;
  Fd serial_file_;
  std::optional<RawTerminal> terminal_;
  std::optional<ConsoleOutput> output_;
  std::optional<StandardInput> input_;
};

}  // namespace hum
