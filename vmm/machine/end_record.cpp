// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/end_record.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/hex.h"

namespace hum {
namespace {

// Field 22 of /proc/self/stat, counted from behind the name, which may hold blanks and brackets.
std::uint64_t process_start_ticks() {
  std::array<char, 1024> text{};
  const Fd stat(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC));  // none in a jail without /proc
  const ssize_t size = ::read(stat.get(), text.data(), text.size() - 1);
  std::string_view fields(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  const std::size_t name_end = fields.rfind(')');
  if (name_end == std::string_view::npos) return 0;
  fields.remove_prefix(name_end + 1);
  for (int field = 3; field <= 22 && !fields.empty(); ++field) fields.remove_prefix(fields.find(' ') + 1);
  return std::strtoull(fields.data(), nullptr, 10);
}

}  // namespace

std::string utc_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  // Not strftime, which reads the time zone's files.
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", parts.tm_year + 1900,
                parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                now.tv_nsec / 1'000'000);
  return text.data();
}

std::string_view to_string(EndCause cause) {
  switch (cause) {
    case EndCause::running:
      return "running";
    case EndCause::power_off:
      return "poweroff";
    case EndCause::reboot:
      return "reboot";
    case EndCause::panic:
      return "panic";
    case EndCause::debug_exit:
      return "debug-exit";
    case EndCause::triple_fault:
      return "triple-fault";
    case EndCause::internal_error:
      return "internal-error";
    case EndCause::signal:
      return "signal";
    case EndCause::killed:
      return "killed";
    case EndCause::host_error:
      return "host-error";
  }
  return "unknown";
}

bool is_orderly(EndCause cause) {
  return cause == EndCause::power_off || cause == EndCause::reboot || cause == EndCause::debug_exit;
}

namespace {

nlohmann::ordered_json vcpu_json(const EndRecord::VcpuState& vcpu) {
  const auto values = [](const auto& registers) {
    nlohmann::ordered_json json;
    for (const CpuRegisters::Value& each : registers) json[std::string(each.name)] = hex(each.value);
    return json;
  };
  nlohmann::ordered_json json;
  json["id"] = vcpu.id;
  if (!vcpu.symbol.empty()) json["symbol"] = vcpu.symbol;
  json["registers"] = values(vcpu.registers.general);
  json["control"] = values(vcpu.registers.control);
  for (const CpuRegisters::Segment& each : vcpu.registers.segments)
    json["segments"][std::string(each.name)] = {{"selector", hex(each.selector)},
                                                {"base", hex(each.base)},
                                                {"limit", hex(each.limit)},
                                                {"attributes", hex(each.attributes)}};
  for (const CpuRegisters::Table& each : vcpu.registers.tables)
    json["tables"][std::string(each.name)] = {{"base", hex(each.base)}, {"limit", hex(each.limit)}};
  return json;
}

nlohmann::ordered_json device_json(const virtio::DeviceReport& device) {
  nlohmann::ordered_json json;
  json["name"] = device.name;
  json["broken_rings"] = device.broken_rings;
  json["queues"] = nlohmann::ordered_json::array();
  for (const virtio::DeviceReport::Queue& queue : device.queues)
    json["queues"].push_back({{"index", queue.index},
                              {"requests", queue.requests},
                              {"bytes_from_guest", queue.bytes_from_guest},
                              {"bytes_to_guest", queue.bytes_to_guest},
                              {"notifications", queue.notifications},
                              {"interrupts", queue.interrupts}});
  for (const virtio::DeviceReport::Own& each : device.counters)
    json["counters"][std::string(each.name)] = each.value;
  return json;
}

}  // namespace

std::string EndRecord::to_json(int indent) const {
  nlohmann::ordered_json json;
  json["version"] = 1;
  json["cause"] = to_string(cause);
  if (!detail.empty()) json["detail"] = detail;
  json["guest_exit_code"] =
      guest_exit_code ? nlohmann::ordered_json(*guest_exit_code) : nlohmann::ordered_json();
  json["kernel"] = {{"path", kernel}, {"digest", kernel_digest}, {"protocol", boot_protocol}};
  json["process"] = {{"pid", ::getpid()}, {"start_ticks", process_start_ticks()}};
  json["started"] = started;
  json["duration_seconds"] = duration_seconds;
  if (instruction_pointer)
    json["vcpu"] = {{"id", ended_vcpu}, {"instruction_pointer", hex(*instruction_pointer)}};
  if (!symbol.empty()) json["vcpu"]["symbol"] = symbol;
  if (cause != EndCause::running) {
    json["exits"] = exits;
    json["collected_writes"] = collected_writes;
    nlohmann::ordered_json by_window = nlohmann::ordered_json::object();
    for (const auto& [name, window] : windows)
      by_window[name] = {{"reads", window.reads}, {"writes", window.writes}};
    json["windows"] = by_window;
    json["devices"] = nlohmann::ordered_json::array();
    for (const virtio::DeviceReport& device : devices) json["devices"].push_back(device_json(device));
    if (!vcpus.empty()) {
      json["vcpus"] = nlohmann::ordered_json::array();
      for (const VcpuState& vcpu : vcpus) json["vcpus"].push_back(vcpu_json(vcpu));
    }
    json["console"] = console;
  }
  // A guest's console may hold any bytes: what is no UTF-8 becomes the replacement character.
  return json.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

RecordFile::RecordFile(std::string path) : path_(std::move(path)) {
  const std::size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  struct stat info{};
  if (::stat(path_.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    throw ConfigError("record", path_, "is not a regular file", "name a file to be made or replaced");
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw ConfigError("record", path_, "its folder cannot be written",
                      "name a file in a folder that you can write");
}

void RecordFile::write(const EndRecord& record) const {
  const std::string text = record.to_json() + "\n";
  const std::string temporary = path_ + "." + std::to_string(::getpid()) + ".tmp";
  const Fd file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(file.get(), text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const int error = errno;
      ::unlink(temporary.c_str());
      throw HostError(error, "write the record '" + temporary + "'");
    }
    done += static_cast<std::size_t>(wrote);
  }
  if (::rename(temporary.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    throw HostError(error, "replace the record '" + path_ + "'");
  }
}

}  // namespace hum
