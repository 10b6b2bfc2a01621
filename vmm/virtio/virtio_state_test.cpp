// SPDX-License-Identifier: Apache-2.0
// Pause and state, which both transports have in common.
#include <memory>

#include "vmm/base/errors.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_guest.h"

namespace hum::virtio {
namespace {

using hum::testing::mistakes_in_fields;
using testing::Guest;
using testing::guest_data;
using testing::MmioGuest;
using testing::PciGuest;

std::unique_ptr<Guest> make_guest(bool pci) {
  if (pci) return std::make_unique<PciGuest>();
  return std::make_unique<MmioGuest>();
}

// Serves what the driver has made available on queue 0.
unsigned serve(Guest& guest) {
  DescriptorChain chain;
  unsigned served = 0;
  guest.device.queues.at(0).queue->drain(chain, [&](DescriptorChain& request) {
    guest.device.queues[0].queue->push(request.head, 1);
    ++served;
    return true;
  });
  return served;
}

void send(Guest& guest, unsigned count) {
  for (unsigned i = 0; i < count; ++i) guest.rings[0].add({{guest_data, 64, true}});
  guest.notify(0);
}

// A device that has served three requests, paused.
void live(Guest& guest) {
  guest.start();
  send(guest, 3);
  REQUIRE(serve(guest) == 3);
  guest.device.events->config_changed();
  guest.transport().pause();
}

}  // namespace

TEST_CASE("a pause takes the queues from the device, and it goes on with the next request") {
  const auto guest = make_guest(GENERATE(false, true));
  live(*guest);
  CHECK_FALSE(guest->device.active);
  CHECK(guest->machine.kicks.bound.empty());
  CHECK(guest->status() == 15);
  guest->transport().pause();
  guest->transport().resume();
  REQUIRE(guest->device.active);
  CHECK(guest->device.activations == 2);
  CHECK(guest->machine.kicks.bound.size() == 2);
  guest->transport().resume();
  CHECK(guest->device.activations == 2);
  CHECK(serve(*guest) == 0);
  send(*guest, 2);
  CHECK(serve(*guest) == 2);
  CHECK(guest->machine.kicks.mistakes == 0);
}

TEST_CASE("a pause leaves alone what was not started and what needs a reset") {
  const auto guest = make_guest(GENERATE(false, true));
  guest->transport().pause();
  guest->transport().resume();
  CHECK(guest->device.activations == 0);
  guest->start();
  guest->device.events->needs_reset("a test");
  guest->transport().pause();
  CHECK_FALSE(guest->device.active);
  guest->transport().resume();
  CHECK_FALSE(guest->device.active);
  CHECK(guest->status() == (15 | status_needs_reset));
  guest->start();
  CHECK(guest->device.active);
}

TEST_CASE("a reset in a pause forgets the queues") {
  const auto guest = make_guest(GENERATE(false, true));
  live(*guest);
  guest->set_status(0);
  guest->transport().resume();
  CHECK_FALSE(guest->device.active);
  guest->start();
  send(*guest, 1);
  CHECK(serve(*guest) == 1);
}

TEST_CASE("a device's state goes on in another one, and a damaged one changes nothing") {
  const bool pci = GENERATE(false, true);
  const auto source = make_guest(pci);
  const auto fresh = make_guest(pci);
  live(*source);
  fresh->transport().pause();
  CHECK(mistakes_in_fields(source->transport(), fresh->transport()) == "");
  // The memory goes along.
  std::vector<std::byte> memory(source->machine.memory.size());
  source->machine.memory.read_bytes({0}, memory);
  fresh->machine.memory.write_bytes({0}, memory);
  fresh->transport().resume();
  REQUIRE(fresh->device.active);
  CHECK(fresh->device.queues[0].queue->next_available() == 3);
  CHECK(fresh->device.queues[0].queue->next_used() == 3);
  CHECK(fresh->status() == 15);
  CHECK(fresh->machine.kicks.bound.size() == 2);
  if (pci) {
    // What was raised and not delivered.
    CHECK(fresh->take_queue_interrupt(0));
    CHECK(fresh->take_config_interrupt());
    CHECK_FALSE(fresh->take_queue_interrupt(1));
  }
  CHECK(serve(*fresh) == 0);
}

TEST_CASE("a state that does not go with the device is refused") {
  const bool pci = GENERATE(false, true);
  const auto source = make_guest(pci);
  live(*source);
  const auto state = state_of(source->transport());
  const auto refused = [&](const std::unique_ptr<Guest>& guest) {
    guest->transport().pause();
    const auto before = state_of(guest->transport());
    CHECK_THROWS_AS(restore(guest->transport(), state), ConfigError);
    CHECK(state_of(guest->transport()) == before);
  };
  SECTION("of another type") {
    const auto other = make_guest(pci);
    other->device.type = 5;
    refused(other);
  }
  SECTION("and one that fits is taken") {
    const auto other = make_guest(pci);
    other->transport().pause();
    restore(other->transport(), state);
    CHECK(state_of(other->transport()) == state);
  }
}

}  // namespace hum::virtio
