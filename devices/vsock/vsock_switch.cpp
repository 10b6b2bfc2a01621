// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_switch.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {

using namespace vsock_wire;

namespace {

using Clock = std::chrono::steady_clock;

// Ports of the host for connections to the guest: where no service is.
constexpr std::uint32_t first_port = 1u << 30;
constexpr std::uint32_t end_of_ports = 1u << 31;

// So that one connection does not keep the others waiting for long.
constexpr std::size_t most_packet_bytes = 64 * 1024;

// There is no event for the moment when a program of the host accepts the clients that wait for it.
constexpr std::chrono::milliseconds retry{5};

VsockPorts ports_of(const Header& header) {
  return {header.dst_port, header.src_port};
}

}  // namespace

VsockSwitch::VsockSwitch(const Settings& settings, VsockListener& listener, VsockCounters& counters)
    : settings_(settings),
      listener_(listener),
      counters_(counters),
      sockets_(::epoll_create1(EPOLL_CLOEXEC)),
      next_port_(first_port) {
  if (!sockets_)
    throw HostError(errno, "create an epoll descriptor", "raise the limit of open files (ulimit -n)");
}

void VsockSwitch::start(QueueService& service, QueueService::Kicked kicked) {
  service_ = &service;
  if (!waiting_.empty()) wake_at(Clock::now());
  // Nobody could answer during a pause.
  for (const auto& [key, link] : links_)
    if (link->until)
      end_after(*link, link->connection.open() ? settings_.close_patience : settings_.answer_patience);
  service.start(std::move(kicked));
  service.call([this] {
    using Interest = EventLoop::Interest;
    service_->watch(sockets_.get(), Interest::readable, [this] { serve_sockets(); });
    service_->watch(timer_.fd(), Interest::readable, [this] { serve_timer(); });
    service_->watch(listener_.fd(), Interest::readable, [this] {
      listener_.serve([this](Fd client, std::uint32_t port) { open_to_guest(std::move(client), port); });
      send_packets();
    });
  });
}

void VsockSwitch::clear() {
  links_.clear();
  quiet_.clear();
  turns_.clear();
  waiting_.clear();
  resets_due_ = 0;
  stalled_ = false;
  timer_.stop();
  timer_until_.reset();
}

bool VsockSwitch::receive_packets() {
  const bool all = service_->drain(transmit_queue, [this](virtio::DescriptorChain& chain) {
    if (resets_due_ == most_resets) send_packets();
    stalled_ = resets_due_ == most_resets;
    if (stalled_) {
      service_->queue(transmit_queue)->undo_pop();
      return false;
    }
    take(chain);
    service_->queue(transmit_queue)->push(chain.head, 0);
    return true;
  });
  send_packets();
  return all;
}

// A packet that is none, or is not between this guest and the host, has nobody who could answer it.
void VsockSwitch::take(const virtio::DescriptorChain& chain) {
  Header header{};
  if (copy_from(chain.readable, 0, writable_bytes_of(header)) != sizeof header) return;
  if (header.src_cid != settings_.cid || header.src_cid_high != 0 || header.dst_cid != host_cid ||
      header.dst_cid_high != 0)
    return;
  const bool sound = header.type == type_stream && header.len <= chain.readable_bytes - sizeof header;
  const auto found = header.type == type_stream ? links_.find(key_of(ports_of(header))) : links_.end();
  if (found == links_.end()) return take_unknown(header, sound);
  Link& link = *found->second;
  if (link.connection.finished()) return refuse(header);
  sound ? take(link, header, chain) : lose(link);
}

// A packet of no connection: a request, or it takes one back that waits, or it is a mistake.
void VsockSwitch::take_unknown(const Header& header, bool sound) {
  const auto waits = std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& each) {
    return header.type == type_stream && ports_of(each.request) == ports_of(header);
  });
  if (waits != waiting_.end()) {
    waiting_.erase(waits);
    counters_.refused.add();
  } else if (sound && header.op == op_request) {
    if (has_room()) {
      if (open_to_host(header)) return;
      const auto now = Clock::now();
      waiting_.push_back({header, now + settings_.answer_patience});
      return wake_at(now + retry);
    }
    counters_.refused.add();
  }
  refuse(header);
}

void VsockSwitch::take(Link& link, const Header& header, const virtio::DescriptorChain& chain) {
  switch (link.connection.take(header)) {
    case VsockConnection::Event::none:
      break;
    case VsockConnection::Event::accepted: {
      counters_.opened.add();
      link.until.reset();
      std::string answer = "OK " + std::to_string(link.connection.ports().host) + "\n";
      const iovec whole{answer.data(), answer.size()};
      link.stream.write({&whole, 1}, 0, answer.size());
      break;
    }
    case VsockConnection::Event::data:
      counters_.bytes_from_guest.add(header.len);
      link.connection.forwarded(link.stream.write(chain.readable, sizeof header, header.len));
      break;
    case VsockConnection::Event::ended:
    case VsockConnection::Event::broken:
      count_end(link.connection);
      break;
  }
  settle(link);
}

