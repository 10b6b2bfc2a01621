// SPDX-License-Identifier: Apache-2.0
#include "devices/serial.h"

#include <string>
#include <thread>

#include "devices/testing.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

constexpr std::uint16_t rbr = 0x3f8;
constexpr std::uint16_t thr = 0x3f8;
constexpr std::uint16_t ier = 0x3f9;
constexpr std::uint16_t iir = 0x3fa;
constexpr std::uint16_t fcr = 0x3fa;
constexpr std::uint16_t lcr = 0x3fb;
constexpr std::uint16_t mcr = 0x3fc;
constexpr std::uint16_t lsr = 0x3fd;
constexpr std::uint16_t msr = 0x3fe;
constexpr std::uint16_t scr = 0x3ff;

struct Fixture {
  FakeMachine machine;
  std::unique_ptr<PlatformDevice> serial = make_platform_device(serial_kind, machine);
  std::string output;
  ConsoleHub::Subscription reader = machine.console.subscribe([this](std::span<const std::byte> piece) {
    output.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });

  std::uint64_t in(std::uint16_t port) { return machine.in(port).value(); }
  void out(std::uint16_t port, std::uint64_t value) { machine.out(port, value); }
  void type(std::string_view text) { REQUIRE(machine.console.send(std::as_bytes(std::span(text)))); }
  bool interrupted() { return machine.pins.pin(4).take(); }
  // What the guest reads as long as there is something.
  std::string read_all() {
    std::string text;
    while ((in(lsr) & 1) != 0) text += static_cast<char>(in(rbr));
    return text;
  }
};

}  // namespace

TEST_CASE("every byte written goes to the console at once, and the transmitter is always empty") {
  Fixture fixture;
  CHECK(fixture.in(lsr) == 0x60);
  fixture.out(thr, 'o');
  CHECK(fixture.output == "o");
  CHECK(fixture.in(lsr) == 0x60);
  fixture.out(thr, 'k');
  CHECK(fixture.output == "ok");
  CHECK_FALSE(fixture.interrupted());
}

TEST_CASE("typed bytes are read in order, with data ready as long as there is one") {
  Fixture fixture;
  CHECK(fixture.in(rbr) == 0);
  fixture.type("ab");
  CHECK(fixture.in(lsr) == 0x61);
  CHECK(fixture.in(rbr) == 'a');
  CHECK(fixture.in(lsr) == 0x61);
  CHECK(fixture.in(rbr) == 'b');
  CHECK(fixture.in(lsr) == 0x60);
  CHECK_FALSE(fixture.interrupted());
}

TEST_CASE("input waits in the console until there is room, with and without FIFO, and none is lost") {
  Fixture fixture;
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>('!' + i % 90);
  fixture.out(fcr, GENERATE(0x00u, 0x01u, 0xc1u));
  fixture.type(text.substr(0, 50));
  fixture.type(text.substr(50));
  CHECK(fixture.read_all() == text);
}

TEST_CASE("input that came before the device is there when it is made") {
  FakeMachine machine;
  const std::string text = "early";
  REQUIRE(machine.console.send(std::as_bytes(std::span(text))));
  const auto serial = make_platform_device(serial_kind, machine);
  CHECK(machine.in(lsr) == 0x61u);
  CHECK(machine.in(rbr) == static_cast<unsigned>('e'));
}

TEST_CASE("the divisor hides data and interrupt enable while its latch is open") {
  Fixture fixture;
  fixture.out(ier, 0x05);
  fixture.out(lcr, 0x83);
  fixture.out(0x3f8, 0x34);
  fixture.out(0x3f9, 0x12);
  CHECK(fixture.in(0x3f8) == 0x34);
  CHECK(fixture.in(0x3f9) == 0x12);
  CHECK(fixture.in(lcr) == 0x83);
  CHECK(fixture.output.empty());
  fixture.out(lcr, 0x03);
  CHECK(fixture.in(ier) == 0x05);
  CHECK(fixture.in(lcr) == 0x03);
}

