// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio.h"

using namespace guest;

namespace {

constexpr std::uint32_t virtio_mem = 24;
constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint32_t address_at = 16;
constexpr std::uint32_t plugged_at = 40;
constexpr std::uint32_t requested_at = 48;

enum Type : std::uint16_t { plug, unplug, unplug_all, state };
enum Answer : std::uint16_t { done, refused, busy, wrong };

struct Request {
  std::uint16_t type;
  std::uint16_t padding[3];
  std::uint64_t address;
  std::uint16_t blocks;
  std::uint16_t more_padding[3];
};

struct Response {
  std::uint16_t answer;
  std::uint16_t padding[3];
  std::uint16_t state;
};

constinit VirtioDevice* memory = nullptr;
constinit VirtioDevice* rng = nullptr;
constinit VirtioQueue memory_queue{};
constinit VirtioQueue rng_queue{};
constinit Request request{};
constinit volatile Response response{};

std::uint16_t ask(Type type, std::uint64_t address, std::uint16_t blocks) {
  request = {type, {}, address, blocks, {}};
  response.answer = 0xffff;
  const VirtioBuffer buffers[] = {{&request, sizeof(request), false}, {&response, sizeof(response), true}};
  std::uint32_t written = 0;
  check(2, memory->request(0, memory_queue, buffers, 2, written) && written == sizeof(response), "an answer");
  return response.answer;
}

void open_rng() {
  check(3, rng != nullptr && rng->begin(), "entropy device");
  rng->set_queue(0, rng_queue);
  rng->finish();
}

VirtioBuffer buffer_at(std::uint64_t address) {
  return {reinterpret_cast<const volatile void*>(address), 4096, true};
}

// Another device is pointed there: it must not take it for memory.
void expect_no_memory(std::uint64_t address) {
  const VirtioBuffer buffer = buffer_at(address);
  rng_queue.add(&buffer, 1);
  rng->notify(0);
  check(4, wait_until([] { return (rng->status() & virtio_needs_reset) != 0; }, 3), "a broken ring");
  check(5, !rng_queue.has_used(), "no answer");
  open_rng();
}

void expect_memory(std::uint64_t address) {
  const VirtioBuffer buffer = buffer_at(address);
  std::uint32_t written = 0;
  check(6, rng->request(0, rng_queue, &buffer, 1, written) && written == 4096, "memory for another device");
}

}  // namespace

// Blocks of memory are plugged, used by the processor and by another device, and unplugged
// (virtio 1.2, 5.15). For a device with blocks of 2 MiB, slots of 4 MiB and 8 MiB requested, now or soon.
std::uint32_t guest_main(const BootInfo& boot) {
  memory = find_virtio_device(boot, virtio_mem);
  check(1, memory != nullptr && memory->begin(), "memory device");
  memory->set_queue(0, memory_queue);
  memory->finish();
  rng = find_virtio_device(boot, virtio_rng);
  open_rng();
  const auto begin = memory->config<std::uint64_t>(address_at);
  check(7, begin % (2 * mib) == 0 && memory->config<std::uint64_t>(0) == 2 * mib, "blocks of 2 MiB");
  check(8, wait_until([] { return memory->config<std::uint64_t>(requested_at) == 8 * mib; }, 10),
        "the requested size");
  expect_no_memory(begin);

  check(9, ask(plug, begin + 2 * mib, 2) == done, "two blocks, of two slots");
  check(10, memory->config<std::uint64_t>(plugged_at) == 4 * mib, "the plugged size");
  auto* const words = reinterpret_cast<volatile std::uint64_t*>(begin + 2 * mib);
  for (std::uint64_t i = 0; i < 4 * mib / 8; i += 512) words[i] = i + 1;
  for (std::uint64_t i = 0; i < 4 * mib / 8; i += 512) check(11, words[i] == i + 1, "memory");
  expect_memory(begin + 2 * mib);
  expect_memory(begin + 4 * mib - 2048);  // of both blocks
  expect_no_memory(begin + 2 * mib - 4096);
  expect_no_memory(begin + 2 * mib - 2048);
  expect_no_memory(begin + 6 * mib - 2048);
  expect_no_memory(begin + 6 * mib);

  check(12, ask(plug, begin + 8 * mib, 3) == refused, "no more than was requested");
  check(13, ask(plug, begin + 4 * mib, 1) == wrong, "what is plugged is not plugged again");
  check(14, ask(unplug, begin + 4 * mib, 2) == wrong, "what is not plugged is not unplugged");
  check(15, ask(plug, begin + 1, 1) == wrong && ask(plug, begin, 0) == wrong && ask(plug, 0, 1) == wrong,
        "no blocks");
  check(16, ask(state, begin, 4) == done && response.state == 2, "some are plugged");

  check(17, ask(unplug, begin + 2 * mib, 1) == done, "unplug");
  expect_no_memory(begin + 2 * mib);
  expect_memory(begin + 4 * mib);
  check(18, words[2 * mib / 8 + 512] == 2 * mib / 8 + 513, "the other block keeps its content");
  check(19, ask(unplug_all, 0, 0) == done && memory->config<std::uint64_t>(plugged_at) == 0, "unplug all");
  check(20, ask(state, begin, 4) == done && response.state == 1, "none is plugged");
  expect_no_memory(begin + 4 * mib);
  check(21, ask(plug, begin, 4) == done, "plug again");
  for (std::uint64_t i = 0; i < 4 * mib / 8; i += 512) check(22, words[i] == 0, "nothing of what was there");
  return 0;
}
