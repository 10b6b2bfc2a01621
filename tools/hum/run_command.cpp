// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/run_command.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "devices/registry.h"
#include "guest-tests/monitor/monitor_image.h"
#include "tools/hum/guest/guest.h"
#include "tools/hum/guest/job.h"
#include "tools/hum/kernel_store.h"
#include "tools/hum/run_network.h"
#include "tools/hum/session.h"
#include "tools/hum/terminal.h"
#include "vmm/base/errors.h"
#include "vmm/kvm/probe.h"
#include "vmm/machine/vm.h"

namespace hum {
namespace {

constexpr std::string_view base_cmdline = "console=ttyS0 panic=-1 reboot=panic_warm noreplace-smp";

std::string option_help(const OptionSpec& spec) {
  std::string text(spec.help);
  text += " (" + describe_accepted(spec);
  if (!spec.default_value.empty()) text += "; default " + std::string(spec.default_value);
  return text + ")";
}

// A file in memory that holds a kernel which is part of this program.
Fd file_in_memory(std::span<const std::byte> content) {
  Fd file(::memfd_create("monitor", MFD_CLOEXEC));
  if (!file || ::write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()))
    throw HostError(errno, "keep the built-in monitor in memory");
  return file;
}

std::string path_of(const Fd& file) {
  return "/proc/self/fd/" + std::to_string(file.get());
}

void log_to_stderr(LogLevel level, std::string_view text) {
  std::fprintf(stderr, "hum: %.*s: %.*s\n", static_cast<int>(to_string(level).size()),
               to_string(level).data(), static_cast<int>(text.size()), text.data());
}

// A command's descriptors as ports of a virtio console, and our end of its control port.
struct CommandPorts {
  Fd ours;
  Fd guests;
  std::string device_options;

  explicit CommandPorts(bool terminal) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
      throw HostError(errno, "make the command's control channel");
    ours = Fd(pair[0]);
    guests = Fd(pair[1]);
    const std::string control = std::to_string(guests.get());
    device_options = std::string("ports=") + hum_port_stdin + ":0:-+" + hum_port_stdout + ":-:1+" +
                     hum_port_control + ":" + control + ":" + control;
    if (!terminal) device_options += std::string("+") + hum_port_stderr + ":-:2";
  }
};

// What is booted, and how we came to it.
struct Choice {
  Fd monitor;  // the built-in monitor, if that is it
  bool linux_guest =
      true;  // as far as one can tell: a bzImage, a stored kernel, or what gets an initrd or a root
};

bool looks_like_linux(const RunOptions& options) {
  std::array<char, 4> magic{};
  const Fd file(::open(options.kernel.c_str(), O_RDONLY | O_CLOEXEC));
  const bool bzimage = ::pread(file.get(), magic.data(), magic.size(), 0x202) == 4 &&
                       std::string_view(magic.data(), magic.size()) == "HdrS";
  const auto names_root = [](const std::string& text) { return text.find("root=") != std::string::npos; };
  return bzimage || !options.initrd.empty() || !options.command.empty() ||
         names_root(options.cmdline.value_or("")) ||
         std::any_of(options.append.begin(), options.append.end(), names_root);
}

Choice choose_kernel(const RunOptions& options, bool command, VmConfig& config) {
  BootRequest& boot = config.boot;
  Choice choice;
  boot.kernel_path = options.kernel;
  boot.initrd_path = options.initrd;
  const bool stored_kernel = options.kernel.empty();
  choice.linux_guest = stored_kernel || looks_like_linux(options);
  if (stored_kernel || (command && options.initrd.empty())) {
    if (const auto stored = default_kernel()) {
      if (stored_kernel) boot.kernel_path = stored->kernel_path;
      if (options.initrd.empty()) boot.initrd_path = stored->initrd_path;
    } else if (command) {
      throw ConfigError("kernel", "", "no guest kernel with a root file system is at hand to run a command",
                        "fetch one with 'hum kernel get'");
    }
  }
  if (boot.kernel_path.empty()) {
    if (!options.initrd.empty())
      throw ConfigError("initrd", options.initrd, "there is no kernel to go with it",
                        "add --kernel, or fetch one with 'hum kernel get'");
    choice.monitor = file_in_memory(monitor_image());
    choice.linux_guest = false;
    boot.kernel_path = path_of(choice.monitor);
    config.kernel_name = "built-in monitor";
    std::fputs(
        "hum: no guest kernel is at hand ('hum kernel get' fetches one): booting the built-in monitor\n",
        stderr);
  }
  boot.command_line = options.cmdline.value_or(std::string(base_cmdline) + (stored_kernel ? " quiet" : ""));
  for (const std::string& more : options.append)
    boot.command_line += (boot.command_line.empty() ? "" : " ") + more;
  return choice;
}

