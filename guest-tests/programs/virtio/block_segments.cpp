// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit char data[1025]{};

}  // namespace

// A request may be cut anywhere (virtio 1.2, 2.7.4.1): header, data and status in many pieces, and several in
// one.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  disk.header = {VirtioDisk::in, 0, 3};
  const VirtioBuffer pieces[] = {
      {&disk.header, 1, false}, {reinterpret_cast<const char*>(&disk.header) + 1, 15, false},
      {data, 1, true},          {data + 1, 500, true},
      {data + 501, 523, true},  {&disk.status, 1, true}};
  disk.status = VirtioDisk::unanswered;
  check(2, disk.send(disk.queue.place(pieces, 6)) == VirtioDisk::ok && disk.written == 1025, "many pieces");
  check(3, is_disk_pattern(data, 1024, 3), "content");

  // Data and status in one piece.
  const VirtioBuffer joined[] = {{&disk.header, 16, false}, {data, 513, true}};
  data[512] = 99;
  disk.send(disk.queue.place(joined, 2));
  check(4, data[512] == VirtioDisk::ok && disk.written == 513, "data and status in one piece");
  check(5, is_disk_pattern(data, 512, 3), "content");

  // Header and data of a write in one piece.
  static constinit struct {
    VirtioDisk::Header header;
    char data[512];
  } write{{VirtioDisk::out, 0, 5}, {'w', 'r', 'i', 't', 't', 'e', 'n'}};
  disk.status = VirtioDisk::unanswered;
  const VirtioBuffer whole[] = {{&write, sizeof(write), false}, {&disk.status, 1, true}};
  check(6, disk.send(disk.queue.place(whole, 2)) == VirtioDisk::ok, "header and data in one piece");
  check(7, disk.request(VirtioDisk::in, 5, data, 512) == VirtioDisk::ok, "read");
  check(8, Text(data) == "written" && data[511] == 0, "content");
  return 0;
}
