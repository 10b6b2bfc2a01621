// SPDX-License-Identifier: Apache-2.0
#include "devices/console/virtio_console.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>

#include "devices/config_space.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint16_t queue_size = 128;

// Virtio 1.2, 5.3.2: port 0, then the control queues, then the other ports.
constexpr std::uint16_t control_receive = 2;
constexpr std::uint16_t control_transmit = 3;
constexpr std::uint16_t receive_queue(std::uint32_t id) {
  return static_cast<std::uint16_t>(id == 0 ? 0 : 2 * id + 2);
}
constexpr std::uint16_t transmit_queue(std::uint32_t id) {
  return static_cast<std::uint16_t>(receive_queue(id) + 1);
}
constexpr std::size_t port_of_queue(std::uint16_t index) {
  return index < 2 ? 0u : index / 2u - 1u;
}

constexpr std::uint64_t feature_multiport = 1ull << 1;  // 5.3.3

// 5.3.4.
struct ConfigSpace {
  le16 columns;
  le16 rows;
  le32 max_nr_ports;
};
static_assert(sizeof(ConfigSpace) == 8);

// 5.3.6.2.
constexpr std::uint16_t event_device_ready = 0;
constexpr std::uint16_t event_port_add = 1;
constexpr std::uint16_t event_port_ready = 3;
constexpr std::uint16_t event_console_port = 4;
constexpr std::uint16_t event_port_open = 6;
constexpr std::uint16_t event_port_name = 7;

// What the guest is told of a port, in this order.
constexpr std::array announcements = {event_port_add, event_console_port, event_port_name, event_port_open};

constexpr std::uint32_t due_bit(std::uint16_t event) {
  return 1u << event;
}

std::optional<HostEnd> host_end(int number) {
  return number < 0 ? std::nullopt : std::optional<HostEnd>(std::in_place, number);
}

std::string message_of(int error) {
  return std::generic_category().message(error);
}

}  // namespace

struct VirtioConsole::Control {
  le32 id;
  le16 event;
  le16 value;
};

VirtioConsole::VirtioConsole(std::optional<Ends> console, std::span<const NamedPort> ports, const Log& log)
    : log_(log), queue_sizes_(2 * (ports.size() + 2), queue_size) {
  static_assert(sizeof(Control) == 8);
  add_port(console.has_value(), "", console.value_or(Ends{}));
  for (const NamedPort& each : ports) add_port(true, each.name, each.ends);
}

void VirtioConsole::add_port(bool present, std::string name, Ends ends) {
  ports_.push_back({.id = static_cast<std::uint32_t>(ports_.size()),
                    .present = present,
                    .name = std::move(name),
                    .input = host_end(ends.input),
                    .output = host_end(ends.output)});
}

std::uint64_t VirtioConsole::features() const {
  return feature_multiport;
}

void VirtioConsole::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  ConfigSpace space = {};
  space.max_nr_ports = static_cast<std::uint32_t>(ports_.size());
  read_config_space(bytes_of(space), offset, data);
}

void VirtioConsole::activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                             virtio::DeviceEvents& events) {
  // A driver without control queues has the console only, and that is always open.
  if ((driver_features & feature_multiport) == 0) ports_[0].open = true;
  service_ = std::make_unique<QueueService>("console", std::move(queues), events);
  service_->start([this](std::uint16_t index) { serve(index); });
}

void VirtioConsole::deactivate() {
  suspend();
  for (Port& port : ports_) {
    port.open = false;
    port.due = 0;
    port.sent = 0;
  }
}

// A request that the host has taken a part of goes back into its queue; what comes next goes on behind that
// part.
std::vector<virtio::ActiveQueue> VirtioConsole::suspend() {
  std::vector<virtio::ActiveQueue> queues = QueueService::end(service_);
  for (Port& port : ports_) {
    if (!std::exchange(port.busy, false)) continue;
    const auto queue = std::find_if(queues.begin(), queues.end(),
                                    [&](const auto& each) { return each.index == transmit_queue(port.id); });
    queue->queue->undo_pop();
  }
  return queues;
}

void VirtioConsole::fields(StateVisitor& visitor) {
  visitor.same("ports", ports_.size());
  for (Port& port : ports_)
    visitor.section("port", port.id, [&] {
      visitor.same("name", port.name);
      visitor.flag("open", port.open);
      constexpr std::uint32_t any = due_bit(event_port_add) | due_bit(event_console_port) |
                                    due_bit(event_port_name) | due_bit(event_port_open);
      const std::uint32_t due = visitor.number("due", port.due);
      visitor.require((due & ~any) == 0 && (due == 0 || port.present), "due",
                      "has messages that do not exist");
      visitor.number("sent", port.sent);
    });
}

void VirtioConsole::serve(std::uint16_t index) {
  if (index == control_receive) return announce();
  if (index == control_transmit) return serve_control();
  Port& port = ports_[port_of_queue(index)];
  if (index == receive_queue(port.id)) {
    receive(port);
  } else {
    transmit(port);
  }
}

