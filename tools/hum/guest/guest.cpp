// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/guest/guest.h"

#include <string_view>

#include "tools/hum/cpio.h"
#include "tools/hum/guest/job.h"
#include "vmm/base/errors.h"

// Set by guest_init.S around the executable.
extern "C" {
extern const std::byte hum_guest_init_begin[];
extern const std::byte hum_guest_init_end[];
}

namespace hum {
namespace {

void append(std::string& records, const char* key, const std::string& value) {
  if (value.find('\0') != std::string::npos) throw ConfigError(key, value.c_str(), "holds a zero byte");
  records += key;
  records += '=';
  records += value;
  records += '\0';
}

}  // namespace

std::span<const std::byte> guest_init() {
  return {hum_guest_init_begin, hum_guest_init_end};
}

std::vector<std::byte> job_archive(const Job& job) {
  std::string records = hum_job_magic;
  records += '\0';
  if (!job.arguments.empty() && job.arguments.front().empty()) {
    throw ConfigError("command", "", "its first word is empty", "give the program to run");
  }
  for (const std::string& argument : job.arguments) append(records, "argument", argument);
  for (const std::string& variable : job.environment) {
    if (variable.find('=') == std::string::npos || variable.starts_with('=')) {
      throw ConfigError("environment", variable, "is not NAME=VALUE");
    }
    append(records, "environment", variable);
  }
  if (!job.directory.empty()) append(records, "directory", job.directory);
  append(records, "hostname", job.hostname);
  if (job.terminal) {
    append(records, "terminal",
           std::to_string(job.terminal->rows) + " " + std::to_string(job.terminal->columns));
  }
  if (job.network_patience) append(records, "network", std::to_string(*job.network_patience));

  CpioWriter archive;
  const std::string_view job_path = std::string_view(hum_job_path).substr(1);
  archive.file("init", guest_init(), 0755);
  archive.folder(job_path.substr(0, job_path.rfind('/')));
  archive.file(job_path, records);
  return archive.finish();
}

}  // namespace hum
