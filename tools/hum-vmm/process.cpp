// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/process.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "devices/boot_timer.h"
#include "tools/hum-vmm/api_gate.h"
#include "tools/hum-vmm/api_server.h"
#include "tools/hum-vmm/dialect.h"
#include "tools/hum-vmm/microvm.h"
#include "tools/hum-vmm/own_paths.h"
#include "tools/hum-vmm/seccomp.h"
#include "tools/hum/exit_codes.h"
#include "vmm/base/errors.h"
#include "vmm/machine/end_record.h"

namespace hum {
namespace {

constexpr std::chrono::seconds stream_patience{1};  // for clients that have not read all at the end

sigset_t ending_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, signal);
  return set;
}

// Never returns: whoever waits for this process sees the signal.
[[noreturn]] void die_of(int signal) {
  std::signal(signal, SIG_DFL);
  ::raise(signal);
  const sigset_t set = ending_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::_exit(exit_signal + signal);
}

int code_of(const EndRecord& record) {
  switch (record.cause) {
    case EndCause::debug_exit:
      return exit_code_of(record);
    case EndCause::internal_error:
    case EndCause::host_error:
      return vmm_exit_failed;
    default:
      return exit_ok;
  }
}

void tell_end(Logger& logger, const EndRecord& record) {
  logger.write(is_orderly(record.cause) ? LogLevel::info : LogLevel::error,
               "the VM has ended: " + std::string(to_string(record.cause)) +
                   (record.detail.empty() ? "" : ": " + record.detail));
}

// From the times that the command line has to now. A start that has not come yet has taken no time.
StartupTimes startup_of(const VmmArguments& arguments) {
  const auto since = [](std::uint64_t from, std::chrono::microseconds to) {
    return std::max(to - std::chrono::microseconds(from), std::chrono::microseconds(0));
  };
  const BootMoment now = BootMoment::now();
  StartupTimes times;
  if (arguments.start_time_us) times.took = since(*arguments.start_time_us, now.wall);
  if (arguments.start_time_cpu_us)
    times.cpu_took = since(*arguments.start_time_cpu_us, now.cpu) +
                     std::chrono::microseconds(arguments.parent_cpu_time_us);
  return times;
}

void configure(Microvm& vm, const VmmArguments& arguments) {
  if (!arguments.metrics_path.empty()) vm.put(sections::metrics, {{"metrics_path", arguments.metrics_path}});
  if (!arguments.metadata.empty() &&
      vm.metadata().put(file_content(arguments.metadata)) != MetadataStore::Change::done)
    throw ConfigError("--metadata", arguments.metadata, "no JSON, or more than --mmds-size-limit allows");
  if (arguments.config_file.empty()) return;
  load_config(vm, file_content(arguments.config_file));
  vm.start();
}

// What is in the file of the record where the VM's own is not: that this process runs, from its first moment
// on, and how it ended without a VM.
class ProcessRecord {
 public:
  // Throws ConfigError, HostError.
  explicit ProcessRecord(const std::string& path) {
    if (path.empty()) return;
    file_.emplace(path);
    file_->write(EndRecord());
  }

  void end(EndCause cause, const std::string& detail) const {
    if (!file_) return;
    EndRecord record;
    record.cause = cause;
    record.detail = detail;
    try {
      file_->write(record);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "hum-vmm: %s\n", error.what());
    }
  }

 private:
  std::optional<RecordFile> file_;
};

// The filters of this thread and of all that it starts from now on.
class Confinement {
 public:
  Confinement(const VmmArguments& arguments, Logger& logger) {
    if (!arguments.seccomp_filter.empty())
      logger.write(LogLevel::warning,
                   "--seccomp-filter " + arguments.seccomp_filter +
                       " is made for another program's threads: hum-vmm's own filters are in force");
    if (arguments.no_seccomp || !SeccompFilters::supported()) {
      const char* const why = arguments.no_seccomp ? "--no-seccomp" : "a build with sanitizers";
      logger.write(LogLevel::warning, std::string("system calls are not restricted: ") + why);
      return;
    }
    filters_.emplace(logger.descriptor());
    hook_new_threads(&hook_);
    filters_->apply(ThreadKind::owner);
  }
  ~Confinement() { hook_new_threads(nullptr); }
  Confinement(const Confinement&) = delete;
  Confinement& operator=(const Confinement&) = delete;

