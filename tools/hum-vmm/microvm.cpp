// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/microvm.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

#include "devices/boot_timer.h"
#include "devices/registry.h"
#include "tools/hum-vmm/own_device.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds metrics_period{60};
constexpr std::chrono::seconds errors_period{1};
constexpr std::chrono::seconds retry_delay{2};  // from a pause that a device wanted to the next try

template <class Work>
std::chrono::microseconds time_of(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
}

}  // namespace

Microvm::Microvm(Settings settings, EventLoop& loop, Logger& logger, std::function<void()> ended)
    : settings_(std::move(settings)),
      loop_(loop),
      logger_(logger),
      ended_(std::move(ended)),
      config_(settings_.transport),
      metadata_(settings_.most_metadata_bytes) {
  if (settings_.console_log) console_log_.emplace(*settings_.console_log, loop_, logger_);
}

Microvm::~Microvm() {
  for (const int fd : {metrics_timer_.fd(), retry_timer_.fd(), errors_timer_.fd()}) loop_.unwatch(fd);
  if (vm_)
    for (const int fd : {vm_->end_fd(), vm_->pause_wanted_fd(), vm_->device_errors_fd(), vm_->detached_fd()})
      loop_.unwatch(fd);
}

void Microvm::put(const Section& section, const json& checked) {
  if (&section == &sections::logger) {
    Logger::Settings settings;
    settings.most = log_level_from(checked.value("level", std::string("Info")));
    settings.show_level = checked.value("show_level", logger_.settings().show_level);
    logger_.configure(checked.value("log_path", std::string()), settings);
  } else if (&section == &sections::metrics) {
    if (metrics_)
      throw ConfigError("metrics.metrics_path", checked["metrics_path"].get<std::string>(),
                        "the metrics go to a file already", "name it once");
    json extra = json::object();
    if (checked.value("emit_id", false)) extra["id"] = settings_.id;
    if (checked.contains("properties")) extra["properties"] = checked["properties"];
    metrics_.emplace(checked["metrics_path"].get<std::string>(), extra);
  }
  const bool is_serial = &section == &sections::serial;
  Fd output;
  if (is_serial && checked.contains("serial_out_path"))
    output = open_output(checked["serial_out_path"].get<std::string>());
  config_.put(section, checked);
  if (is_serial) serial_file_ = std::move(output);
}

void Microvm::patch(const Section& section, const json& checked) {
  if (!section.live) return config_.patch(section, checked);
  const std::string id =
      section.id_field.empty() ? "" : checked[std::string(section.id_field)].get<std::string>();
  const DeviceConfig device = known_device(section, id);
  const std::string changes = option_text(section.patch_fields, checked);
  try {
    if (!changes.empty()) vm_->change(device.name, changes);
  } catch (const ConfigError& error) {
    throw in_fields(section.path, section.patch_fields, error);
  }
  config_.note_change(section, checked);
}

DeviceConfig Microvm::known_device(const Section& section, const std::string& id) const {
  std::optional<DeviceConfig> device = config_.device(section, id);
  if (!device)
    throw ConfigError(std::string(section.id_field.empty() ? section.name : section.id_field), id,
                      "there is none", "give one that was put");
  return std::move(*device);
}

void Microvm::attach(const Section& section, const json& checked) {
  const std::string id = checked[std::string(section.id_field)].get<std::string>();
  if (config_.device(section, id))
    throw ConfigError(std::string(section.id_field), id, "is taken", "give another, or DELETE that one");
  for (const std::string flag : {"is_root_device", "root_device"})
    if (checked.value(flag, false))
      throw ConfigError(std::string(section.path) + "." + flag, "true", "comes too late", "give false");
  config_.put(section, checked);
  const DeviceConfig device = known_device(section, id);
  try {
    vm_->attach(device);
  } catch (const ConfigError& error) {
    config_.remove(device.name);
    throw in_dialect(error);
  } catch (const std::exception&) {
    config_.remove(device.name);
    throw;
  }
}

void Microvm::detach(const Section& section, const std::string& id) {
  const DeviceConfig device = known_device(section, id);
  if (state() == State::not_started) return config_.remove(device.name);
  if (config_.is_root(device.name))
    throw ConfigError(std::string(section.id_field), id, "is the root device, which stays");
  const std::vector<virtio::DeviceReport> reports = vm_->device_reports();
  if (vm_->detach(device.name)) forget(device.name, reports);
}

void Microvm::forget(const std::string& device, const std::vector<virtio::DeviceReport>& reports) {
  for (const virtio::DeviceReport& each : reports)
    if (metrics_ && each.own_name == device) metrics_->remove(each, metrics_names()[device]);
  config_.remove(device);
}

