// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/vhost_user_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <system_error>

#include "vmm/base/errors.h"
#include "vmm/base/unix_address.h"

namespace hum {

using namespace vhost_user_wire;

namespace {

constexpr std::size_t most_files = 8;      // in one message
constexpr std::size_t most_payload = 512;  // of any message that a server sends
constexpr std::uint64_t wanted = protocol_mq | protocol_reply_ack | protocol_net_mtu |
                                 protocol_backend_channel | protocol_config | protocol_inflight;

// The server's name for guest address 0. Its addresses need not be those of this process, which it has no
// business to know, and none is null.
constexpr std::uint64_t user_base = 1ull << 40;

[[noreturn]] void fail(const std::string& what) {
  throw VhostUserError(what);
}

[[noreturn]] void fail(const std::string& what, int error) {
  fail(what + ": " + std::generic_category().message(error));
}

Fd connect_to(const std::string& path) {
  const auto address = UnixAddress::at(path);
  if (!address) fail(UnixAddress::rule());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) throw HostError(errno, "make a socket", "raise the limit of open files (ulimit -n)");
  if (::connect(socket.get(), address->get(), address->size()) != 0) {
    if (errno == EAGAIN) fail("it has other clients waiting");
    fail("no connection", errno);
  }
  return socket;
}

std::string name_of(Request request) {
  return "request " + std::to_string(static_cast<std::uint32_t>(request));
}

std::span<const int> one(const int& fd) {
  return {&fd, 1};
}

}  // namespace

std::vector<std::byte> InflightArea::content() const {
  std::vector<std::byte> content(bytes);
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t count =
        ::pread(file.get(), content.data() + done, content.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw HostError(count < 0 ? errno : EIO, "read a server's list of requests in flight");
    done += static_cast<std::size_t>(count);
  }
  return content;
}

InflightArea InflightArea::from(std::span<const std::byte> content, std::uint16_t queues,
                                std::uint16_t queue_size) {
  InflightArea area{Fd(::memfd_create("inflight", MFD_CLOEXEC)), content.size(), 0, queues, queue_size};
  if (!area.file || ::ftruncate(area.file.get(), static_cast<off_t>(content.size())) != 0 ||
      ::pwrite(area.file.get(), content.data(), content.size(), 0) != static_cast<ssize_t>(content.size()))
    throw HostError(errno, "keep a server's list of requests in flight");
  return area;
}

void require_shared(const GuestMemory& memory, const std::string& what, const std::string& value) {
  for (const MemoryRegion& region : memory.regions())
    if (region.fd < 0)
      throw ConfigError(what, value, "another process cannot map this machine's memory",
                        "add --shared-memory=on");
}

VhostUserClient::VhostUserClient(const std::string& path, VhostUserPatience patience)
    : socket_(connect_to(path)), patience_(patience) {
  features_ = ask_number(Request::get_features);
  tell(Request::set_owner, {});
  negotiates_ = (features_ & feature_protocol) != 0;
  features_ &= ~feature_protocol;
  if (!negotiates_) return;
  const std::uint64_t chosen = ask_number(Request::get_protocol_features) & wanted;
  tell(Request::set_protocol_features, chosen);
  protocol_ = chosen;  // from the next message on
  if (has(protocol_mq)) most_queues_ = ask_number(Request::get_queue_num);
  if (has(protocol_backend_channel)) open_channel();
}

void VhostUserClient::open_channel() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
    throw HostError(errno, "make a channel for a server", "raise the limit of open files (ulimit -n)");
  channel_ = Fd(pair[0]);
  const Fd theirs(pair[1]);
  ::fcntl(channel_.get(), F_SETFL, O_NONBLOCK);
  tell(Request::set_backend_channel, {}, one(theirs.get()));
}

void VhostUserClient::require_queues(const std::string& what, std::uint16_t queues,
                                     std::uint64_t feature_mq) const {
  const std::uint64_t most = (features_ & feature_mq) ? most_queues_ : 1;
  if (queues > most)
    throw ConfigError(what + ".queues", std::to_string(queues), "is more than the server has",
                      "give at most " + std::to_string(most));
}

std::vector<std::byte> VhostUserClient::read_config(std::uint32_t bytes) {
  std::vector<std::byte> payload(sizeof(ConfigPiece) + bytes);
  const ConfigPiece piece{0, bytes, 0};
  std::memcpy(payload.data(), &piece, sizeof piece);
  std::vector<std::byte> answer = ask(Request::get_config, payload, payload.size()).payload;
  if (std::memcmp(answer.data(), payload.data(), offsetof(ConfigPiece, flags)) != 0)
    fail("it answers with another piece of configuration space");
  answer.erase(answer.begin(), answer.begin() + sizeof(ConfigPiece));
  return answer;
}

