// SPDX-License-Identifier: Apache-2.0
#include "devices/net/passt_socket_backend.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "devices/net/fake_net.h"
#include "devices/net/net_kind.h"
#include "devices/net/passt_testing.h"
#include "devices/virtio_testing.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

using namespace testing;
using namespace net_wire;

constexpr int patience_milliseconds = 20000;

// What a passt has at its socket: one connection after the other.
class PasstSocket {
 public:
  explicit PasstSocket(const std::string& path) : path_(path) { open(); }

  void open() {
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const UnixAddress address = UnixAddress::of("test", path_);
    REQUIRE(::bind(listener_.get(), address.get(), address.size()) == 0);
    REQUIRE(::listen(listener_.get(), 1) == 0);
  }
  void close() {
    connection_.reset();
    listener_.reset();
    std::filesystem::remove(path_);
  }
  // In place of a connection: the other end of a pair.
  void have(Fd connection) { connection_ = std::move(connection); }
  bool accept(int milliseconds = patience_milliseconds) {
    pollfd entry{listener_.get(), POLLIN, 0};
    if (::poll(&entry, 1, milliseconds) != 1) return false;
    connection_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return static_cast<bool>(connection_);
  }
  void hang_up() { connection_.reset(); }

  void write(const Bytes& bytes) const {
    REQUIRE(::send(connection_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(bytes.size()));
  }
  void write_frame(const Bytes& frame) const {
    Bytes bytes(4);
    store_be(bytes, frame.size());
    bytes.insert(bytes.end(), frame.begin(), frame.end());
    write(bytes);
  }
  Bytes read(std::size_t size) const {
    Bytes bytes(size);
    std::size_t got = 0;
    for (pollfd entry{connection_.get(), POLLIN, 0};
         got < size && ::poll(&entry, 1, patience_milliseconds) == 1;) {
      const ssize_t count = ::recv(connection_.get(), bytes.data() + got, size - got, 0);
      if (count <= 0) break;
      got += static_cast<std::size_t>(count);
    }
    bytes.resize(got);
    return bytes;
  }

 private:
  std::string path_;
  Fd listener_;
  Fd connection_;
};

// An interface with such a passt behind it, and its driver.
struct World {
  World()
      : passt(folder / "passt"),
        machine(),
        device(machine.create(net_kind, "socket=" + (folder / "passt"))),
        driver(machine.memory, *device) {
    REQUIRE(passt.accept());
    driver.activate();
  }

  bool link() const {
    Bytes status(2);
    device->read_config(6, status);
    return (load_le(status) & 1) != 0;
  }
  // A frame each way.
  bool carries() {
    const Bytes frame = frame_of(60, broadcast_mac);
    if (!driver.request(1, with_header({}, frame), 0)) return false;
    Bytes wanted(4);
    store_be(wanted, frame.size());
    wanted.insert(wanted.end(), frame.begin(), frame.end());
    if (passt.read(wanted.size()) != wanted) return false;
    driver.queue(0).add({{driver.allocate(256), 256, true}});
    driver.kick(0);
    passt.write_frame(frame);
    return driver.wait_used(0, std::chrono::milliseconds(patience_milliseconds)).has_value();
  }

  TemporaryFolder folder;
  PasstSocket passt;
  VirtioMachine machine;
  std::unique_ptr<virtio::VirtioDevice> device;
  FakeDriver driver;
};

}  // namespace

TEST_CASE("an interface exchanges frames with a passt that runs already") {
  World world;
  CHECK(world.link());
  CHECK(world.carries());
}

TEST_CASE("the link is down while the passt at a socket is gone, and up with the next one") {
  World world;
  CHECK(world.carries());
  const bool is_new_socket = GENERATE(false, true);
  for (int times = 0; times < 3; ++times) {
    if (is_new_socket)
      world.passt.close();
    else
      world.passt.hang_up();
    if (is_new_socket) {
      REQUIRE(comes_true([&] { return !world.link(); }));
      world.passt.open();
    }
    REQUIRE(world.passt.accept());
    REQUIRE(comes_true([&] { return world.link(); }));
    CHECK(world.carries());
  }
}

TEST_CASE("who sends no stream of frames is hung up on, and connected to again") {
  World world;
  world.driver.queue(0).add({{world.driver.allocate(256), 256, true}});
  world.driver.kick(0);
  const Bytes bad = GENERATE(Bytes(4), Bytes{std::byte{0xff}, std::byte{0xff}, std::byte{0}, std::byte{0}});
  world.passt.write(bad);
  REQUIRE(world.passt.accept());
  REQUIRE(comes_true([&] { return world.link(); }));
  world.passt.write_frame(frame_of(60, broadcast_mac));
  CHECK(world.driver.wait_used(0, std::chrono::milliseconds(patience_milliseconds)));
}

TEST_CASE("a passt that is away while the guest has no driver is found out about with the next one") {
  World world;
  world.device->suspend();
  world.passt.close();
  world.passt.open();
  world.driver.activate();
  REQUIRE(world.passt.accept());
  REQUIRE(comes_true([&] { return world.link(); }));
  CHECK(world.carries());
}

TEST_CASE("an interface exchanges frames over an inherited socket, whose end takes the link down") {
  const TemporaryFolder folder;
  PasstSocket passt(folder / "passt");
  std::array<int, 2> pair{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
  const Fd ours(pair[0]);
  passt.have(Fd(pair[1]));
  VirtioMachine machine;
  const auto device = machine.create(net_kind, "socket-fd=" + std::to_string(ours.get()));
  FakeDriver driver(machine.memory, *device);
  driver.activate();
  const auto link = [&] {
    Bytes status(2);
    device->read_config(6, status);
    return (load_le(status) & 1) != 0;
  };
  CHECK(link());
  driver.queue(0).add({{driver.allocate(256), 256, true}});
  driver.kick(0);
  passt.write_frame(frame_of(60, broadcast_mac));
  CHECK(driver.wait_used(0, std::chrono::milliseconds(patience_milliseconds)));
  passt.hang_up();
  CHECK(comes_true([&] { return !link(); }));
}

TEST_CASE("what is no stream socket is refused as one that was inherited") {
  VirtioMachine machine;
  std::array<int, 2> pair{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
  const Fd ours(pair[0]);
  const Fd other(pair[1]);
  for (const int number : {ours.get(), 60000})
    CHECK(contains(config_error_of([&] { machine.create(net_kind, "socket-fd=" + std::to_string(number)); }),
                   "net.socket-fd '" + std::to_string(number) + "': no open stream socket"));
  CHECK(contains(config_error_of([&] { machine.create(net_kind, "socket-fd=5,socket=x"); }), "give one of"));
}

TEST_CASE("a socket where no passt answers is refused by name") {
  const TemporaryFolder folder;
  VirtioMachine machine;
  const std::string error = config_error_of([&] { machine.create(net_kind, "socket=" + (folder / "none")); });
  CHECK(contains(error, "net.socket '" + (folder / "none") + "': no passt answers there"));
  CHECK(contains(error, "passt --socket"));
  CHECK(contains(config_error_of([&] { machine.create(net_kind, "socket=/" + std::string(200, 'x')); }),
                 "net.socket"));
}

TEST_CASE("the MTU of a passt is the one given, or its largest") {
  const TemporaryFolder folder;
  const PasstSocket passt(folder / "passt");
  const Log log;
  CHECK(PasstSocketBackend({.what = "net", .path = folder / "passt", .mtu = {}}, log).mtu() == 65520);
  CHECK(PasstSocketBackend({.what = "net", .path = folder / "passt", .mtu = 1400}, log).mtu() == 1400);
}

}  // namespace hum
