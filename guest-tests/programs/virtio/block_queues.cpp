// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constexpr std::uint64_t feature_mq = 1 << 12;
constexpr std::uint32_t num_queues = 34;  // in configuration space
constexpr std::uint16_t count = 4;
constexpr unsigned requests = 4;  // in each queue at a time

struct Request {
  VirtioDisk::Header header;
  volatile char data[VirtioDisk::sector_size];
  volatile std::uint8_t status;
};
constinit VirtioQueue queues[count]{};
constinit Request all[count][requests]{};

}  // namespace

// A disk with several queues (virtio 1.2, 5.2.2): each answers its own requests, all at a time.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDevice* const device = find_virtio_device(boot, virtio_block);
  check(1, device != nullptr && device->begin(feature_mq), "disk");
  check(2, (device->features() & feature_mq) != 0 && device->config<std::uint16_t>(num_queues) == count,
        "number of queues");
  check(3, device->queue_size(count) == 0, "no queue behind the last");
  for (std::uint16_t i = 0; i < count; ++i) device->set_queue(i, queues[i], 32);
  device->finish();
  for (unsigned round = 0; round < 2; ++round) {
    for (std::uint16_t i = 0; i < count; ++i) {
      for (unsigned k = 0; k < requests; ++k) {
        Request& request = all[i][k];
        request.header = {VirtioDisk::in, 0, i * 100u + k * 7u + round};
        request.status = VirtioDisk::unanswered;
        for (volatile char& each : request.data) each = '\0';
        const VirtioBuffer buffers[] = {{&request.header, sizeof(request.header), false},
                                        {request.data, sizeof(request.data), true},
                                        {&request.status, 1, true}};
        queues[i].add(buffers, 3);
      }
    }
    for (std::uint16_t i = count; i-- != 0;) device->notify(i);
    for (std::uint16_t i = 0; i < count; ++i) {
      for (unsigned k = 0; k < requests; ++k) {
        check(4, wait_until([&] { return queues[i].has_used(); }, 3), "an answer in each queue");
        queues[i].take();
      }
      check(5, !queues[i].has_used(), "no answer too many");
      for (const Request& request : all[i])
        check(6,
              request.status == VirtioDisk::ok &&
                  is_disk_pattern(request.data, sizeof(request.data), request.header.sector),
              "its own data");
    }
  }
  return 0;
}
