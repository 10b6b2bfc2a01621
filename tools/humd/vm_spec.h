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

#include "tools/humd/object.h"
#include "tools/humd/vm_cgroups.h"

namespace hum {

enum class RestartPolicy : std::uint8_t { no, on_failure, always };

// The network of a VM that has the host's, through a passt of its own; no root is needed.
inline constexpr std::string_view user_network = "user";

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
  std::optional<std::string> image() const;
  // Bytes, of the VM's own disk; nullopt: as large as its image's.
  std::optional<std::uint64_t> disk_size() const;
  std::vector<std::string> volumes() const;
  struct NetworkWish {
    std::string network;  // its name, or user_network
    std::string ports;    // as parse_published_ports reads them
  };
  std::vector<NetworkWish> networks() const;
  VmLimits limits() const;
  std::uint32_t cpus() const;
  std::uint32_t memory_mib() const;
  RestartPolicy restart() const;
  std::optional<unsigned> most_restarts() const;
  bool autostart() const;
  unsigned start_order() const;
  std::chrono::seconds stop_timeout() const;
  std::optional<std::chrono::seconds> lifetime() const;

 private:
  std::unique_ptr<nlohmann::json> fields_;
};

}  // namespace hum