TEST_CASE("registers keep their bits and only those that exist") {
  Fixture fixture;
  fixture.out(ier, 0xff);
  CHECK(fixture.in(ier) == 0x0f);
  fixture.out(mcr, 0xef);
  CHECK(fixture.in(mcr) == 0x0f);
  fixture.out(scr, 0xa5);
  CHECK(fixture.in(scr) == 0xa5);
  fixture.out(lsr, 0xff);
  CHECK(fixture.in(lsr) == 0x60);
  fixture.out(msr, 0xff);
  CHECK(fixture.in(msr) == 0xb0);
}

TEST_CASE("the FIFO shows in the interrupt identification while it is on") {
  Fixture fixture;
  CHECK(fixture.in(iir) == 0x01);
  fixture.out(fcr, 0x01);
  CHECK(fixture.in(iir) == 0xc1);
  fixture.out(fcr, 0xc6);  // not without the enable bit
  CHECK(fixture.in(iir) == 0x01);
}

TEST_CASE("a driver recognises a 16550A") {
  // The steps by which Linux tells the chips of this family apart.
  Fixture fixture;
  fixture.out(ier, 0);
  CHECK(fixture.in(ier) == 0);
  fixture.out(ier, 0x0f);
  CHECK(fixture.in(ier) == 0x0f);
  fixture.out(ier, 0);
  fixture.out(mcr, 0x1a);  // loop back RTS and OUT2
  CHECK((fixture.in(msr) & 0xf0) == 0x90);
  fixture.out(mcr, 0);
  fixture.out(fcr, 0x01);
  CHECK(fixture.in(iir) >> 6 == 3);
  fixture.out(lcr, 0xbf);  // no enhanced feature register
  CHECK(fixture.in(iir) != 0);
  fixture.out(lcr, 0x00);
  fixture.out(fcr, 0x21);  // no 64-byte FIFO
  CHECK((fixture.in(iir) & 0x20) == 0);
  fixture.out(ier, 0x40);  // no unit enable
  CHECK(fixture.in(ier) == 0);
}

TEST_CASE("clearing the FIFO or changing its mode drops what it holds, and more input follows") {
  Fixture fixture;
  fixture.out(fcr, 0x01);
  fixture.type(std::string(16, 'x') + "y");
  SECTION("cleared") {
    fixture.out(fcr, 0x03);
    CHECK(fixture.read_all() == "y");
  }
  SECTION("switched off") {
    fixture.out(fcr, 0x00);
    CHECK(fixture.read_all() == "y");
  }
  SECTION("written without effect on it") {
    fixture.out(fcr, 0x05);
    fixture.out(fcr, 0xc1);
    CHECK(fixture.read_all() == std::string(16, 'x') + "y");
  }
}

TEST_CASE("received data interrupts once, is identified until it is read, and not when disabled") {
  Fixture fixture;
  fixture.type("a");
  CHECK_FALSE(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x01);
  fixture.out(ier, 0x01);
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x04);
  CHECK(fixture.in(iir) == 0x04);
  CHECK_FALSE(fixture.interrupted());
  CHECK(fixture.in(rbr) == 'a');
  CHECK(fixture.in(iir) == 0x01);
  CHECK_FALSE(fixture.interrupted());
  fixture.type("b");
  CHECK(fixture.interrupted());
}

TEST_CASE("each byte interrupts anew where there is no FIFO") {
  Fixture fixture;
  fixture.out(ier, 0x01);
  fixture.type("abc");
  for (const char expected : {'a', 'b', 'c'}) {
    CHECK(fixture.interrupted());
    CHECK(fixture.in(iir) == 0x04);
    CHECK(fixture.in(rbr) == static_cast<unsigned>(expected));
  }
  CHECK_FALSE(fixture.interrupted());
}

TEST_CASE("data below the FIFO's trigger level is a timeout, from the level on it is received data") {
  Fixture fixture;
  const auto [control, level] =
      GENERATE(table<unsigned, std::size_t>({{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}}));
  fixture.out(fcr, control);
  fixture.out(ier, 0x01);
  if (level > 1) {
    fixture.type(std::string(level - 1, 'x'));
    CHECK(fixture.interrupted());
    CHECK(fixture.in(iir) == 0xcc);
  }
  fixture.type("x");
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0xc4);
  fixture.in(rbr);
  CHECK(fixture.interrupted() == (level > 1));  // what is left is a timeout
  CHECK(fixture.in(iir) == (level > 1 ? 0xccu : 0xc1u));
}