void VhostUserClient::write_config(std::uint32_t offset, std::span<const std::byte> data) {
  const ConfigPiece piece{offset, static_cast<std::uint32_t>(data.size()), 0};
  const auto head = bytes_of(piece);
  std::vector<std::byte> payload(head.begin(), head.end());
  payload.insert(payload.end(), data.begin(), data.end());
  tell(Request::set_config, payload);
}

void VhostUserClient::set_features(std::uint64_t driver_features) {
  tell(Request::set_features, driver_features | (negotiates_ ? feature_protocol : 0));
}

void VhostUserClient::set_mtu(std::uint16_t bytes) {
  tell(Request::net_set_mtu, std::uint64_t{bytes});
}

void VhostUserClient::share(const GuestMemory& memory) {
  std::vector<MemoryRegion> regions(memory.regions().begin(), memory.regions().end());
  // Of what devices have brought, that which the server can map and write to.
  std::copy_if(memory.device_regions().begin(), memory.device_regions().end(), std::back_inserter(regions),
               [](const MemoryRegion& each) { return each.fd >= 0 && each.writable; });
  if (regions.size() > most_regions) fail("guest memory has more pieces than vhost-user takes");
  MemoryTable table{};
  table.regions = static_cast<std::uint32_t>(regions.size());
  std::vector<int> files;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const std::uint64_t begin = regions[i].range.begin.value;
    table.region[i] = {begin, regions[i].range.size, user_base + begin, regions[i].fd_offset};
    files.push_back(regions[i].fd);
  }
  tell(Request::set_mem_table,
       bytes_of(table).first(offsetof(MemoryTable, region) + regions.size() * sizeof(SharedRegion)), files);
}

InflightArea VhostUserClient::get_inflight(std::uint16_t queues, std::uint16_t queue_size) {
  const InflightPlace wish{0, 0, queues, queue_size, 0};
  Message answer = ask(Request::get_inflight, bytes_of(wish), sizeof wish);
  InflightPlace got;
  std::memcpy(&got, answer.payload.data(), sizeof got);
  if (answer.files.size() != 1 || got.bytes == 0 || got.bytes > InflightArea::most_bytes ||
      got.file_offset > INT64_MAX - InflightArea::most_bytes)
    fail("it gives no place for requests in flight");
  return {std::move(answer.files.front()), got.bytes, got.file_offset, queues, queue_size};
}

void VhostUserClient::set_inflight(const InflightArea& area) {
  const InflightPlace place{area.bytes, area.offset, area.queues, area.queue_size, 0};
  tell(Request::set_inflight, bytes_of(place), one(area.file.get()));
}

void VhostUserClient::start_ring(std::uint16_t index, const virtio::VirtQueue& queue, int kick_fd,
                                 int call_fd, bool enabled) {
  const virtio::QueueLayout& layout = queue.layout();
  tell(Request::set_vring_num, bytes_of(VringState{index, layout.size}));
  tell(Request::set_vring_base, bytes_of(VringState{index, queue.next_available()}));
  tell(Request::set_vring_addr,
       bytes_of(VringAddress{index, 0, user_base + layout.descriptors.value, user_base + layout.used.value,
                             user_base + layout.available.value, 0}));
  tell(Request::set_vring_call, index, one(call_fd));
  enable_ring(index, enabled);  // before there are kicks: what comes to a disabled ring may be dropped
  tell(Request::set_vring_kick, index, one(kick_fd));
}

void VhostUserClient::enable_ring(std::uint16_t index, bool enabled) {
  if (negotiates_) tell(Request::set_vring_enable, bytes_of(VringState{index, enabled ? 1u : 0u}));
}

void VhostUserClient::settle() {
  if (!has(protocol_reply_ack)) ask_number(Request::get_features);
}

std::uint16_t VhostUserClient::stop_ring(std::uint16_t index) {
  enable_ring(index, false);
  VringState state{index, 0};
  const Message answer = ask(Request::get_vring_base, bytes_of(state), sizeof state);
  std::memcpy(&state, answer.payload.data(), sizeof state);
  if (state.index != index || state.number > UINT16_MAX) fail("it answers for another ring");
  return static_cast<std::uint16_t>(state.number);
}

