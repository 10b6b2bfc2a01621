// SPDX-License-Identifier: Apache-2.0
#include "devices/net/net_kind.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "devices/mmds/mmds_backend.h"
#include "devices/net/anti_spoof_filter.h"
#include "devices/net/frame_path.h"
#include "devices/net/loopback_backend.h"
#include "devices/net/net_device.h"
#include "devices/net/passt_socket_backend.h"
#include "devices/net/pcap_filter.h"
#include "devices/net/published_port.h"
#include "devices/net/rate_filter.h"
#include "devices/net/tap_backend.h"
#include "devices/net/user_backend.h"
#include "devices/net/vhost_net_path.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr OptionSpec net_options[] = {
    {.key = "mode",
     .type = OptionType::choice,
     .help = "user: the host's network through passt, without root, where none of tap, tap-fd, bridge, "
             "macvtap, socket and socket-fd is given; loopback: what the guest sends comes back",
     .choices = "user|loopback"},
    {.key = "tap", .help = "a tap interface of the host"},
    {.key = "tap-fd", .help = "open descriptors of a tap's queues: N[+N...]"},
    {.key = "bridge", .help = "a bridge of the host: a tap is made and added to it, and gone with the VM"},
    {.key = "macvtap", .help = "a macvtap interface of the host"},
    {.key = "socket", .help = "the socket of a passt that runs already (passt --socket)"},
    {.key = "socket-fd",
     .type = OptionType::integer,
     .help =
         "an open descriptor: one end of a pair of stream sockets, whose other end a passt has (passt --fd)",
     .minimum = 3,
     .maximum = 65535},
    net_rows::mac,
    {.key = "mtu",
     .type = OptionType::integer,
     .help = "the longest packet, bytes; by default that of the host's end",
     .minimum = 68,
     .maximum = 65535},
    {.key = "queues",
     .type = OptionType::integer,
     .help = "number of pairs of queues; 1, or as many as there are in tap-fd",
     .minimum = 1,
     .maximum = 64},
    net_rows::queue_size,
    {.key = "vhost",
     .type = OptionType::boolean,
     .help = "the kernel carries the frames of a tap (vhost-net), if it can",
     .default_value = "off"},
    net_rows::link,
    {.key = "rx-bandwidth",
     .type = OptionType::limit,
     .help = "the most bytes to the guest: SIZE[/MILLISECONDS][+BURST], like 100M (in each second) or "
             "10M/100+1G",
     .default_value = "off",
     .live = true},
    {.key = "rx-ops",
     .type = OptionType::limit,
     .help = "the most frames to the guest, in the same way, like 5000",
     .default_value = "off",
     .live = true},
    {.key = "tx-bandwidth",
     .type = OptionType::limit,
     .help = "the most bytes from the guest",
     .default_value = "off",
     .live = true},
    {.key = "tx-ops",
     .type = OptionType::limit,
     .help = "the most frames from the guest",
     .default_value = "off",
     .live = true},
    {.key = "pcap", .help = "a file for all frames, which tcpdump and Wireshark read"},
    {.key = "anti-spoof",
     .help = "on: only frames with the interface's own MAC leave; ADDRESS[+ADDRESS...]: and of those only "
             "with these IP addresses",
     .default_value = "off"},
    {.key = "mmds",
     .help = "the VM's metadata is served to the guest at this address, 169.254.169.254 as a rule, by the "
             "program itself; for programs that have metadata (hum-vmm)"},
    {.key = "publish",
     .help = "ports of the host for servers in the guest (user): "
             "[ADDRESS:]HOST:GUEST[/udp], with + between them"},
    {.key = "poll-us",
     .type = OptionType::integer,
     .help = "the longest that a thread looks for work before it sleeps, microseconds, where that pays",
     .default_value = "0",
     .minimum = 0,
     .maximum = 1000},
};

