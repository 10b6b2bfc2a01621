// SPDX-License-Identifier: Apache-2.0
#include "vmm/bus/ioapic.h"

#include <unistd.h>

#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

struct State {
  MsiMessage message;
  bool masked = true;
};

class FakeMsi final : public MsiController {
 public:
  std::unique_ptr<MsiInterrupt> create_interrupt() override {
    states.push_back(std::make_unique<State>());
    return std::make_unique<One>(*states.back());
  }
  std::vector<std::unique_ptr<State>> states;

 private:
  class One final : public MsiInterrupt {
   public:
    explicit One(State& state) : state_(state) {}
    void configure(const MsiMessage& message, bool masked) override { state_ = {message, masked}; }

   private:
    State& state_;
  };
};

struct Machine {
  AddressDecoder mmio;
  FakeMsi msi;
  Ioapic ioapic{mmio, msi};

  void store(std::uint64_t offset, std::uint32_t value) { mmio.write(ioapic_base + offset, bytes_of(value)); }
  std::uint32_t load(std::uint64_t offset) {
    std::uint32_t value = 0xffffffff;
    mmio.read(ioapic_base + offset, writable_bytes_of(value));
    return value;
  }
  void set(std::uint32_t index, std::uint32_t value) {
    store(0, index);
    store(0x10, value);
  }
  std::uint32_t get(std::uint32_t index) {
    store(0, index);
    return load(0x10);
  }
};

}  // namespace

TEST_CASE("the version register names 24 pins, which start masked") {
  Machine machine;
  CHECK(machine.get(1) == 0x00170011);
  for (std::uint32_t pin = 0; pin < 24; ++pin) CHECK(machine.get(0x10 + 2 * pin) == 0x10000);
  CHECK(machine.get(0x40) == 0);  // behind the last entry
}

TEST_CASE("a redirection entry becomes a message when it is unmasked") {
  Machine machine;
  machine.ioapic.pin(4);
  REQUIRE(machine.msi.states.size() == 1);
  const State& state = *machine.msi.states[0];
  CHECK(state.masked);
  machine.set(0x10 + 9, 0x03000000);
  machine.set(0x10 + 8, 0x00000834);  // logical destination, fixed, vector 0x34
  CHECK_FALSE(state.masked);
  CHECK(state.message == MsiMessage{0xfee03004, 0x34});
  machine.set(0x10 + 8, 0x00010834);
  CHECK(state.masked);
}

TEST_CASE("an entry that was written before a device took the pin applies to it") {
  Machine machine;
  machine.set(0x10 + 10, 0x41);
  machine.ioapic.pin(5);
  CHECK_FALSE(machine.msi.states[0]->masked);
  CHECK(machine.msi.states[0]->message == MsiMessage{0xfee00000, 0x41});
}

TEST_CASE("delivery as ExtINT or with a reserved mode counts as masked, status bits cannot be written") {
  Machine machine;
  machine.ioapic.pin(6);
  for (const std::uint32_t mode : {3u, 6u, 7u}) {
    machine.set(0x10 + 12, (mode << 8) | 0x50);
    CHECK(machine.msi.states[0]->masked);
  }
  machine.set(0x10 + 12, 0xffffffff);
  CHECK(machine.get(0x10 + 12) == 0x0001afff);
}

TEST_CASE("a pin that is held high triggers once, when it rises, also while it is masked") {
  Machine machine;
  const Interrupt& pin = machine.ioapic.pin(7);
  const auto rose = [&] {
    std::uint64_t count = 0;
    return ::read(pin.fd(), &count, sizeof count) == sizeof count ? count : 0;
  };
  machine.ioapic.set_level(7, false);
  CHECK(rose() == 0);
  machine.ioapic.set_level(7, true);
  machine.ioapic.set_level(7, true);
  CHECK(rose() == 1);
  machine.ioapic.set_level(7, false);
  CHECK(rose() == 0);
  machine.ioapic.set_level(7, true);
  CHECK(rose() == 1);
}

TEST_CASE("holding a pin that nobody has takes it, and one beyond the last is ignored") {
  Machine machine;
  machine.set(0x10 + 2 * 23, 0x41);
  machine.ioapic.set_level(24, true);
  machine.ioapic.set_level(UINT32_MAX, true);
  CHECK(machine.msi.states.empty());
  machine.ioapic.set_level(23, true);
  REQUIRE(machine.msi.states.size() == 1);
  CHECK_FALSE(machine.msi.states[0]->masked);
}

TEST_CASE("free pins are handed out from 5 on, each once, until none is left") {
  Machine machine;
  machine.ioapic.pin(6);
  CHECK(machine.ioapic.allocate() == 5);
  CHECK(machine.ioapic.allocate() == 7);
  for (std::uint32_t pin = 8; pin < 24; ++pin) CHECK(machine.ioapic.allocate() == pin);
  CHECK_THROWS_AS(machine.ioapic.allocate(), ConfigError);
}

TEST_CASE("pins that are held do not deliver, and the guest's registers stay as they are") {
  Machine machine;
  const Interrupt& pin = machine.ioapic.pin(4);
  machine.set(0x10 + 2 * 4, 0x31);
  REQUIRE_FALSE(machine.msi.states[0]->masked);
  machine.ioapic.hold(true);
  CHECK(machine.msi.states[0]->masked);
  CHECK(machine.get(0x10 + 2 * 4) == 0x31);
  machine.set(0x10 + 2 * 4, 0x32);
  CHECK(machine.msi.states[0]->masked);
  pin.trigger();
  machine.ioapic.hold(false);
  CHECK_FALSE(machine.msi.states[0]->masked);
  CHECK((machine.msi.states[0]->message.data & 0xff) == 0x32);
}

TEST_CASE("the I/O APIC's state goes on in another one, and a damaged one changes nothing") {
  Machine source;
  Machine fresh;
  const Interrupt& pin = source.ioapic.pin(4);
  const auto& same_pin = static_cast<const MsiInterrupt&>(fresh.ioapic.pin(4));
  source.set(0, 0x05000000);
  source.set(0x10 + 2 * 4, 0x31);
  source.set(0x11 + 2 * 4, 0x02000000);
  source.set(0x10 + 2 * 9, 0x000088a1);
  source.ioapic.hold(true);
  fresh.ioapic.hold(true);
  pin.trigger();
  CHECK(testing::mistakes_in_fields(source.ioapic, fresh.ioapic) == "");
  CHECK(same_pin.pending());
  fresh.ioapic.hold(false);
  CHECK_FALSE(fresh.msi.states[0]->masked);
  CHECK(fresh.msi.states[0]->message == MsiMessage{0xfee02000, 0x31});
  CHECK(fresh.get(0) == 0x05000000);
  CHECK(fresh.get(0x10 + 2 * 9) == 0x88a1);
}

TEST_CASE("the state of an I/O APIC with another number of pins is refused") {
  Machine source;
  AddressDecoder mmio;
  FakeMsi msi;
  Ioapic smaller(mmio, msi, 8);
  const auto state = state_of(source.ioapic);
  CHECK_THROWS_AS(restore(smaller, state), ConfigError);
}

}  // namespace hum
