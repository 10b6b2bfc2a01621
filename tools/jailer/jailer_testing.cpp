// SPDX-License-Identifier: Apache-2.0
#include "tools/jailer/jailer_testing.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tools/jailer/jail.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum::testing {

using nlohmann::json;

bool is_static(const std::string& program) {
  try {
    return static_cast<bool>(open_executable(program));
  } catch (const ConfigError&) {
    return false;
  }
}

bool no_jails(const testing::TemporaryFolder& folder) {
  struct statvfs status{};
  ::statvfs(folder.path().c_str(), &status);
  const bool usable = is_static(HUM_VMM_PROGRAM) && ::geteuid() == 0 &&
                      ::access("/dev/kvm", R_OK | W_OK) == 0 &&
                      (status.f_flag & (ST_NODEV | ST_NOEXEC)) == 0 &&
                      ::mknod((folder / "device").c_str(), S_IFCHR, 0x103) == 0;
  fs::remove(folder / "device");
  if (usable) return false;
  WARN(
      "skipped: needs root with the right to make devices, /dev/kvm, a static hum-vmm, and a temporary "
      "folder "
      "without nodev");
  return true;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string line_of(const std::string& file, const std::string& beginning) {
  std::istringstream lines(content_of(file));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(beginning)) return line.substr(beginning.size());
  return {};
}

std::string of_process(pid_t pid, const std::string& name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

bool until(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

std::vector<std::string> tree(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& each : fs::recursive_directory_iterator(folder))
    names.push_back(fs::relative(each.path(), folder).string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string text_of(int fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t count = 0; (count = ::read(fd, buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  return text;
}

ProcessEnd end_of(Child& child) {
  pollfd entry{.fd = child.end_fd(), .events = POLLIN, .revents = 0};
  constexpr auto milliseconds = std::chrono::milliseconds(patience).count();
  if (::poll(&entry, 1, static_cast<int>(milliseconds)) != 1) child.kill();
  return child.reap();
}

std::string refusal(const Jailer& jailer, const std::vector<std::string>& own) {
  Child child = jailer.start(own, {});
  const bool refused = end_of(child) == ProcessEnd{ProcessEnd::By::exit, 1};
  return refused ? text_of(child.messages()) : "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Jailer::Jailer() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  fs::create_directory(folder / "jails");
  fs::create_symlink(HUM_VMM_PROGRAM, folder / "firecracker");
}

void Jailer::put(const std::string& name, const std::string& content) const {
  fs::create_directories(root());
  std::ofstream(root() + "/" + name) << content;
}

void Jailer::put_vm(const std::string& image, const std::string& boot_arguments) const {
  fs::create_directories(root());
  fs::copy_file(std::string(HUM_IMAGE_FOLDER) + "/" + image + ".elf", root() + "/kernel");
  put("vm.json", json{{"boot-source", {{"kernel_image_path", "/kernel"}, {"boot_args", boot_arguments}}},
                      {"machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}}}}
                     .dump());
}

std::vector<std::string> Jailer::words(const std::vector<std::string>& own,
                                       const std::vector<std::string>& vmm) const {
  std::vector<std::string> result = {
      HUM_JAILER_PROGRAM,   "--id",           "vm1",   "--exec-file",        folder / "firecracker",
      "--chroot-base-dir",  folder / "jails", "--uid", std::to_string(user), "--gid",
      std::to_string(group)};
  result.insert(result.end(), own.begin(), own.end());
  result.emplace_back("--");
  result.insert(result.end(), vmm.begin(), vmm.end());
  return result;
}

Child Jailer::start(const std::vector<std::string>& own, const std::vector<std::string>& vmm) const {
  return Child(HUM_JAILER_PROGRAM, words(own, vmm), {});
}

}  // namespace hum::testing