void Microvm::on_detached() {
  const std::vector<virtio::DeviceReport> reports = vm_->device_reports();
  for (const std::string& name : vm_->take_detached()) {
    logger_.write(LogLevel::info, "the guest has let " + name + " go");
    forget(name, reports);
    events_.publish("device-gone", {{"device", name}});
  }
}

json Microvm::report_of(const Section& section) const {
  json rows = json::object();
  for (const virtio::DeviceReport& each : vm_->device_reports())
    if (each.own_name == section.name)
      for (const auto& row : each.counters) rows[std::string(row.name)] = row.value;
  return rows;
}

void Microvm::start_hinting(bool acknowledge) {
  const std::string device(sections::balloon.name);
  vm_->change(device, acknowledge ? "hinting-acknowledge=on" : "hinting-acknowledge=off");
  vm_->request(device, "start-hinting");
}

void Microvm::stop_hinting() {
  vm_->request(sections::balloon.name, "stop-hinting");
}

void Microvm::open_standard_console(Vm& vm) {
  output_.emplace(vm.console(), serial_file_ ? serial_file_.get() : STDOUT_FILENO, vm.end_fd(),
                  ConsoleOutput::Slow::drop);
  const bool typed = ::isatty(STDIN_FILENO) != 0;
  // A terminal is the foreground's.
  if (serial_file_ || (typed && ::tcgetpgrp(STDIN_FILENO) != ::getpgrp())) return;
  if (typed) terminal_.emplace(STDIN_FILENO);
  input_.emplace(loop_, vm.console(), typed, [&vm] { vm.end(EndCause::killed, "Ctrl-A x"); });
}

void Microvm::start() {
  const BootMoment now = BootMoment::now();
  VmConfig config = config_.vm_config();
  config.record = settings_.record;
  if (settings_.boot_timer)
    config.devices.push_back({"boot-timer", "since-us=" + std::to_string(now.wall.count()) +
                                                ",since-cpu-us=" + std::to_string(now.cpu.count())});
  if (const json& mmds = config_.get(sections::mmds_config); !mmds.is_null()) {
    const bool second = mmds.value("version", std::string("V1")) == "V2";
    metadata_service_.emplace(
        metadata_, MetadataService::Settings{
                       .version = second ? MetadataService::Version::v2 : MetadataService::Version::v1,
                       .imds_compat = mmds.value("imds_compat", false)});
    config.services.push_back(&*metadata_service_);
  }
  try {
    vm_.emplace(
        std::move(config), all_devices(),
        Log([this](LogLevel level, std::string_view text) { logger_.write(level, text); }, LogLevel::debug));
  } catch (const ConfigError& error) {
    throw in_dialect(error);
  }
  try {
    if (console_log_) console_log_->read(vm_->console());
    open_standard_console(*vm_);
    vm_->start();
  } catch (const std::exception&) {
    input_.reset();
    output_.reset();
    terminal_.reset();
    if (console_log_) console_log_->finish();
    vm_.reset();
    keep_running_record();
    throw;
  }
  state_ = State::running;
  console_.emplace(vm_->console());
  publish_state();
  watch_device_errors();
  loop_.watch(vm_->end_fd(), EventLoop::Interest::readable, [this] { on_end(); });
  loop_.watch(vm_->pause_wanted_fd(), EventLoop::Interest::readable,
              [this] { guarded([this] { on_pause_wanted(); }); });
  if (hotplug())
    loop_.watch(vm_->detached_fd(), EventLoop::Interest::readable,
                [this] { guarded([this] { on_detached(); }); });
  loop_.watch(metrics_timer_.fd(), EventLoop::Interest::readable, [this] {
    metrics_timer_.set(metrics_period);
    guarded([this] { flush_metrics(); });
  });
  metrics_timer_.set(metrics_period);
}

// In the place of that of a VM whose start has failed.
void Microvm::keep_running_record() {
  if (settings_.record.empty()) return;
  try {
    RecordFile(settings_.record).write(EndRecord());
  } catch (const std::exception& error) {
    logger_.write(LogLevel::error, error.what());
  }
}

void Microvm::pause() {
  if (state_ == State::paused) return;
  bool paused = false;
  pause_took_ = time_of([&] { paused = vm_->pause(); });
  if (!paused) return;
  state_ = State::paused;
  publish_state();
}

// Of a pause that a device wanted it is the next try.
void Microvm::resume() {
  if (state() == State::running) return;
  loop_.unwatch(retry_timer_.fd());
  resume_took_ = time_of([this] { vm_->resume(); });
  state_ = State::running;
  device_pause_.clear();
  publish_state();
}

