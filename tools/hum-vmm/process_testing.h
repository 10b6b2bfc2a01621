// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/hum-vmm/testing.h"

// For tests of the program as clients see it.
namespace hum::testing {

using nlohmann::json;

bool no_kvm();

std::string image(const std::string& name);

unsigned status_of(ApiClient& client, const std::string& method, const std::string& path, const json& body);

std::string fault_of(ApiClient& client, const std::string& method, const std::string& path,
                     const std::string& body);

json boot_source(const std::string& name, const std::string& arguments);

// Configures as the Go SDK does and starts.
void start(ApiClient& client, const std::string& name, const std::string& arguments);

std::string state_of(ApiClient& client);

std::string content_of(const std::string& path);

// A multiboot image that runs this in 32-bit protected mode.
void write_kernel(const std::string& path, const std::vector<std::uint8_t>& code);

}  // namespace hum::testing