TEST_CASE("input that fills an emptied FIFO interrupts again") {
  Fixture fixture;
  fixture.out(fcr, 0x01);
  fixture.out(ier, 0x01);
  fixture.type(std::string(32, 'x'));
  CHECK(fixture.interrupted());
  for (int i = 0; i < 15; ++i) fixture.in(rbr);
  CHECK_FALSE(fixture.interrupted());
  fixture.in(rbr);
  CHECK(fixture.interrupted());
  CHECK(fixture.read_all().size() == 16);
}

TEST_CASE("an empty transmitter interrupts when enabled and after each write, until it is told") {
  Fixture fixture;
  fixture.out(ier, 0x02);
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x02);
  CHECK(fixture.in(iir) == 0x01);
  CHECK_FALSE(fixture.interrupted());
  fixture.out(thr, 'x');
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x02);
  CHECK(fixture.in(iir) == 0x01);
  fixture.out(ier, 0x02);  // already on
  CHECK_FALSE(fixture.interrupted());
  fixture.out(ier, 0x00);
  fixture.out(ier, 0x02);
  CHECK(fixture.interrupted());
  fixture.out(ier, 0x00);
  CHECK(fixture.in(iir) == 0x01);
}

TEST_CASE("conditions are identified by priority, and what remains after one interrupts again") {
  Fixture fixture;
  fixture.out(mcr, 0x10);
  fixture.out(thr, 'a');
  fixture.out(thr, 'b');  // overrun
  fixture.out(ier, 0x0f);
  fixture.interrupted();
  CHECK(fixture.in(iir) == 0x06);
  CHECK(fixture.in(lsr) == 0x63);
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x04);
  CHECK(fixture.in(rbr) == 'a');
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x02);  // told, so over
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x00);
  CHECK(fixture.in(msr) == 0x0b);
  CHECK_FALSE(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x01);
}

TEST_CASE("input interrupts although the transmitter's interrupt has not been served") {
  Fixture fixture;
  fixture.out(ier, 0x03);
  CHECK(fixture.interrupted());
  fixture.type("a");
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x04);
}

TEST_CASE("loopback keeps output from the console and input in it") {
  Fixture fixture;
  fixture.out(fcr, 0x01);
  fixture.out(mcr, 0x10);
  fixture.type("late");
  fixture.out(thr, 'x');
  CHECK(fixture.output.empty());
  CHECK(fixture.read_all() == "x");
  fixture.out(mcr, 0x00);
  CHECK(fixture.read_all() == "late");
}

TEST_CASE("loopback overruns when the receiver is full, and keeps what it had") {
  Fixture fixture;
  const std::size_t capacity = GENERATE(1u, 16u);
  fixture.out(fcr, capacity == 1 ? 0x00 : 0x01);
  fixture.out(mcr, 0x10);
  for (std::size_t i = 0; i < capacity; ++i) fixture.out(thr, 'a' + i);
  CHECK(fixture.in(lsr) == 0x61);
  fixture.out(thr, '!');
  CHECK(fixture.in(lsr) == 0x63);
  CHECK(fixture.in(lsr) == 0x61);
  CHECK(fixture.read_all() == std::string("abcdefghijklmnop").substr(0, capacity));
}

TEST_CASE("modem lines follow the modem control in loopback and tell of changes once") {
  Fixture fixture;
  CHECK(fixture.in(msr) == 0xb0);
  fixture.out(mcr, 0x10);
  CHECK(fixture.in(msr) == 0x0b);
  fixture.out(mcr, 0x12);
  CHECK(fixture.in(msr) == 0x11);
  fixture.out(mcr, 0x11);
  CHECK(fixture.in(msr) == 0x23);
  fixture.out(mcr, 0x14);
  CHECK(fixture.in(msr) == 0x42);  // a ring that begins is not told
  fixture.out(mcr, 0x18);
  CHECK(fixture.in(msr) == 0x8c);  // one that ends is
  fixture.out(mcr, 0x18);
  CHECK(fixture.in(msr) == 0x80);
  fixture.out(mcr, 0x00);
  CHECK(fixture.in(msr) == 0xb3);
  CHECK(fixture.in(msr) == 0xb0);
}