void VsockSwitch::refuse(const Header& header) {
  if (header.op == op_rst) return;
  resets_[(first_reset_ + resets_due_++) % most_resets] = {ports_of(header), header.type};
}

// False if it is to be tried again.
bool VsockSwitch::open_to_host(const Header& request) {
  auto [socket, busy] = listener_.connect(request.dst_port);
  if (busy) return false;
  Link* const link = socket ? add(VsockConnection(ports_of(request), request), std::move(socket)) : nullptr;
  if (link == nullptr) {
    counters_.refused.add();
    refuse(request);
  } else {
    counters_.opened.add();
    settle(*link);
  }
  return true;
}

void VsockSwitch::open_to_guest(Fd client, std::uint32_t port) {
  VsockPorts ports{0, port};
  do {
    ports.host = next_port_;
    next_port_ = next_port_ + 1 == end_of_ports ? first_port : next_port_ + 1;
  } while (links_.contains(key_of(ports)));
  Link* const link = has_room() ? add(VsockConnection(ports), std::move(client)) : nullptr;
  if (link == nullptr) return counters_.refused.add();
  end_after(*link, settings_.answer_patience);
  settle(*link);
}

bool VsockSwitch::has_room() const {
  return links_.size() + waiting_.size() < settings_.most_connections;
}

// Null if the host cannot watch one more, or there is one of these ports.
VsockSwitch::Link* VsockSwitch::add(const VsockConnection& connection, Fd socket) {
  const std::uint64_t key = key_of(connection.ports());
  if (links_.contains(key)) return nullptr;
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u64 = key}};
  if (::epoll_ctl(sockets_.get(), EPOLL_CTL_ADD, socket.get(), &event) != 0) return nullptr;
  quiet_.emplace_back(connection, std::move(socket));
  links_[key] = std::prev(quiet_.end());
  return &quiet_.back();
}

void VsockSwitch::remove(Link& link) {
  const auto found = links_.find(key_of(link.connection.ports()));
  (link.has_turn ? turns_ : quiet_).erase(found->second);
  links_.erase(found);
}

// Ends a connection without the guest's or the host's doing.
void VsockSwitch::lose(Link& link) {
  if (!link.connection.over()) count_end(link.connection);
  link.connection.reset();
  settle(link);
}

// What follows from all that has happened to a connection; it may be gone afterwards.
void VsockSwitch::settle(Link& link) {
  VsockConnection& connection = link.connection;
  if (connection.open()) pass_on(link);
  if (connection.over()) {
    link.until.reset();
    link.stream.flush();
    // What the guest has sent before a proper end still reaches the host.
    const bool delivers = (connection.guest_done() & shutdown_send) != 0 && !link.stream.drained();
    if (!delivers) link.stream.close();
    if (connection.finished() && !delivers) return remove(link);
  }
  const bool data = connection.wants_data() && link.stream.readable();
  if (data && connection.credit() == 0) connection.ask_for_credit();
  const bool sends = connection.control_due() || (data && connection.credit() != 0);
  if (sends == link.has_turn) return;
  const auto place = links_.find(key_of(connection.ports()))->second;
  (sends ? turns_ : quiet_).splice((sends ? turns_ : quiet_).end(), sends ? quiet_ : turns_, place);
  link.has_turn = sends;
}

// Between the two ends of an open connection.
void VsockSwitch::pass_on(Link& link) {
  VsockConnection& connection = link.connection;
  VsockStream& stream = link.stream;
  connection.forwarded(stream.flush());
  const std::uint32_t done = connection.guest_done();
  if ((done & shutdown_send) != 0 && stream.drained()) {
    if (done == shutdown_both) return connection.reset();
    stream.end_output();
  }
  if ((done & shutdown_receive) != 0) stream.end_input();
  connection.host_does_no_more((stream.input_ended() ? shutdown_send : 0) |
                               (stream.output_ended() ? shutdown_receive : 0));
  if (connection.host_done() == shutdown_both && !link.until) end_after(link, settings_.close_patience);
}

void VsockSwitch::count_end(const VsockConnection& connection) {
  if (!connection.was_opened()) {
    counters_.refused.add();
  } else if (connection.guest_done() != shutdown_both && connection.host_done() != shutdown_both) {
    counters_.reset.add();
  }
}

