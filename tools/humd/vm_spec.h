// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

enum class RestartPolicy : std::uint8_t { no, on_failure, always };

// Throws ConfigError with that key: no name that objects may have.
void check_name(const std::string& key, std::string_view name);

// What a client wants a VM to be: one JSON object whose fields are in one table. A value; checked whole when
// it is made, the paths in it as texts only.
class VmSpec {
 public:
  // Throws ConfigError with the field's name.
  explicit VmSpec(const nlohmann::json& given);
  // As the store has it: text() of another. Throws ConfigError.
  static VmSpec stored(const std::string& text);
  VmSpec(const VmSpec& other);
  VmSpec& operator=(const VmSpec& other);
  VmSpec(VmSpec&&) noexcept;
  VmSpec& operator=(VmSpec&&) noexcept;
  ~VmSpec();

  // With some fields changed; null takes one away. Throws ConfigError.
  VmSpec with(const nlohmann::json& changes) const;
  // The fields that differ and count only from the VM's next start on.
  std::vector<std::string> needs_restart(const VmSpec& other) const;

  const nlohmann::json& json() const { return *fields_; }
  std::string text() const;

  std::string name() const;
  std::string project() const;
  std::uint32_t cpus() const;
  std::uint32_t memory_mib() const;
  RestartPolicy restart() const;
  std::optional<unsigned> most_restarts() const;
  bool autostart() const;
  unsigned start_order() const;
  std::chrono::seconds stop_timeout() const;
  std::optional<std::chrono::seconds> lifetime() const;

  // The config file of its VMM.
  nlohmann::json vmm_config() const;

 private:
  std::unique_ptr<nlohmann::json> fields_;
};

}  // namespace hum
