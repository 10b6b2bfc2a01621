// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstdlib>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/testing.h"

namespace hum {
namespace {

using namespace boot::test;

double milliseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

// A kernel that the environment names, in a guest of 512 MiB; how long each way to load it takes is printed.
struct Bench {
  explicit Bench(const char* variable) {
    if (const char* path = std::getenv(variable))
      request.kernel_path = path;
    else
      WARN("skipped: " << variable << " names no kernel");
    request.fresh_memory = true;
  }
  LoadedKernel load(BootProtocol protocol, const std::string& what) {
    request.protocol = protocol;
    const Guest guest(512);
    const auto begin = std::chrono::steady_clock::now();
    LoadedKernel kernel = guest.load(request);
    WARN(what << ": " << milliseconds_since(begin) << " ms");
    return kernel;
  }

  BootRequest request;
};

TEST_CASE("a distribution's bzImage is loaded by every protocol it has") {
  Bench bench("HUM_TEST_BZIMAGE");
  if (bench.request.kernel_path.empty()) return;
  const LoadedKernel kernel = bench.load(BootProtocol::automatic, "bzImage, unpacked here");
  CHECK(kernel.protocol == BootProtocol::pvh);
  CHECK_FALSE(kernel.compression.empty());
  CHECK(bench.load(BootProtocol::linux64, "bzImage, unpacked here, 64-bit entry").entry.rip != 0);
  CHECK(bench.load(BootProtocol::bzimage, "bzImage as it is").protocol == BootProtocol::bzimage);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(boot::BootFile("kernel", bench.request.kernel_path).digest().size() == 64);
  WARN("digest: " << milliseconds_since(begin) << " ms");
}

TEST_CASE("a distribution's ELF image is loaded by its PVH note") {
  Bench bench("HUM_TEST_VMLINUX");
  if (bench.request.kernel_path.empty()) return;
  CHECK(bench.load(BootProtocol::automatic, "ELF image").protocol == BootProtocol::pvh);
}

}  // namespace
}  // namespace hum