 private:
  std::optional<SeccompFilters> filters_;
  const ThreadHook hook_ = [this](const std::string& name) { filters_->apply(thread_kind(name)); };
};

// Whoever waits for it may have gone.
void tell_ready(const Fd& descriptor) {
  if (descriptor) std::ignore = ::write(descriptor.get(), "\n", 1);
}

// Before the server's end, which waits for the call that it has made.
struct Closing {
  ApiGate& gate;
  ~Closing() { gate.close(); }
};

int serve(const VmmArguments& arguments, const ProcessRecord& record) {
  Fd ready(arguments.ready_fd);
  const sigset_t set = ending_signals();
  const Fd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) throw HostError(errno, "watch for signals");

  Logger logger(arguments.id);
  logger.configure(arguments.log_path,
                   {.most = log_level_from(arguments.level), .show_level = arguments.show_level});
  const Confinement confinement(arguments, logger);
  EventLoop loop;
  int ending_signal = 0;
  std::optional<int> code;
  {
    Microvm vm({.id = arguments.id,
                .transport = arguments.pci ? Transport::pci : Transport::mmio,
                .most_metadata_bytes = arguments.most_metadata_bytes.value_or(arguments.most_body_bytes),
                .boot_timer = arguments.boot_timer,
                .has_clients = !arguments.no_api,
                .record = arguments.record,
                .console_log = arguments.console_log},
               loop, logger, [&loop] { loop.stop(); });
    ApiGate gate(loop, [&vm](const ApiRequest& request) {
      return is_own_path(request.path) ? answer_own(vm, request) : answer(vm, request);
    });
    std::optional<HttpThread> server;
    if (!arguments.no_api)
      server.emplace(api_server_settings(arguments.api_sock, arguments.most_body_bytes),
                     [&gate](const ApiRequest& request) { return gate.call(request); });
    const Closing closing{gate};
    vm.set_startup(startup_of(arguments));
    try {
      configure(vm, arguments);
    } catch (const std::exception& error) {
      logger.write(LogLevel::error, error.what());
      record.end(EndCause::host_error, error.what());
      return vmm_exit_bad_configuration;
    }
    tell_ready(ready);
    ready.reset();
    loop.watch(signals.get(), EventLoop::Interest::readable, [&] {
      signalfd_siginfo info{};
      if (::read(signals.get(), &info, sizeof info) != sizeof info) return;
      ending_signal = static_cast<int>(info.ssi_signo);
      const std::string detail = "signal " + std::to_string(ending_signal);
      if (vm.state() != Microvm::State::not_started) return vm.end(EndCause::signal, detail);
      record.end(EndCause::signal, detail);
      loop.stop();
    });
    loop.run();
    if (vm.record() != nullptr) {
      tell_end(logger, *vm.record());
      code = code_of(*vm.record());
    }
    gate.close();
    vm.end_streams();
    if (server) server->finish(stream_patience);
  }
  if (ending_signal == SIGHUP) return vmm_exit_hangup;
  if (ending_signal != 0) die_of(ending_signal);
  return code.value_or(exit_ok);
}

}  // namespace

int run_vmm(const VmmArguments& arguments) {
  const sigset_t set = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // A reader that has gone, and a file as large as it may be, are errors of the write.
  for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
  const ProcessRecord record(arguments.record);
  try {
    return serve(arguments, record);
  } catch (const std::exception& error) {
    record.end(EndCause::host_error, error.what());
    throw;
  }
}

}  // namespace hum
