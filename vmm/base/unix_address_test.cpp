// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/unix_address.h"

#include <unistd.h>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("a socket is found at its path, also at one as long as there can be") {
  const testing::TemporaryFolder folder;
  std::string path = folder / "s";
  path += std::string(UnixAddress::longest_path - path.size(), 's');
  const UnixAddress address = UnixAddress::of("socket", path);
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener.get(), address.get(), address.size()) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  CHECK(::access(path.c_str(), F_OK) == 0);
  const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(::connect(client.get(), address.get(), address.size()) == 0);
}

TEST_CASE("a path that is empty or too long is refused by the key's name") {
  const std::string path = GENERATE(std::string(), std::string(UnixAddress::longest_path + 1, 's'));
  CHECK_FALSE(UnixAddress::at(path));
  try {
    UnixAddress::of("vsock.socket", path);
    FAIL("it was taken");
  } catch (const ConfigError& error) {
    CHECK(error.key() == "vsock.socket");
    CHECK(std::string(error.what()).find("1 to 107 bytes") != std::string::npos);
  }
}

}  // namespace hum
