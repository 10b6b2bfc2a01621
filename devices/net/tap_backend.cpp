// SPDX-License-Identifier: Apache-2.0
#include "devices/net/tap_backend.h"

#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "devices/net/net_wire.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using namespace net_wire;

// Since Linux 6.2, and only together.
constexpr unsigned long tun_uso = 0x20 | 0x40;
constexpr std::uint64_t guest_uso = feature_guest_uso4 | feature_guest_uso6;

// What each asks of a tap (TUNSETOFFLOAD) and what comes with it for frames from the guest.
struct Offload {
  std::uint64_t guest;
  std::uint64_t host;
  unsigned long tun;
  unsigned long needs;  // one of these
};
constexpr std::array<Offload, 5> known = {{
    {feature_guest_csum, feature_csum, TUN_F_CSUM, TUN_F_CSUM},
    {feature_guest_tso4, feature_host_tso4, TUN_F_TSO4, TUN_F_CSUM},
    {feature_guest_tso6, feature_host_tso6, TUN_F_TSO6, TUN_F_CSUM},
    {feature_guest_ecn, feature_host_ecn, TUN_F_TSO_ECN, TUN_F_TSO4 | TUN_F_TSO6},
    {guest_uso, feature_host_uso, tun_uso, TUN_F_CSUM},
}};

// The kernel refuses one without what it needs.
unsigned long tun_offloads(std::uint64_t accepted) {
  unsigned long wanted = 0;
  for (const Offload& each : known) {
    const bool possible = each.needs == each.tun || (wanted & each.needs) != 0;
    if (possible && (accepted & each.guest) == each.guest) wanted |= each.tun;
  }
  return wanted;
}

// A tap that is gone has nothing to be set; its endpoints tell that it is.
bool is_gone(int error) {
  return error == EBADFD || error == ENODEV;
}

// What this kernel takes: it says so by taking it.
std::uint64_t probe(int fd) {
  std::uint64_t accepted = 0;
  std::uint64_t able = 0;
  for (const Offload& each : known) {
    const unsigned long wanted = tun_offloads(accepted | each.guest);
    if ((wanted & each.tun) == 0 || ::ioctl(fd, TUNSETOFFLOAD, wanted) != 0) continue;
    accepted |= each.guest;
    able |= each.guest | each.host;
  }
  return able;
}

}  // namespace

TapBackend::TapBackend(const TapSettings& settings, const Log& log) : tap_(open_tap(settings, log)) {
  for (const Fd& queue : tap_.queues) {
    fds_.push_back(queue.get());
    endpoints_.emplace_back(queue.get());
  }
  offloads_ = probe(fds_.front());
  set_offloads(0);
  used_ = pairs();
  use_pairs(1);
}

void TapBackend::set_offloads(std::uint64_t accepted) {
  if (::ioctl(fds_.front(), TUNSETOFFLOAD, tun_offloads(accepted & offloads_)) != 0 && !is_gone(errno))
    throw HostError(errno, "set the offloads of a tap");
}

void TapBackend::use_pairs(std::uint16_t count) {
  for (; used_ != count; used_ = static_cast<std::uint16_t>(used_ < count ? used_ + 1 : used_ - 1)) {
    const bool more = used_ < count;
    const int error = switch_queue(fds_[more ? used_ : used_ - 1u], more);
    if (error != 0 && !is_gone(error)) throw HostError(error, "change the number of a tap's queues");
  }
}

}  // namespace hum
