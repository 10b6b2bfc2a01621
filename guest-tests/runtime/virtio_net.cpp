// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio_net.h"

#include "guest-tests/runtime/hardware.h"

namespace guest {

bool VirtioNet::open(const BootInfo& boot, std::uint64_t features, std::uint32_t receive_size) {
  device = find_virtio_device(boot, virtio_net);
  return device != nullptr && start(features, receive_size);
}

bool VirtioNet::start(std::uint64_t features, std::uint32_t receive_size) {
  if (!prepare(features)) return false;
  offer_buffers(receive_size);
  device->finish();
  for (unsigned each = 0; each < pairs; ++each) device->notify(static_cast<std::uint16_t>(2 * each));
  return true;
}

// The control queue is behind the pairs that the driver knows of (5.1.2).
bool VirtioNet::prepare(std::uint64_t features) {
  if (!device->begin(features)) return false;
  const bool many = (device->features() & mq) != 0;
  pairs = many ? most_pairs : 1;
  control_index = static_cast<std::uint16_t>(2 * (many ? device->config<std::uint16_t>(pairs_at) : 1));
  for (unsigned each = 0; each < pairs; ++each) {
    device->set_queue(static_cast<std::uint16_t>(2 * each), pair[each].receive, entries);
    device->set_queue(static_cast<std::uint16_t>(2 * each + 1), pair[each].transmit, entries);
  }
  if ((device->features() & ctrl_vq) != 0) device->set_queue(control_index, control);
  header = {};
  return true;
}

// Each has the descriptor of its number.
void VirtioNet::offer_buffers(std::uint32_t receive_size) {
  for (unsigned each = 0; each < pairs; ++each) {
    for (auto& data : pair[each].buffers) {
      const VirtioBuffer buffer{data, receive_size, true};
      pair[each].receive.add(&buffer, 1);
    }
  }
}

bool VirtioNet::wait_used(const VirtioQueue& queue) const {
  return wait_until([&] { return queue.has_used(); }, 3);
}

bool VirtioNet::send(const volatile void* data, std::uint32_t size, unsigned number) {
  const VirtioBuffer parts[] = {{&header, header_size, false}, {data, size, false}};
  return send_chain(pair[number].transmit.place(parts, 2), number);
}

bool VirtioNet::send_chain(std::uint16_t head, unsigned number) {
  VirtioQueue& queue = pair[number].transmit;
  queue.offer(head);
  device->notify(static_cast<std::uint16_t>(2 * number + 1));
  if (!wait_used(queue)) return false;
  return queue.take().id == head;
}

bool VirtioNet::receive(unsigned number) {
  VirtioQueue& queue = pair[number].receive;
  if (!wait_used(queue)) return false;
  const VirtioElement element = queue.take();
  if (element.id >= most_buffers) return false;
  received = {pair[number].buffers[element.id], static_cast<std::uint16_t>(element.id), element.size};
  return true;
}

void VirtioNet::recycle(unsigned number) {
  pair[number].receive.offer(received.number);
  device->notify(static_cast<std::uint16_t>(2 * number));
}

bool VirtioNet::round_trip(std::uint32_t size, std::uint8_t seed, unsigned number) {
  for (std::uint32_t i = 0; i < size; ++i) frame[i] = static_cast<std::uint8_t>(seed + i);
  for (std::uint32_t i = 0; i < 6; ++i) frame[i] = device->config<std::uint8_t>(i);
  if (!send(frame, size, number) || !receive(number)) return false;
  bool same = received.size == header_size + size;
  for (std::uint32_t i = 0; same && i < size; ++i) same = received.frame()[i] == frame[i];
  recycle(number);
  return same;
}

std::uint8_t VirtioNet::command(std::uint8_t command_class, std::uint8_t number, const volatile void* data,
                                std::uint32_t size) {
  const std::uint8_t head[] = {command_class, number};
  volatile std::uint8_t answer = unanswered;
  const VirtioBuffer parts[] = {{head, sizeof(head), false}, {data, size, false}, {&answer, 1, true}};
  const VirtioBuffer without_data[] = {parts[0], parts[2]};
  std::uint32_t written = 0;
  if (!device->request(control_index, control, size != 0 ? parts : without_data, size != 0 ? 3 : 2, written))
    return unanswered;
  return written == 1 ? answer : unanswered;
}

}  // namespace guest