constexpr std::string_view tap_keys[] = {"tap", "tap-fd", "bridge", "macvtap"};
constexpr std::string_view place_keys[] = {"tap", "tap-fd", "bridge", "macvtap", "socket", "socket-fd"};

std::string key_of(const OptionValues& values, std::string_view key) {
  return std::string(values.what()) + "." + std::string(key);
}

bool limited(const OptionValues& values, std::string_view key) {
  return values.limit(key) != TokenBucketLimit{};
}

// The key that says where the frames go: mode, socket, or one of a tap.
std::string_view place_of(const OptionValues& values) {
  std::string_view place = values.has("mode") ? "mode" : "";
  for (const std::string_view each : place_keys) {
    if (!values.has(each)) continue;
    if (!place.empty())
      throw ConfigError(key_of(values, each), values.written(each).value_or(""),
                        "there is " + std::string(place) + ", too",
                        "give one of user, tap, tap-fd, bridge, macvtap, socket and socket-fd");
    place = each;
  }
  return place.empty() ? "mode" : place;
}

bool is_tap(std::string_view place) {
  return std::find(std::begin(tap_keys), std::end(tap_keys), place) != std::end(tap_keys);
}

// The kernel and other processes pass by what is done in this one.
void refuse_with_vhost(const OptionValues& values) {
  const auto refuse = [&](std::string_view key) {
    throw ConfigError(key_of(values, key), "", "with vhost=on the frames do not pass here",
                      "drop it, or give vhost=off");
  };
  for (const std::string_view key : {"rx-bandwidth", "rx-ops", "tx-bandwidth", "tx-ops"})
    if (limited(values, key)) refuse(key);
  if (values.has("pcap")) refuse("pcap");
  if (values.text("anti-spoof") != "off") refuse("anti-spoof");
  if (values.has("mmds")) refuse("mmds");
  if (values.number("poll-us") != 0) refuse("poll-us");
}

void check(const OptionValues& values) {
  const std::string_view place = place_of(values);
  const bool is_user = starts_passt(values);
  if (values.flag("vhost")) {
    if (!is_tap(place))
      throw ConfigError(key_of(values, "vhost"), "on", "only the frames of a tap can be the kernel's",
                        "give tap, tap-fd, bridge or macvtap, or drop it");
    refuse_with_vhost(values);
  }
  const bool is_socket = place == "socket" || place == "socket-fd";
  if ((is_user || is_socket) && values.has("queues") && values.number("queues") > 1)
    throw ConfigError(key_of(values, "queues"), std::to_string(values.number("queues")),
                      "passt has one pair of queues", "drop it, or give a tap");
  if (!is_user && values.has("publish"))
    throw ConfigError(key_of(values, "publish"), values.text("publish"), "only user publishes ports",
                      is_socket ? "drop it: tell passt when you start it"
                                : "drop it: the host's network reaches the guest by its address");
}

std::vector<int> descriptors(const OptionValues& values) {
  const std::string& text = values.text("tap-fd");
  std::vector<int> numbers;
  for (const char* at = text.data(); at <= text.data() + text.size(); ++at) {
    int number = -1;
    const auto [end, error] = std::from_chars(at, text.data() + text.size(), number);
    const bool again = std::find(numbers.begin(), numbers.end(), number) != numbers.end();
    if (error != std::errc() || number < 0 || again || (end != text.data() + text.size() && *end != '+'))
      throw ConfigError(key_of(values, "tap-fd"), text,
                        again ? "a descriptor is there twice" : "not a list of descriptors",
                        "give the numbers of open ones with + between them, like 3+4");
    numbers.push_back(number);
    at = end;
  }
  return numbers;
}