// As long as the guest of a slow host may take for an address that passt has ready.
constexpr std::uint16_t dhcp_patience = 3000;

Job job_of(const RunOptions& options, const RunNetwork& network, bool terminal) {
  Job job;
  if (!network.devices.empty()) job.network_patience = network.has_dhcp ? dhcp_patience : std::uint16_t{0};
  job.arguments = options.command;
  job.environment = options.environment;
  job.directory = options.directory;
  if (!options.hostname.empty()) job.hostname = options.hostname;
  const bool has_terminal = terminal || (options.command.empty() && ::isatty(STDIN_FILENO) != 0);
  if (has_terminal) {
    const auto size = terminal_size(STDIN_FILENO);
    job.terminal = Job::TerminalSize{};
    if (size)
      job.terminal = {static_cast<std::uint16_t>(size->first), static_cast<std::uint16_t>(size->second)};
    if (const char* term = std::getenv("TERM"))
      job.environment.insert(job.environment.begin(), std::string("TERM=") + term);
  }
  return job;
}

void warn_if_emulated() {
  if (supervisor_nanoseconds_per_instruction(Kvm()) < emulated_supervisor_nanoseconds) return;
  std::fputs(
      "hum: warning: this host's KVM emulates kernel code, about a thousand times slower than hardware: a "
      "distribution's kernel will not get to its first message here; run it in the lab: tools/lab hum run "
      "...\n",
      stderr);
}

SessionOptions::Console console_mode(const RunOptions& options, bool command) {
  if (options.console == "none" || (options.console == "auto" && command))
    return SessionOptions::Console::none;
  if (options.console == "auto" || options.console == "stdio") return SessionOptions::Console::stdio;
  if (options.console.starts_with("file=")) return SessionOptions::Console::file;
  throw ConfigError("console", options.console, "not accepted", "give auto, stdio, none or file=PATH");
}

// Where unpacked kernels are kept; nowhere for a user without a home.
std::string unpacked_folder() {
  try {
    return (kernel_store_folder().parent_path() / "unpacked").string();
  } catch (const ConfigError&) {
    return {};
  }
}

// What the user sees when a VM did not end well.
void report_end(const EndRecord& record, bool console_shown) {
  const bool well = record.cause == EndCause::power_off || record.cause == EndCause::reboot ||
                    record.cause == EndCause::killed || record.cause == EndCause::signal ||
                    (record.cause == EndCause::debug_exit && record.guest_exit_code != hum_exit_failure);
  if (well) return;
  if (!console_shown)
    for (const std::string& line : record.console) std::fprintf(stderr, "%s\n", line.c_str());
  const std::string cause(to_string(record.cause));
  std::fprintf(stderr, "hum: the VM ended: %s%s%s", cause.c_str(), record.detail.empty() ? "" : ": ",
               record.detail.c_str());
  if (record.instruction_pointer)
    std::fprintf(stderr, ", vCPU %u at rip %#llx%s%s%s", record.ended_vcpu,
                 static_cast<unsigned long long>(*record.instruction_pointer),
                 record.symbol.empty() ? "" : " (", record.symbol.c_str(), record.symbol.empty() ? "" : ")");
  std::fputc('\n', stderr);
}

void add_seconds(CLI::App& app, const std::string& key, unsigned& seconds, const std::string& help) {
  static constexpr OptionSpec spec{
      .key = "", .type = OptionType::integer, .help = "", .maximum = 366 * 86400};
  app.add_option_function<std::string>(
         "--" + key,
         [&seconds, key](const std::string& text) {
           seconds = static_cast<unsigned>(std::get<std::uint64_t>(parse_option(key, spec, text)));
         },
         help)
      ->type_name("SECONDS")
      ->group("Session");
}

