// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_device.h"

#include <algorithm>
#include <utility>

#include "devices/config_space.h"
#include "devices/vsock/vsock_wire.h"
#include "vmm/base/open_file_limit.h"

namespace hum {

using namespace vsock_wire;

VsockDevice::VsockDevice(const Settings& settings)
    : cid_(settings.connections.cid),
      queue_sizes_{settings.queue_size, settings.queue_size, settings.queue_size},
      listener_(settings.what + ".socket", settings.path, settings.line_patience),
      switch_(settings.connections, listener_, counters_) {}

std::size_t VsockDevice::connections_within(std::uint64_t open_files) {
  constexpr std::uint64_t reserve = 256;
  const std::uint64_t most = VsockSwitch::Settings{}.most_connections;
  return std::min(most, open_files - std::min(reserve, open_files / 2));
}

std::uint64_t VsockDevice::features() const {
  return feature_stream;
}

void VsockDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  read_config_space(bytes_of(ConfigSpace{cid_}), offset, data);
}

void VsockDevice::activate(std::uint64_t, std::vector<virtio::ActiveQueue> queues,
                           virtio::DeviceEvents& events) {
  service_ = std::make_unique<QueueService>("vsock", std::move(queues), events);
  switch_.start(*service_, [this](std::uint16_t index) { serve(index); });
}

void VsockDevice::deactivate() {
  suspend();
  switch_.clear();
  reset_due_ = false;
}

std::vector<virtio::ActiveQueue> VsockDevice::suspend() {
  return QueueService::end(service_);
}

void VsockDevice::serve(std::uint16_t index) {
  if (index == receive_queue) return switch_.send_packets();
  if (index == event_queue) return tell_of_reset();
  switch_.receive_packets();
}

// 5.10.6.7. A buffer that is too small for an event goes back without one.
void VsockDevice::tell_of_reset() {
  if (!reset_due_) return;
  service_->drain(event_queue, [this](virtio::DescriptorChain& chain) {
    virtio::VirtQueue& queue = *service_->queue(event_queue);
    const Event event{event_transport_reset};
    reset_due_ = chain.writable_bytes < sizeof event;
    queue.push(chain.head,
               reset_due_ ? 0 : static_cast<std::uint32_t>(copy_to(chain.writable, 0, bytes_of(event))));
    return reset_due_;
  });
}

void VsockDevice::fields(StateVisitor& visitor) {
  visitor.same("cid", cid_);
  visitor.afterwards([this] { reset_due_ = true; });
}

void VsockDevice::flush(int give_up_fd) {
  if (service_) service_->call([&] { switch_.flush(give_up_fd); });
}

std::vector<virtio::DeviceReport::Own> VsockDevice::report() const {
  return {{"opened", counters_.opened.get()},
          {"refused", counters_.refused.get()},
          {"reset", counters_.reset.get()},
          {"bytes_from_guest", counters_.bytes_from_guest.get()},
          {"bytes_to_guest", counters_.bytes_to_guest.get()}};
}

namespace {

constexpr OptionSpec vsock_options[] = {
    {.key = "socket",
     .help = "Unix socket to make, for connections to the guest; those to the host's port N go to SOCKET_N",
     .required = true},
    {.key = "cid",
     .type = OptionType::integer,
     .help = "the guest's address (CID)",
     .default_value = "3",
     .minimum = first_guest_cid,
     .maximum = last_guest_cid},
    {.key = "queue-size",
     .type = OptionType::choice,
     .help = "entries of each queue",
     .default_value = "256",
     .choices = "4|8|16|32|64|128|256|512|1024"},
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext&) {
  return std::make_unique<VsockDevice>(VsockDevice::Settings{
      .what = std::string(values.what()),
      .path = values.text("socket"),
      .queue_size = static_cast<std::uint16_t>(std::stoul(values.text("queue-size"))),
      .connections = {.cid = static_cast<std::uint32_t>(values.number("cid")),
                      .most_connections = VsockDevice::connections_within(open_file_limit())}});
}

}  // namespace

constinit const DeviceKind vsock_kind{
    .name = "vsock",
    .help = "sockets between guest and host, as Unix sockets of the host (virtio)",
    .options = vsock_options,
    .create = DeviceKind::VirtioFactory{create},
};

}  // namespace hum