void VsockSwitch::send_packets() {
  if (resets_due_ == 0 && turns_.empty()) return;
  service_->drain(receive_queue, [this](virtio::DescriptorChain& chain) {
    virtio::VirtQueue& queue = *service_->queue(receive_queue);
    std::uint32_t written = 0;
    if (chain.writable_bytes > sizeof(Header)) {
      written = next_packet(chain);
      if (written == 0) {
        queue.undo_pop();
        return false;
      }
    }
    queue.push(chain.head, written);
    return true;
  });
  if (stalled_ && resets_due_ < most_resets) {
    stalled_ = false;
    service_->serve_later(transmit_queue);
  }
}

// Bytes written; 0: there is nothing to send.
std::uint32_t VsockSwitch::next_packet(const virtio::DescriptorChain& chain) {
  if (resets_due_ != 0) {
    const Reset& reset = resets_[first_reset_];
    first_reset_ = (first_reset_ + 1) % most_resets;
    --resets_due_;
    Header header{};
    header.src_port = reset.ports.host;
    header.dst_port = reset.ports.guest;
    header.type = reset.type;
    header.op = op_rst;
    return put(header, chain.writable);
  }
  while (!turns_.empty()) {
    Link& link = turns_.front();
    const std::uint32_t written = packet_of(link, chain);
    quiet_.splice(quiet_.end(), turns_, turns_.begin());  // to the end of the turns, if there is more
    link.has_turn = false;
    settle(link);
    if (written != 0) return written;
  }
  return 0;
}

// 0: the host has sent nothing yet.
std::uint32_t VsockSwitch::packet_of(Link& link, const virtio::DescriptorChain& chain) {
  if (const auto control = link.connection.next_control()) return put(*control, chain.writable);
  const std::size_t most = std::min<std::size_t>(
      {link.connection.credit(), chain.writable_bytes - sizeof(Header), most_packet_bytes});
  const auto bytes = static_cast<std::uint32_t>(link.stream.read(chain.writable, sizeof(Header), most));
  if (bytes == 0) return 0;
  counters_.bytes_to_guest.add(bytes);
  return put(link.connection.data(bytes), chain.writable) + bytes;
}

std::uint32_t VsockSwitch::put(Header header, std::span<const iovec> to) const {
  header.src_cid = host_cid;
  header.dst_cid = settings_.cid;
  return static_cast<std::uint32_t>(copy_to(to, 0, bytes_of(header)));
}

void VsockSwitch::serve_sockets() {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(sockets_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const std::uint64_t key = event.data.u64;  // an epoll_event is packed
    const auto found = links_.find(key);
    if (found == links_.end()) continue;
    found->second->stream.ready(event.events);
    settle(*found->second);
  }
  send_packets();
}

void VsockSwitch::end_after(Link& link, std::chrono::milliseconds patience) {
  link.until = Clock::now() + patience;
  wake_at(*link.until);
}

void VsockSwitch::wake_at(Clock::time_point time) {
  if (timer_until_ && *timer_until_ <= time) return;
  timer_until_ = time;
  timer_.set(time - Clock::now());
}

void VsockSwitch::serve_timer() {
  timer_.stop();
  timer_until_.reset();
  const auto now = Clock::now();
  for (auto next = links_.begin(); next != links_.end();) {
    Link& link = *(next++)->second;
    if (!link.until) continue;
    if (*link.until > now) {
      wake_at(*link.until);
    } else {
      lose(link);
    }
  }
  retry_waiting(now);
  send_packets();
}

void VsockSwitch::retry_waiting(Clock::time_point now) {
  std::optional<std::uint32_t> busy;  // a port with others in front
  for (auto next = waiting_.begin(); next != waiting_.end() && resets_due_ < most_resets;) {
    const auto each = next++;
    const std::uint32_t port = each->request.dst_port;
    if (each->until <= now) {
      counters_.refused.add();
      refuse(each->request);
    } else if (busy == port || !open_to_host(each->request)) {
      busy = port;
      continue;
    }
    waiting_.erase(each);
  }
  if (!waiting_.empty()) wake_at(now + retry);
}

void VsockSwitch::flush(int give_up_fd) {
  while (true) {
    const bool in_turns = !receive_packets() && !stalled_;
    const bool held = std::any_of(links_.begin(), links_.end(),
                                  [](const auto& each) { return !each.second->stream.drained(); });
    if (!in_turns && !held) return;
    std::array<pollfd, 2> entries{pollfd{.fd = give_up_fd, .events = POLLIN, .revents = 0},
                                  pollfd{.fd = sockets_.get(), .events = POLLIN, .revents = 0}};
    ::poll(entries.data(), entries.size(), in_turns ? 0 : -1);
    if (entries[0].revents != 0) return;
    if (entries[1].revents != 0) serve_sockets();
  }
}

}  // namespace hum