// Without the network where that cannot be had and nobody has asked for it.
Vm& make_vm(std::optional<Vm>& vm, VmConfig config, const RunNetwork& network, const Log& log) {
  if (!network.dispensable) return vm.emplace(std::move(config), all_devices(), log);
  try {
    return vm.emplace(config, all_devices(), log);
  } catch (const ConfigError& error) {
    if (error.key() != "net") throw;
    tell_of_no_network(error.what());
  }
  std::erase_if(config.devices, [](const DeviceConfig& device) { return device.kind == "net"; });
  return vm.emplace(std::move(config), all_devices(), log);
}

}  // namespace

void add_run_options(CLI::App& app, RunOptions& options) {
  app.add_option("-k,--kernel", options.kernel,
                 "guest kernel: a Linux bzImage, or an ELF image by PVH note, 64-bit entry or multiboot "
                 "(default: the newest of 'hum kernel list', else the built-in monitor)")
      ->group("Boot");
  app.add_option("-i,--initrd", options.initrd,
                 "initial RAM disk (default: the one that came with the kernel)")
      ->group("Boot");
  // Not bound to the optional itself: an empty text would leave that without a value.
  app.add_option_function<std::string>(
         "--cmdline", [&options](const std::string& text) { options.cmdline = text; },
         "the kernel's command line, instead of '" + std::string(base_cmdline) + " quiet'")
      ->group("Boot");
  app.add_option("-a,--append", options.append, "added to the command line; may be repeated")->group("Boot");
  app.add_option("--module", options.modules, "a multiboot module: FILE or FILE=STRING; may be repeated")
      ->group("Boot");
  for (const OptionSpec& spec : machine_options()) {
    const std::string key(spec.key);
    const std::string flags = (key == "cpus" ? "-c," : key == "memory" ? "-m," : "") + ("--" + key);
    auto* const option = app.add_option_function<std::string>(
        flags, [&options, key](const std::string& text) { options.machine[key] = text; }, option_help(spec));
    option->group(key == "boot" ? "Boot" : "Machine")
        ->type_name(spec.type == OptionType::choice    ? std::string(spec.choices)
                    : spec.type == OptionType::boolean ? "on|off"
                    : spec.type == OptionType::size    ? "SIZE"
                                                       : "N");
  }
  app.add_option("-d,--disk", options.disks,
                 "a disk: PATH[,readonly=on][,cache=direct]..., see hum devices; may be repeated")
      ->type_name("SPEC")
      ->group("Devices");
  app.add_option("--net", options.networks,
                 "a network: user (the default of a Linux guest; needs passt, but no root), tap=NAME, "
                 "bridge=NAME, macvtap=NAME, vhost-user=SOCKET or none, and more options behind it, see hum "
                 "devices; may be repeated")
      ->type_name("SPEC")
      ->group("Devices");
  app.add_option("-p,--publish", options.publish,
                 "a port of this host that leads to one of the guest, in a user network: "
                 "[ADDRESS:]HOST:GUEST[/udp]; may be repeated")
      ->type_name("PORTS")
      ->group("Devices");
  app.add_option("--device", options.devices,
                 "any device: KIND[,KEY=VALUE...]; 'hum devices' lists the kinds; may be repeated")
      ->type_name("SPEC")
      ->group("Devices");
  app.add_flag_callback(
         "--no-rng", [&options] { options.random = false; }, "leave out the entropy device")
      ->group("Devices");
  app.add_option("--console", options.console,
                 "where the serial console goes: auto, stdio, none or file=PATH (auto: stdio, or none with a "
                 "command)")
      ->group("Session");
  app.add_option("--record", options.record, "keep a JSON record of the VM's life in this file")
      ->group("Session");
  app.add_option(
         "--symbols", options.symbols,
         "names for the addresses in the record: a vmlinux or a System.map (default: the kernel's own, "
         "where it is an ELF image)")
      ->type_name("FILE")
      ->group("Session");
  app.add_option("-e,--env", options.environment, "NAME=VALUE for the command; may be repeated")
      ->group("Session");
  app.add_option("-w,--workdir", options.directory, "where the command starts")->group("Session");
  app.add_option("--hostname", options.hostname, "the guest's host name (default: hum)")->group("Session");
  add_seconds(app, "stop-timeout", options.stop_timeout,
              "seconds between the power button and the kill when a signal ends the VM (default: 10)");
  add_seconds(app, "timeout", options.timeout,
              "end the VM after so many seconds, with exit code 124 (default: never)");
  app.add_flag("-v,--verbose", options.verbosity, "show what is done; twice: more")->group("Session");
  app.footer(
      "Behind -- stands a command that is the guest's only job; its input, output and exit code are "
      "hum's.\n\n"
      "Examples:\n"
      "  hum run                                      a shell in a small Linux (or the built-in monitor)\n"
      "  hum run -- uname -a                          one command, its output and exit code\n"
      "  head -c 1M /dev/urandom | hum run -- sha256sum\n"
      "  hum run --disk root.img --append 'root=/dev/vda rw'\n"
      "  hum run -p 8080:80 -- httpd -f -h /etc       port 8080 of this host is port 80 of the guest\n"
      "  hum run --net tap=tap0,vhost=on              on a tap of this host (see docs/network.md)\n"
      "  hum run --kernel vmlinuz --initrd initrd.img --cpus 4 --memory 2G --record end.json\n\n"
      "In the console: Ctrl-A x ends the VM, Ctrl-A h shows help.");
}

