// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/process_testing.h"

#include <unistd.h>

#include <array>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "vmm/base/testing.h"

namespace hum::testing {

bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  WARN("skipped: /dev/kvm cannot be opened");
  return true;
}

std::string image(const std::string& name) {
  return std::string(HUM_IMAGE_FOLDER) + "/" + name + ".elf";
}

unsigned status_of(ApiClient& client, const std::string& method, const std::string& path, const json& body) {
  const auto answer = client.call(method, path, body.dump());
  return answer ? answer->status : 0;
}

std::string fault_of(ApiClient& client, const std::string& method, const std::string& path,
                     const std::string& body) {
  const auto answer = client.call(method, path, body);
  if (!answer || answer->status != 400) return {};
  return json::parse(answer->body).value("fault_message", "");
}

json boot_source(const std::string& name, const std::string& arguments) {
  return {{"kernel_image_path", image(name)}, {"boot_args", arguments}};
}

void start(ApiClient& client, const std::string& name, const std::string& arguments) {
  REQUIRE(status_of(client, "PUT", "/machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}}) == 204);
  REQUIRE(status_of(client, "PUT", "/boot-source", boot_source(name, arguments)) == 204);
  REQUIRE(status_of(client, "PUT", "/actions", {{"action_type", "InstanceStart"}}) == 204);
}

std::string state_of(ApiClient& client) {
  return json::parse(client.call("GET", "/")->body)["state"];
}

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_kernel(const std::string& path, const std::vector<std::uint8_t>& code) {
  constexpr std::uint32_t magic = 0x1badb002;
  constexpr std::uint32_t has_addresses = 1 << 16;
  constexpr std::uint32_t place = 0x100000;
  constexpr std::array<std::uint32_t, 8> header = {
      magic, has_addresses, 0 - magic - has_addresses, place, place, 0, 0, place + 32};
  std::ofstream kernel(path, std::ios::binary);
  kernel.write(reinterpret_cast<const char*>(header.data()), sizeof header);
  kernel.write(reinterpret_cast<const char*>(code.data()), static_cast<std::streamsize>(code.size()));
}

}  // namespace hum::testing