// Moves input to the guest until one of the two has no more of it.
void VirtioConsole::receive(Port& port) {
  if (!port.input) return;
  virtio::VirtQueue* const queue = service_->queue(receive_queue(port.id));
  HostEnd::Transfer last{HostEnd::State::moved};
  if (port.open)
    service_->drain(receive_queue(port.id), [&](virtio::DescriptorChain& chain) {
      if (chain.writable_bytes != 0) last = port.input->read(chain.writable);
      if (last.state != HostEnd::State::moved) {
        queue->undo_pop();
        return false;
      }
      queue->push(chain.head, static_cast<std::uint32_t>(chain.writable_bytes == 0 ? 0 : last.bytes));
      return true;
    });
  if (last.state == HostEnd::State::wait) {
    service_->watch(port.input->fd(), EventLoop::Interest::readable, [this, &port] { receive(port); });
    return;
  }
  service_->unwatch(port.input->fd());
  if (last.state != HostEnd::State::closed) return;
  if (last.error != 0)
    log_.warning("console port '" + port.name + "': cannot read its input: " + message_of(last.error));
  port.input.reset();
  port.input_ended = true;
  port.due |= due_bit(event_port_open);
  announce();
}

// Moves output to the host; true if none is left.
bool VirtioConsole::transmit(Port& port) {
  if (!finish(port)) return false;
  return service_->drain(transmit_queue(port.id), [&](virtio::DescriptorChain& chain) {
    std::swap(port.sending, chain);
    port.busy = true;
    return finish(port);
  });
}

// Writes what is left of the request under way; true if it is done with.
bool VirtioConsole::finish(Port& port) {
  if (!port.busy) return true;
  while (port.output && port.sent < port.sending.readable_bytes) {
    if (service_->stopping()) return false;
    const HostEnd::Transfer done = port.output->write(port.sending.readable, port.sent);
    if (done.state == HostEnd::State::wait) {
      service_->watch(port.output->fd(), EventLoop::Interest::writable, [this, &port] { transmit(port); });
      return false;
    }
    if (done.state == HostEnd::State::closed) end_output(port, done.error);
    port.sent += done.bytes;
  }
  if (port.output) service_->unwatch(port.output->fd());
  service_->queue(transmit_queue(port.id))->push(port.sending.head, 0);
  port.busy = false;
  port.sent = 0;
  return true;
}

// The guest is not told: Linux would keep its writers waiting for ever.
void VirtioConsole::end_output(Port& port, int error) {
  if (error != EPIPE)
    log_.warning("console port '" + port.name +
                 "': its output is lost, the host cannot write it: " + message_of(error));
  service_->unwatch(port.output->fd());
  port.output.reset();
}

void VirtioConsole::serve_control() {
  virtio::VirtQueue* const queue = service_->queue(control_transmit);
  service_->drain(control_transmit, [&](virtio::DescriptorChain& chain) {
    Control message{};
    if (copy_from(chain.readable, 0, writable_bytes_of(message)) == sizeof message) obey(message);
    queue->push(chain.head, 0);
    return true;
  });
  announce();
}

void VirtioConsole::obey(const Control& message) {
  if (message.event == event_device_ready) {
    if (message.value == 0) return;
    for (Port& port : ports_)
      if (port.present) port.due |= due_bit(event_port_add);
    return;
  }
  const std::uint32_t id = message.id;
  if (id >= ports_.size() || !ports_[id].present) return;
  Port& port = ports_[id];
  if (message.event == event_port_ready && message.value != 0) {
    port.due |= due_bit(id == 0 ? event_console_port : event_port_name) | due_bit(event_port_open);
  } else if (message.event == event_port_open) {
    port.open = message.value != 0;
    receive(port);
  }
}

// Sends the control messages that are due, as far as the guest has given buffers for them. What is due is a
// state, not a queue: however often a guest asks, it takes no memory.
void VirtioConsole::announce() {
  virtio::VirtQueue* const queue = service_->queue(control_receive);
  const auto next = [this] {
    return std::find_if(ports_.begin(), ports_.end(), [](const Port& port) { return port.due != 0; });
  };
  if (next() == ports_.end()) return;
  service_->drain(control_receive, [&](virtio::DescriptorChain& chain) {
    const auto port = next();
    if (port == ports_.end()) {
      queue->undo_pop();
      return false;
    }
    queue->push(chain.head, static_cast<std::uint32_t>(write_announcement(*port, chain.writable)));
    return true;
  });
}

std::size_t VirtioConsole::write_announcement(Port& port, std::span<const iovec> to) {
  const std::uint16_t event =
      *std::find_if(announcements.begin(), announcements.end(),
                    [&](std::uint16_t each) { return (port.due & due_bit(each)) != 0; });
  port.due &= ~due_bit(event);
  const bool closed = event == event_port_open && port.input_ended;
  const Control message{port.id, event, static_cast<std::uint16_t>(closed ? 0 : 1)};
  std::size_t written = copy_to(to, 0, bytes_of(message));
  if (event == event_port_name) written += copy_to(to, written, std::as_bytes(std::span(port.name)));
  return written;
}