bool VhostUserClient::take_request() {
  const Message message = receive(channel_.get());
  if ((message.header.flags & flags_version_mask) != flags_version || message.header.flags & flags_reply)
    fail("it asks in a version unknown here");
  const bool config = message.header.request == backend_config_changed;
  if (message.header.flags & flags_need_reply) {
    const le64 refused{config ? 0u : 1u};
    send(channel_.get(), {message.header.request, flags_version | flags_reply, sizeof refused},
         bytes_of(refused));
  }
  return config;
}

void VhostUserClient::tell(Request request, std::uint64_t value, std::span<const int> files) {
  tell(request, bytes_of(le64(value)), files);
}

void VhostUserClient::tell(Request request, std::span<const std::byte> payload, std::span<const int> files) {
  const bool acknowledged = has(protocol_reply_ack);
  send(socket_.get(),
       {static_cast<std::uint32_t>(request), flags_version | (acknowledged ? flags_need_reply : 0),
        static_cast<std::uint32_t>(payload.size())},
       payload, files);
  if (!acknowledged) return;
  const Message answer = answer_to(request);
  if (answer.payload.size() != sizeof(le64)) fail("its answer to " + name_of(request) + " has a wrong size");
  if (load_le(answer.payload) != 0) fail("it refuses " + name_of(request));
}

VhostUserClient::Message VhostUserClient::ask(Request request, std::span<const std::byte> payload,
                                              std::size_t answer) {
  send(socket_.get(),
       {static_cast<std::uint32_t>(request), flags_version, static_cast<std::uint32_t>(payload.size())},
       payload);
  Message message = answer_to(request);
  if (message.payload.size() != answer) fail("its answer to " + name_of(request) + " has a wrong size");
  return message;
}

std::uint64_t VhostUserClient::ask_number(Request request) {
  return load_le(ask(request, {}, sizeof(le64)).payload);
}

VhostUserClient::Message VhostUserClient::answer_to(Request request) const {
  Message message = receive(socket_.get());
  if (message.header.request != static_cast<std::uint32_t>(request) ||
      (message.header.flags & flags_version_mask) != flags_version || !(message.header.flags & flags_reply))
    fail("it sends no answer to " + name_of(request) + " but something else");
  return message;
}

void VhostUserClient::wait(int fd, short events, Clock::time_point end) const {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    std::array<pollfd, 2> entries = {{{.fd = fd, .events = events, .revents = 0},
                                      {.fd = patience_.give_up_fd, .events = POLLIN, .revents = 0}}};
    const int count =
        ::poll(entries.data(), entries.size(), static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (count < 0 && errno == EINTR) continue;
    if (entries[1].revents != 0) fail("the wait for it was ended");
    if (count > 0) return;
    fail("it does not answer");
  }
}

void VhostUserClient::send(int fd, Header header, std::span<const std::byte> payload,
                           std::span<const int> files) const {
  const auto head = bytes_of(header);
  std::vector<std::byte> bytes(head.begin(), head.end());
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(most_files * sizeof(int))> control{};
  const Clock::time_point end = Clock::now() + patience_.answer;
  for (std::size_t done = 0; done < bytes.size();) {
    iovec part{bytes.data() + done, bytes.size() - done};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (done == 0 && !files.empty()) {  // they go with the first byte
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(files.size_bytes());
      cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(files.size_bytes());
      std::memcpy(CMSG_DATA(rights), files.data(), files.size_bytes());
    }
    const ssize_t count = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (count >= 0)
      done += static_cast<std::size_t>(count);
    else if (errno == EAGAIN)
      wait(fd, POLLOUT, end);
    else if (errno != EINTR)
      fail("the connection is lost", errno);
  }
}

VhostUserClient::Message VhostUserClient::receive(int fd) const {
  const Clock::time_point end = Clock::now() + patience_.answer;
  Message message;
  receive_bytes(fd, writable_bytes_of(message.header), end, message.files);
  if (message.header.size > most_payload) fail("it sends more than any message has");
  message.payload.resize(message.header.size);
  receive_bytes(fd, message.payload, end, message.files);
  return message;
}

void VhostUserClient::receive_bytes(int fd, std::span<std::byte> bytes, Clock::time_point end,
                                    std::vector<Fd>& files) const {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(most_files * sizeof(int))> control;
  while (!bytes.empty()) {
    iovec part{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t count = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EAGAIN) wait(fd, POLLIN, end);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count < 0) fail("the connection is lost", errno);
    for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
      if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
      for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= each->cmsg_len; at += sizeof(int)) {
        int file = -1;
        std::memcpy(&file, CMSG_DATA(each) + at, sizeof file);
        files.emplace_back(file);
      }
    }
    if (message.msg_flags & MSG_CTRUNC || files.size() > most_files) fail("it sends too many files");
    if (count == 0) fail("it has closed the connection");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace hum