// A client's own pause stays.
void Microvm::on_pause_wanted() {
  std::string reason = vm_->take_pause_reason();
  if (reason.empty()) return;
  logger_.write(LogLevel::error, reason + "; the VM is paused until it succeeds");
  if (state_ == State::paused || !vm_->pause()) return;
  device_pause_ = std::move(reason);
  publish_state();
  retry_timer_.set(retry_delay);
  loop_.watch(retry_timer_.fd(), EventLoop::Interest::readable, [this] {
    loop_.unwatch(retry_timer_.fd());
    guarded([this] {
      if (state_ == State::running && vm_->pause()) resume();
    });
  });
}

void Microvm::publish_state() {
  json data = {{"state", state() == State::paused ? "paused" : "running"}};
  if (state_ == State::paused) data["paused_by"] = "client";
  if (state_ == State::running && !device_pause_.empty()) {
    data["paused_by"] = "device";
    data["reason"] = device_pause_;
  }
  events_.publish("state", data);
}

// A guest may break its devices as often as it likes, and is heard from time to time.
void Microvm::watch_device_errors() {
  loop_.watch(vm_->device_errors_fd(), EventLoop::Interest::readable, [this] {
    publish_device_errors();
    loop_.unwatch(vm_->device_errors_fd());
    errors_timer_.set(errors_period);
    loop_.watch(errors_timer_.fd(), EventLoop::Interest::readable, [this] {
      loop_.unwatch(errors_timer_.fd());
      watch_device_errors();
    });
  });
}

void Microvm::publish_device_errors() {
  std::set<std::string> told;
  for (const DeviceError& each : vm_->take_device_errors())
    if (told.insert(each.device).second)
      events_.publish("device-error", {{"device", each.device}, {"reason", each.reason}});
}

// For what nobody has asked for: an error is the VM's end, and not the loop's.
void Microvm::guarded(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    end(EndCause::host_error, error.what());
  }
}

void Microvm::press_ctrl_alt_del() {
  if (!vm_->press_ctrl_alt_del())
    throw ConfigError("action_type", "SendCtrlAltDel", "the guest does not take keys now",
                      "try again when it has started");
}

std::map<std::string, std::string> Microvm::metrics_names() const {
  std::map<std::string, std::string> names;
  for (const auto& [section, prefix] :
       {std::pair(&sections::drives, "block_"), {&sections::network_interfaces, "net_"}})
    for (const json& each : config_.get(*section)) {
      const auto id = each[std::string(section->id_field)].get<std::string>();
      names[config_.device(*section, id)->name] = prefix + id;
    }
  return names;
}

void Microvm::flush_metrics() {
  if (!metrics_) return;
  metrics_->write({.requests = requests_,
                   .lost_log_lines = logger_.lost(),
                   .record = report(),
                   .console = console_traffic(),
                   .names = metrics_names(),
                   .startup = startup_,
                   .pause_took = pause_took_,
                   .resume_took = resume_took_});
}

void Microvm::end_streams() {
  events_.end();
  if (console_) console_->end();
}

EndRecord Microvm::report() const {
  return vm_ ? vm_->record() : EndRecord();
}

ConsoleHub::Traffic Microvm::console_traffic() const {
  return vm_ ? vm_->console().traffic() : ConsoleHub::Traffic();
}

std::vector<DeviceOptions> Microvm::device_options() const {
  std::vector<DeviceOptions> devices = vm_ ? vm_->device_options() : std::vector<DeviceOptions>();
  // Not yet with a VM, or with no options that may change.
  for (const json& each : config_.get(sections::own_devices))
    if (std::none_of(devices.begin(), devices.end(),
                     [&](const DeviceOptions& known) { return each["name"] == known.name; }))
      devices.push_back(own_device_options(each));
  return devices;
}

void Microvm::end(EndCause cause, const std::string& detail) {
  if (vm_) vm_->end(cause, detail);
}

void Microvm::on_end() {
  for (const int fd : {vm_->end_fd(), vm_->pause_wanted_fd(), vm_->device_errors_fd(), retry_timer_.fd(),
                       errors_timer_.fd()})
    loop_.unwatch(fd);
  if (hotplug()) loop_.unwatch(vm_->detached_fd());
  record_ = &vm_->wait();
  if (console_log_) console_log_->finish();
  publish_device_errors();
  if (settings_.has_clients) {
    if (record_->cause == EndCause::panic) events_.publish("guest-panic", json::object());
    events_.publish_text("end", record_->to_json(-1));
  }
  end_streams();
  flush_metrics();
  ended_();
}

}  // namespace hum