void VirtioConsole::flush(int give_up_fd) {
  if (!service_) return;
  service_->call([this, give_up_fd] {
    std::vector<pollfd> waited_for;
    while (true) {
      waited_for.assign(1, {.fd = give_up_fd, .events = POLLIN, .revents = 0});
      bool in_turns = false;  // a queue with more than one turn's requests
      for (Port& port : ports_) {
        if (transmit(port)) continue;
        if (port.busy) {
          waited_for.push_back({.fd = port.output->fd(), .events = POLLOUT, .revents = 0});
        } else {
          in_turns = true;
        }
      }
      if (waited_for.size() == 1 && !in_turns) return;
      ::poll(waited_for.data(), waited_for.size(), in_turns ? 0 : -1);
      if (waited_for.front().revents != 0) break;
    }
    log_.warning("a reader of the guest's output is behind: what it had not taken is lost");
  });
}

namespace {

constexpr OptionSpec console_options[] = {
    {.key = "ports",
     .help = "named ports with their input and output descriptors, - for none: NAME:IN:OUT, with + between "
             "ports"},
    {.key = "console", .help = "a console on port 0 with its input and output descriptors: IN:OUT"},
};

// The words between separators; as many as there are separators, and one.
std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> words(1);
  for (const char each : text) {
    if (each == separator) {
      words.emplace_back();
    } else {
      words.back() += each;
    }
  }
  return words;
}

// One option's text, and the checks of its parts.
class PortReader {
 public:
  PortReader(std::string key, std::string text) : key_(std::move(key)), text_(std::move(text)) {}

  std::vector<VirtioConsole::NamedPort> named_ports() const {
    std::vector<VirtioConsole::NamedPort> ports;
    for (const std::string& word : split(text_, '+')) {
      const std::vector<std::string> parts = split(word, ':');
      if (parts.size() != 3) throw refuse("not a list of ports", "give NAME:IN:OUT, with + between ports");
      const std::string& name = parts[0];
      if (!is_name(name))
        throw refuse("'" + name + "' is no name for a port",
                     "give 1 to 64 letters, digits, dots, dashes or underscores");
      if (std::any_of(ports.begin(), ports.end(), [&](const auto& other) { return other.name == name; }))
        throw refuse("port '" + name + "' is there twice", "give each port a name of its own");
      ports.push_back({name, ends(parts[1], parts[2])});
    }
    if (ports.size() > VirtioConsole::most_ports)
      throw refuse("too many ports", "give at most " + std::to_string(VirtioConsole::most_ports));
    return ports;
  }

  VirtioConsole::Ends console() const {
    const std::vector<std::string> parts = split(text_, ':');
    if (parts.size() != 2) throw refuse("not a pair of descriptors", "give IN:OUT");
    return ends(parts[0], parts[1]);
  }

 private:
  static bool is_name(const std::string& name) {
    static constexpr auto accepted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    return !name.empty() && name.size() <= 64 && name.find_first_not_of(accepted) == std::string::npos;
  }

  VirtioConsole::Ends ends(const std::string& input, const std::string& output) const {
    const VirtioConsole::Ends both{descriptor(input, O_WRONLY, "read"),
                                   descriptor(output, O_RDONLY, "written")};
    if (both.input < 0 && both.output < 0) throw refuse("a port has no descriptor", "give one that is not -");
    return both;
  }

  // wrong: the access mode that a descriptor for this direction does not have.
  int descriptor(const std::string& word, int wrong, const char* verb) const {
    if (word == "-") return -1;
    int number = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || number < 0)
      throw refuse("'" + word + "' is no descriptor", "give the number of an open descriptor, or - for none");
    const int flags = ::fcntl(number, F_GETFL);
    if (flags < 0)
      throw refuse("descriptor " + word + " is not open", "give the number of an open one, or -");
    if ((flags & O_ACCMODE) == wrong)
      throw refuse("descriptor " + word + " cannot be " + verb, "give one that was opened for it, or -");
    return number;
  }

  ConfigError refuse(const std::string& problem, const std::string& fix) const {
    return {key_, text_, problem, fix};
  }

  std::string key_;
  std::string text_;
};

std::unique_ptr<virtio::VirtioDevice> create(const OptionValues& values, DeviceContext& context) {
  const std::string what(values.what());
  std::optional<VirtioConsole::Ends> console;
  std::vector<VirtioConsole::NamedPort> ports;
  if (values.has("console")) console = PortReader(what + ".console", values.text("console")).console();
  if (values.has("ports")) ports = PortReader(what + ".ports", values.text("ports")).named_ports();
  if (!console && ports.empty()) throw ConfigError(what, "", "no port", "give ports or console");
  return std::make_unique<VirtioConsole>(console, ports, context.log);
}

}  // namespace

constinit const DeviceKind console_kind{
    .name = "console",
    .help = "byte streams between the guest and open descriptors (virtio)",
    .options = console_options,
    .create = DeviceKind::VirtioFactory{create},
};

}  // namespace hum
