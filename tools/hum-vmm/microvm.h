// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "devices/mmds/metadata_service.h"
#include "devices/mmds/metadata_store.h"
#include "tools/hum-vmm/line_file.h"
#include "tools/hum-vmm/logger.h"
#include "tools/hum-vmm/microvm_config.h"
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
  };

  // ended is called once, by the loop. Both references outlive the VM.
  Microvm(Settings settings, EventLoop& loop, Logger& logger, std::function<void()> ended);
  ~Microvm();
  Microvm(const Microvm&) = delete;
  Microvm& operator=(const Microvm&) = delete;

  const std::string& id() const { return settings_.id; }
  State state() const { return state_; }
  const MicrovmConfig& config() const { return config_; }
  // What the guest is told by its interfaces with the metadata service; may change at any time.
  MetadataStore& metadata() { return metadata_; }

  // What a PUT, or a config file, says of a section. Before the start. Throws ConfigError, HostError.
  void put(const Section& section, const nlohmann::json& checked);
  // Changes the machine before the start, or a device of a VM that runs. Throws ConfigError, HostError.
  void patch(const Section& section, const nlohmann::json& checked);

  // Of a VM that runs and has a balloon: what it reports (BalloonDevice), the numbers by their names.
  nlohmann::json balloon_report() const;
  // The same of the memory that can be plugged (MemDevice).
  nlohmann::json memory_report() const;
  // Has the balloon ask for the guest's free pages, which with acknowledge are the guest's again as soon as
  // it has told of all; or ends that. Each throws ConfigError.
  void start_hinting(bool acknowledge);
  void stop_hinting();

  // Each throws ConfigError, HostError.
  void start();
  void pause();
  void resume();
  void flush_metrics();
  // The operator's request to switch off, as far as the guest has a device for it.
  void press_power_button();

  // Ends the VM, if there is one: ended is called then.
  void end(EndCause cause, const std::string& detail);
  // The record of a VM that has ended; null: none has.
  const EndRecord* record() const { return record_; }

  // For the metrics.
  void count_request(const std::string& method, bool failed);

 private:
  void open_console(Vm& vm);
  void on_end();
  void on_pause_wanted();
  void guarded(const std::function<void()>& work);

  Settings settings_;
  EventLoop& loop_;
  Logger& logger_;
  std::function<void()> ended_;
  MicrovmConfig config_;
  State state_ = State::not_started;
  std::optional<LineFile> metrics_;
  struct Requests {
    std::uint64_t count = 0;
    std::uint64_t fails = 0;
  };
  std::map<std::string, Requests> requests_;  // by method
  MetadataStore metadata_;
  std::optional<MetadataService> metadata_service_;
  Timer metrics_timer_;
  Timer retry_timer_;
  std::optional<Vm> vm_;
  const EndRecord* record_ = nullptr;
  Fd serial_file_;
  std::optional<RawTerminal> terminal_;
  std::optional<ConsoleOutput> output_;
  std::optional<IoThread> input_thread_;  // the guest may make the console wait, never the loop
  std::optional<ConsoleInput> input_;
};

}  // namespace hum