int run(const RunOptions& options) {
  const bool command = !options.command.empty();
  VmConfig config;
  for (const auto& [key, text] : options.machine) config.set(key, text);
  config.record = options.record;
  config.symbols = options.symbols;
  const SessionOptions::Console console = console_mode(options, command);
  const Choice choice = choose_kernel(options, command, config);
  for (const std::string& module : options.modules) {
    const std::size_t equals = module.find('=');
    config.boot.modules.push_back(
        {module.substr(0, equals), equals == std::string::npos ? module : module.substr(equals + 1)});
  }
  config.boot.cache_folder = unpacked_folder();

  const bool terminal = command && ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
  std::optional<CommandPorts> ports;
  const RunNetwork network = choose_network(options, choice.linux_guest);
  if (choice.linux_guest && (command || options.initrd.empty()) && !config.boot.initrd_path.empty())
    config.boot.extra_initrd = job_archive(job_of(options, network, terminal));
  config.devices = standard_devices();
  for (const std::string& disk : options.disks) config.devices.push_back({"disk", disk});
  config.devices.insert(config.devices.end(), network.devices.begin(), network.devices.end());
  if (options.random) config.devices.push_back({"rng", ""});
  if (command) {
    ports.emplace(terminal);
    config.devices.push_back({"console", ports->device_options});
  }
  for (const std::string& device : options.devices) {
    const std::size_t comma = device.find(',');
    add_device(config.devices,
               {device.substr(0, comma), comma == std::string::npos ? "" : device.substr(comma + 1)});
  }

  block_session_signals();
  SessionOptions session;
  session.console = console;
  if (console == SessionOptions::Console::file) session.console_file = options.console.substr(5);
  session.control_fd = ports ? ports->ours.get() : -1;
  if (command && !terminal)
    session.outputs = {{STDOUT_FILENO, hum_port_stdout}, {STDERR_FILENO, hum_port_stderr}};
  session.command_on_terminal = terminal;
  session.stop_timeout = options.stop_timeout;
  session.timeout = options.timeout;
  const LogLevel level = options.verbosity >= 2   ? LogLevel::debug
                         : options.verbosity == 1 ? LogLevel::info
                                                  : LogLevel::warning;
  std::optional<Vm> made;
  Vm& vm = make_vm(made, std::move(config), network, Log(log_to_stderr, level));
  if (choice.linux_guest) warn_if_emulated();
  const int code = Session(vm, std::move(session)).run();
  report_end(vm.wait(), console == SessionOptions::Console::stdio);
  return code;
}

}  // namespace hum