std::unique_ptr<TapBackend> make_tap(const OptionValues& values, const Log& log) {
  const auto text = [&](std::string_view key) { return values.has(key) ? values.text(key) : std::string(); };
  TapSettings settings{.what = std::string(values.what()),
                       .tap = text("tap"),
                       .bridge = text("bridge"),
                       .macvtap = text("macvtap"),
                       .mtu = mtu_option(values)};
  if (values.has("tap-fd")) settings.fds = descriptors(values);
  settings.pairs = static_cast<std::uint16_t>(
      values.has("queues") ? values.number("queues") : std::max<std::size_t>(1, settings.fds.size()));
  return std::make_unique<TapBackend>(settings, log);
}

std::unique_ptr<NetBackend> make_other(const OptionValues& values, DeviceContext& context) {
  if (values.has("mode") && values.text("mode") == "loopback")
    return std::make_unique<LoopbackBackend>(
        static_cast<std::uint16_t>(values.has("queues") ? values.number("queues") : 1));
  if (values.has("socket") || values.has("socket-fd")) {
    PasstSocketBackend::Settings settings{
        .what = std::string(values.what()), .path = {}, .fd = {}, .mtu = mtu_option(values)};
    if (values.has("socket")) settings.path = values.text("socket");
    if (values.has("socket-fd")) settings.fd = static_cast<int>(values.number("socket-fd"));
    return std::make_unique<PasstSocketBackend>(std::move(settings), context.log);
  }
  UserSettings settings{
      .what = std::string(values.what()), .ports = {}, .mtu = mtu_option(values), .program = {}};
  if (values.has("publish"))
    settings.ports = parse_published_ports(key_of(values, "publish"), values.text("publish"));
  auto backend = std::make_unique<UserBackend>(std::move(settings), context.log);
  context.before_start([&user = *backend] { user.settle(); });
  return backend;
}

std::unique_ptr<NetBackend> with_metadata(std::unique_ptr<NetBackend> backend, const OptionValues& values,
                                          const DeviceContext& context) {
  const std::string& text = values.text("mmds");
  const Ipv4Address address = parse_mmds_address(key_of(values, "mmds"), text);
  const auto* const service = context.service<MetadataService>();
  if (service == nullptr)
    throw ConfigError(key_of(values, "mmds"), text, "this program has no metadata to serve", "drop it");
  return std::make_unique<MmdsBackend>(std::move(backend), *service, address);
}

RateFilter::Limits limits_of(const OptionValues& values, FrameFilter::Direction direction) {
  const bool from_guest = direction == FrameFilter::Direction::from_guest;
  return {values.limit(from_guest ? "tx-bandwidth" : "rx-bandwidth"),
          values.limit(from_guest ? "tx-ops" : "rx-ops")};
}

// The filters of an interface, the first one first, and what of them may change.
struct Filters {
  std::vector<std::unique_ptr<FrameFilter>> chain;
  RateFilter* rate = nullptr;
  AntiSpoofFilter* anti_spoof = nullptr;
};

Filters make_filters(const OptionValues& values, const MacAddress& mac, const Log& log) {
  Filters filters;
  const auto add = [&](auto filter) {
    auto* const made = filter.get();
    filters.chain.push_back(std::move(filter));
    return made;
  };
  if (auto addresses = parse_anti_spoof(key_of(values, "anti-spoof"), values.text("anti-spoof")))
    filters.anti_spoof = add(std::make_unique<AntiSpoofFilter>(mac, std::move(*addresses)));
  filters.rate = add(std::make_unique<RateFilter>(limits_of(values, FrameFilter::Direction::from_guest),
                                                  limits_of(values, FrameFilter::Direction::to_guest)));
  if (values.has("pcap"))
    add(std::make_unique<PcapFilter>(
        PcapFilter::Settings{.what = key_of(values, "pcap"), .path = values.text("pcap")}, log));
  return filters;
}

// A limit that stays what it is keeps what is left of it.
void change_limits(RateFilter& rate, const OptionValues& before, const OptionValues& now) {
  for (const auto direction : {FrameFilter::Direction::from_guest, FrameFilter::Direction::to_guest})
    if (const RateFilter::Limits limits = limits_of(now, direction); limits != limits_of(before, direction))
      rate.set(direction, limits);
}

