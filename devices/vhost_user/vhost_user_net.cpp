// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/vhost_user_net.h"

#include <memory>
#include <optional>
#include <string>

#include "devices/net/net_device.h"
#include "devices/net/net_kind.h"
#include "devices/vhost_user/vhost_user_net_path.h"

namespace hum {
namespace {

constexpr OptionSpec options[] = {
    {.key = "socket", .help = "the server's Unix socket", .required = true},
    {.key = "mac", .help = "the guest's address, like 52:54:00:12:34:56; by default one that is drawn"},
    {.key = "mtu",
     .type = OptionType::integer,
     .help = "the longest packet, bytes, which guest and server are told",
     .minimum = 68,
     .maximum = 65535},
    {.key = "queues",
     .type = OptionType::integer,
     .help = "number of pairs of queues, at most as many as the server has",
     .default_value = "1",
     .minimum = 1,
     .maximum = 64},
    {.key = "queue-size",
     .type = OptionType::choice,
     .help = "entries of each queue",
     .default_value = "256",
     .choices = "16|32|64|128|256|512|1024"},
    {.key = "link",
     .type = OptionType::boolean,
     .help = "the cable is plugged in",
     .default_value = "on",
     .live = true},
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  std::optional<std::uint16_t> mtu;
  if (values.has("mtu")) mtu = static_cast<std::uint16_t>(values.number("mtu"));
  const MacAddress mac = mac_option(values);
  auto path = std::make_unique<VhostUserNetPath>(
      VhostUserNetPath::Settings{.what = std::string(values.what()),
                                 .path = values.text("socket"),
                                 .pairs = static_cast<std::uint16_t>(values.number("queues")),
                                 .mtu = mtu},
      context.memory, context.log);
  return std::make_unique<NetDevice>(
      std::move(path),
      NetDevice::Settings{.mac = mac,
                          .mtu = mtu,
                          .queue_size = static_cast<std::uint16_t>(std::stoul(values.text("queue-size"))),
                          .link = values.flag("link")});
}

}  // namespace

constinit const DeviceKind vhost_user_net_kind{
    .name = "vhost-user-net",
    .help = "a network interface whose frames another process carries, over a Unix socket (vhost-user-net)",
    .options = options,
    .create = DeviceKind::VirtioFactory{create},
    .needs_shared_memory = true,
};

}  // namespace hum
