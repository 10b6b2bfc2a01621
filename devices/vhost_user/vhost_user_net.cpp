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
    net_rows::mac,
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
    net_rows::queue_size,
    net_rows::link,
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  const std::optional<std::uint16_t> mtu = mtu_option(values);
  const MacAddress mac = mac_option(values);
  auto path = std::make_unique<VhostUserNetPath>(
      VhostUserNetPath::Settings{.what = std::string(values.what()),
                                 .path = values.text("socket"),
                                 .pairs = static_cast<std::uint16_t>(values.number("queues")),
                                 .mtu = mtu},
      context.memory, context.log);
  return std::make_unique<NetDevice>(
      std::move(path),
      NetDevice::Settings{
          .mac = mac, .mtu = mtu, .queue_size = queue_size_option(values), .link = values.flag("link")});
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
