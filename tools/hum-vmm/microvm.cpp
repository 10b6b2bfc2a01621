// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/microvm.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "devices/registry.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds metrics_period{60};
constexpr std::chrono::seconds retry_delay{2};  // from a pause that a device wanted to the next try

// What the devices of a kind have done, summed up over their queues.
json device_metrics(const std::vector<virtio::DeviceReport>& reports, std::string_view kind) {
  json sums = json::object();
  const auto add = [&](const std::string& name, std::uint64_t value) {
    sums[name] = sums.value(name, std::uint64_t{0}) + value;
  };
  for (const virtio::DeviceReport& report : reports) {
    if (!report.name.starts_with(kind)) continue;
    for (const auto& own : report.counters) add(std::string(own.name), own.value);
    for (const auto& queue : report.queues) {
      add("requests", queue.requests);
      add("queue_event_count", queue.notifications);
      add("interrupts", queue.interrupts);
    }
  }
  return sums;
}

}  // namespace

Microvm::Microvm(Settings settings, EventLoop& loop, Logger& logger, std::function<void()> ended)
    : settings_(std::move(settings)),
      loop_(loop),
      logger_(logger),
      ended_(std::move(ended)),
      config_(settings_.transport),
      metadata_(settings_.most_metadata_bytes) {}

Microvm::~Microvm() {
  for (const int fd : {metrics_timer_.fd(), retry_timer_.fd()}) loop_.unwatch(fd);
  if (vm_)
    for (const int fd : {vm_->end_fd(), vm_->pause_wanted_fd()}) loop_.unwatch(fd);
  if (input_thread_) input_thread_->call([this] { input_.reset(); });
}

void Microvm::put(const Section& section, const json& checked) {
  if (&section == &sections::logger) {
    Logger::Settings settings;
    settings.most = log_level_from(checked.value("level", std::string("Info")));
    settings.show_level = checked.value("show_level", false);
    logger_.configure(checked.value("log_path", std::string()), settings);
  } else if (&section == &sections::metrics) {
    if (metrics_)
      throw ConfigError("metrics.metrics_path", checked["metrics_path"].get<std::string>(),
                        "the metrics go to a file already", "name it once");
    metrics_.emplace(checked["metrics_path"].get<std::string>());
  }
  const bool is_serial = &section == &sections::serial;
  Fd output;
  if (is_serial && checked.contains("serial_out_path") && !checked.contains("rate_limiter"))
    output = open_output(checked["serial_out_path"].get<std::string>());
  config_.put(section, checked);  // refuses the limit
  if (is_serial) serial_file_ = std::move(output);
}

void Microvm::patch(const Section& section, const json& checked) {
  if (!section.live) return config_.patch(section, checked);
  const bool is_list = !section.id_field.empty();
  const std::string id = is_list ? checked[std::string(section.id_field)].get<std::string>() : std::string();
  const auto device = config_.device_name(section, id);
  if (!device)
    throw ConfigError(std::string(is_list ? section.id_field : section.name), id, "there is none",
                      "give one that was put");
  const std::string changes = option_text(section.patch_fields, checked);
  if (!changes.empty()) vm_->change(*device, changes);
  config_.note_change(section, checked);
}

json Microvm::balloon_report() const {
  return device_metrics(vm_->device_reports(), "balloon");
}

json Microvm::memory_report() const {
  return device_metrics(vm_->device_reports(), "mem");
}

void Microvm::start_hinting(bool acknowledge) {
  const std::string device = *config_.device_name(sections::balloon);
  vm_->change(device, acknowledge ? "hinting-acknowledge=on" : "hinting-acknowledge=off");
  vm_->request(device, "start-hinting");
}

void Microvm::stop_hinting() {
  vm_->request(*config_.device_name(sections::balloon), "stop-hinting");
}

void Microvm::open_console(Vm& vm) {
  output_.emplace(vm.console(), serial_file_ ? serial_file_.get() : STDOUT_FILENO, vm.end_fd(),
                  ConsoleOutput::Slow::drop);
  const bool typed = ::isatty(STDIN_FILENO) != 0;
  // A terminal is the foreground's.
  if (serial_file_ || (typed && ::tcgetpgrp(STDIN_FILENO) != ::getpgrp())) return;
  if (typed) terminal_.emplace(STDIN_FILENO);
  input_thread_.emplace("hum-input");
  input_thread_->call([&] {
    input_.emplace(input_thread_->loop(), vm.console(), STDIN_FILENO, typed,
                   [&vm] { vm.end(EndCause::killed, "Ctrl-A x"); });
  });
}