TEST_CASE("a change of the modem lines interrupts until the status is read") {
  Fixture fixture;
  fixture.out(ier, 0x08);
  fixture.out(mcr, 0x10);
  CHECK(fixture.interrupted());
  CHECK(fixture.in(iir) == 0x00);
  CHECK(fixture.in(iir) == 0x00);
  fixture.in(msr);
  CHECK(fixture.in(iir) == 0x01);
  CHECK_FALSE(fixture.interrupted());
}

TEST_CASE("a 16-bit write sets the divisor") {
  Fixture fixture;
  fixture.out(lcr, 0x80);
  fixture.machine.out(0x3f8, 0x1234, 2);
  CHECK(fixture.in(0x3f8) == 0x34);
  CHECK(fixture.in(0x3f9) == 0x12);
}

TEST_CASE("the port survives any access, with interrupts, FIFO and loopback in any state") {
  Fixture fixture;
  for (unsigned state = 0; state < 0x100; state += 5) {
    fixture.out(lcr, state);
    fixture.out(mcr, state);
    fixture.out(fcr, state);
    fixture.type("xyz");
    access_everything(fixture.machine, 0x3f8, 8);
  }
  CHECK(fixture.machine.in(0x3ff, 2).value() >> 8 == 0xff);
  CHECK_FALSE(fixture.machine.in(0x3f7));
  CHECK_FALSE(fixture.machine.in(0x400));
}

TEST_CASE("input and output may run at once") {
  Fixture fixture;
  fixture.out(fcr, 0x01);
  fixture.out(ier, 0x03);
  std::thread keyboard([&] {
    const std::string_view key = "k";
    for (int i = 0; i < 500; ++i) fixture.machine.console.send(std::as_bytes(std::span(key)));
  });
  std::string input;
  for (int i = 0; i < 500; ++i) {
    fixture.out(thr, 'o');
    input += fixture.read_all();
  }
  keyboard.join();
  input += fixture.read_all();
  CHECK(input == std::string(500, 'k'));
  CHECK(fixture.output == std::string(500, 'o'));
}

TEST_CASE("output over the limit is dropped and counted, and the guest's transmitter stays empty") {
  Fixture fixture;
  fixture.serial.reset();
  fixture.serial = make_platform_device(serial_kind, fixture.machine, "bandwidth=4/3600000+2");
  for (const char each : std::string("abcdefgh")) {
    fixture.out(thr, static_cast<std::uint64_t>(each));
    CHECK(fixture.in(lsr) == 0x60);
  }
  CHECK(fixture.output == "abcdef");
  CHECK(fixture.machine.console.traffic().output == 6);
  CHECK(fixture.machine.console.traffic().dropped == 2);
}

TEST_CASE("a limit of output lets more pass as time goes") {
  Fixture fixture;
  fixture.serial.reset();
  fixture.serial = make_platform_device(serial_kind, fixture.machine, "bandwidth=1/1");
  while (fixture.output.size() < 5) fixture.out(thr, 'x');
  CHECK(fixture.output == "xxxxx");
}

TEST_CASE("after the device has gone, input waits in the console and the ports are free") {
  Fixture fixture;
  fixture.serial.reset();
  fixture.type("x");
  std::array<std::byte, 4> left;
  CHECK(fixture.machine.console.take_input(left) == 1);
  CHECK_FALSE(fixture.machine.in(lsr));
}

TEST_CASE("the guest finds the port by its identifier, ports and interrupt") {
  Fixture fixture;
  const acpi::Aml node = fixture.serial->acpi_node();
  CHECK(contains(node, acpi::eisa_id("PNP0501")));
  CHECK(contains(node, acpi::resources({acpi::io_port(0x3f8, 8), acpi::interrupt_edge(4)})));
}

}  // namespace hum::testing
