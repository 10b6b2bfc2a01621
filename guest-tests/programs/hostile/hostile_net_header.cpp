// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

using Header = VirtioNet::Header;

constinit VirtioNet net{};
constinit volatile std::uint8_t frame[1000]{};

constexpr std::uint8_t csum = Header::needs_csum;
constexpr std::uint8_t tcp4 = Header::tcp4;
constexpr Header lies[] = {
    {csum, 0, 0, 0, 999, 0, 0},                                      // the checksum is behind the end
    {csum, 0, 0, 0, 34, 965, 0},                                     // its second byte is
    {csum, 0, 0, 0, 0xffff, 0xffff, 0}, {csum, 0, 0, 0, 13, 16, 0},  // it is of the Ethernet header
    {0, tcp4, 54, 400, 34, 16, 0},                                   // segments without a checksum
    {csum, tcp4, 54, 0, 34, 16, 0},                                  // segments of nothing
    {csum, tcp4, 1001, 400, 34, 16, 0},                              // a header longer than the frame
    {csum, 4, 54, 400, 34, 16, 0},                                   // a kind that was not agreed on
    {csum, 77, 54, 400, 34, 16, 0},                                  // none at all
    {csum, 0xff, 54, 400, 34, 16, 0},
};

}  // namespace

// Frames whose header lies (virtio 1.2, 5.1.6.2) go nowhere; those behind them do.
std::uint32_t guest_main(const BootInfo& boot) {
  open_bystander(boot);
  check(1,
        net.open(boot, VirtioNet::csum | VirtioNet::guest_csum | VirtioNet::host_tso4 |
                           VirtioNet::guest_tso4 | VirtioNet::mrg_rxbuf),
        "interface");
  std::uint8_t seed = 1;
  for (const Header& lie : lies) {
    net.header = lie;
    check(2, net.send(frame, sizeof(frame)), "it is given back");
    net.header = {};
    check(3, net.round_trip(60, seed++), "the next frame comes first");
  }
  net.header = {csum, tcp4, 54, 400, 34, 16, 0};
  check(4, net.send(frame, sizeof(frame)) && net.receive(), "the truth arrives");
  expect_bystander();
  return 0;
}