void Microvm::start() {
  VmConfig config = config_.vm_config();
  if (const json& mmds = config_.get(sections::mmds_config); !mmds.is_null()) {
    const bool second = mmds.value("version", std::string("V1")) == "V2";
    metadata_service_.emplace(
        metadata_, MetadataService::Settings{
                       .version = second ? MetadataService::Version::v2 : MetadataService::Version::v1,
                       .imds_compat = mmds.value("imds_compat", false)});
    config.services.push_back(&*metadata_service_);
  }
  vm_.emplace(
      std::move(config), all_devices(),
      Log([this](LogLevel level, std::string_view text) { logger_.write(level, text); }, LogLevel::debug));
  try {
    open_console(*vm_);
    vm_->start();
  } catch (const std::exception&) {
    if (input_thread_) input_thread_->call([this] { input_.reset(); });
    input_thread_.reset();
    output_.reset();
    terminal_.reset();
    vm_.reset();
    throw;
  }
  state_ = State::running;
  loop_.watch(vm_->end_fd(), EventLoop::Interest::readable, [this] { on_end(); });
  loop_.watch(vm_->pause_wanted_fd(), EventLoop::Interest::readable,
              [this] { guarded([this] { on_pause_wanted(); }); });
  loop_.watch(metrics_timer_.fd(), EventLoop::Interest::readable, [this] {
    metrics_timer_.set(metrics_period);
    guarded([this] { flush_metrics(); });
  });
  metrics_timer_.set(metrics_period);
}

void Microvm::pause() {
  if (state_ == State::paused) return;
  if (vm_->pause()) state_ = State::paused;
}

void Microvm::resume() {
  if (state_ == State::running) return;
  vm_->resume();
  state_ = State::running;
}

// A client's own pause stays.
void Microvm::on_pause_wanted() {
  logger_.write(LogLevel::error, vm_->take_pause_reason() + "; the VM is paused until it succeeds");
  if (state_ == State::paused || !vm_->pause()) return;
  retry_timer_.set(retry_delay);
  loop_.watch(retry_timer_.fd(), EventLoop::Interest::readable, [this] {
    loop_.unwatch(retry_timer_.fd());
    guarded([this] {
      if (state_ == State::running && vm_->pause()) vm_->resume();
    });
  });
}

// For what nobody has asked for: an error is the VM's end, and not the loop's.
void Microvm::guarded(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    end(EndCause::host_error, error.what());
  }
}

void Microvm::press_power_button() {
  if (!vm_->press_power_button())
    throw ConfigError("action_type", "SendCtrlAltDel", "the machine has no device that tells the guest");
}

void Microvm::flush_metrics() {
  if (!metrics_) return;
  using namespace std::chrono;
  json line = {
      {"utc_timestamp_ms", duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count()},
      {"logger", {{"missed_log_count", logger_.lost()}, {"missed_metrics_count", metrics_->lost()}}}};
  for (const auto& [method, count] : requests_) {
    const std::string name = method + "_api_requests";
    line[name] = {{"count", count.count}, {"fails", count.fails}};
  }
  const std::vector<virtio::DeviceReport> reports =
      vm_ ? vm_->device_reports() : std::vector<virtio::DeviceReport>();
  for (const auto& [name, kind] : {std::pair("block", "disk"),
                                   {"pmem", "pmem"},
                                   {"net", "net"},
                                   {"entropy", "rng"},
                                   {"vsock", "vsock"},
                                   {"balloon", "balloon"},
                                   {"memory_hotplug", "mem"}})
    line[name] = device_metrics(reports, kind);
  metrics_->write(line.dump());
}

void Microvm::count_request(const std::string& method, bool failed) {
  Requests& requests = requests_[method];
  ++requests.count;
  requests.fails += failed ? 1 : 0;
}

void Microvm::end(EndCause cause, const std::string& detail) {
  if (vm_) vm_->end(cause, detail);
}

void Microvm::on_end() {
  for (const int fd : {vm_->end_fd(), vm_->pause_wanted_fd(), retry_timer_.fd()}) loop_.unwatch(fd);
  record_ = &vm_->wait();
  flush_metrics();
  ended_();
}

}  // namespace hum
