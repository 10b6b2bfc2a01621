// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "devices/net/mac_address.h"
#include "vmm/device/device.h"

namespace hum {

// A network interface over a passt of our own, or over a tap of the host.
extern const DeviceKind net_kind;

// Options that all kinds of network interface have, and what they say.
namespace net_rows {

inline constexpr OptionSpec mac{
    .key = "mac", .help = "the guest's address, like 52:54:00:12:34:56; by default one that is drawn"};
inline constexpr OptionSpec queue_size{.key = "queue-size",
                                       .type = OptionType::choice,
                                       .help = "entries of each queue",
                                       .default_value = "256",
                                       .choices = "16|32|64|128|256|512|1024"};
inline constexpr OptionSpec link{.key = "link",
                                 .type = OptionType::boolean,
                                 .help = "the cable is plugged in",
                                 .default_value = "on",
                                 .live = true};

}  // namespace net_rows

// Whether an interface like this starts passt, and so another process. Throws ConfigError.
bool starts_passt(const OptionValues& values);

// Without mac= an address that no other interface has, but for chance.
MacAddress mac_option(const OptionValues& values);
std::optional<std::uint16_t> mtu_option(const OptionValues& values);
std::uint16_t queue_size_option(const OptionValues& values);

}  // namespace hum