// What a macvtap's frames must have, where the option does not say the same.
MacAddress mac_for(const OptionValues& values, const std::optional<MacAddress>& forced) {
  const MacAddress mac = mac_option(values);
  if (!forced || mac == *forced) return mac;
  if (!values.has("mac")) return *forced;
  throw ConfigError(key_of(values, "mac"), values.text("mac"),
                    "the macvtap interface lets through its own address only",
                    "drop it, or give " + forced->text());
}

std::unique_ptr<NetPath> make_vhost(std::unique_ptr<TapBackend>& tap, DeviceContext& context) {
  try {
    return std::make_unique<VhostNetPath>(std::move(tap), context.memory, context.log);
  } catch (const HostError& error) {
    context.log.warning(std::string(error.what()) + "; frames are carried without it");
    return nullptr;
  }
}

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  check(values);
  const std::string_view place = place_of(values);
  std::unique_ptr<TapBackend> tap;
  std::unique_ptr<NetPath> path;
  NetDevice::Settings settings{.mac = {},
                               .mtu = mtu_option(values),
                               .queue_size = queue_size_option(values),
                               .link = values.flag("link")};
  if (is_tap(place)) tap = make_tap(values, context.log);
  settings.mac = mac_for(values, tap ? tap->address() : std::nullopt);
  if (values.flag("vhost")) path = make_vhost(tap, context);
  if (path) {
    settings.apply = refuse_with_vhost;
  } else {
    Filters filters = make_filters(values, settings.mac, context.log);
    settings.apply = [rate = filters.rate, before = values](const OptionValues& now) mutable {
      check(now);
      change_limits(*rate, before, now);
      before = now;
    };
    if (filters.anti_spoof != nullptr)
      settings.took_mac = [filter = filters.anti_spoof](const MacAddress& mac) { filter->set_own(mac); };
    std::unique_ptr<NetBackend> backend = std::move(tap);
    if (!backend) backend = make_other(values, context);
    if (values.has("mmds")) backend = with_metadata(std::move(backend), values, context);
    FramePath::Settings path_settings{
        .name = place == "mode" ? std::string(backend->kind()) : values.written(place).value_or(""),
        .poll = std::chrono::microseconds(values.number("poll-us"))};
    path = std::make_unique<FramePath>(std::move(backend), std::move(filters.chain), std::move(path_settings),
                                       context.log);
  }
  // What a driver takes for granted need not be told.
  constexpr std::uint16_t usual_mtu = 1500;
  if (!settings.mtu && path->mtu().value_or(usual_mtu) != usual_mtu) settings.mtu = path->mtu();
  return std::make_unique<NetDevice>(std::move(path), std::move(settings));
}

}  // namespace

bool starts_passt(const OptionValues& values) {
  return place_of(values) == "mode" && (!values.has("mode") || values.text("mode") == "user");
}

MacAddress mac_option(const OptionValues& values) {
  if (values.has("mac")) return parse_mac_address(key_of(values, "mac"), values.text("mac"));
  std::array<char, 16> seed;
  if (::getrandom(seed.data(), seed.size(), 0) != static_cast<ssize_t>(seed.size()))
    throw HostError(errno, "draw a MAC address");
  return derived_mac_address({seed.data(), seed.size()});
}

std::optional<std::uint16_t> mtu_option(const OptionValues& values) {
  if (!values.has("mtu")) return {};
  return static_cast<std::uint16_t>(values.number("mtu"));
}

std::uint16_t queue_size_option(const OptionValues& values) {
  return static_cast<std::uint16_t>(std::stoul(values.text("queue-size")));
}

constinit const DeviceKind net_kind{
    .name = "net",
    .help = "a network interface (virtio): the host's network without root, or a tap",
    .options = net_options,
    .create = DeviceKind::VirtioFactory{create},
};

}  // namespace hum
