// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "devices/vhost_user/vhost_user_wire.h"
#include "vmm/base/fd.h"

// For tests of vhost-user only.
namespace hum::testing {

// A server of vhost-user-blk, or of vhost-user-net, in the test's own process, which misbehaves as told. It
// maps guest memory and reads the rings itself, with nothing of the code under test but the wire's
// structures. It lives from construction to die() or destruction, both as sudden as a kill: no request is
// finished, nothing is said.
class FakeVhostServer {
 public:
  enum class Fault : std::uint8_t { none, close, silence, short_answer, wrong_answer, no_flag, refusal };
  struct Behaviour {
    std::uint64_t features =
        1ull << 32 | 1ull << 30 | 1ull << 29 | 1ull << 28 | 1ull << 11 | 1ull << 9 | 1ull << 6 | 1ull << 12;
    std::uint64_t protocol = vhost_user_wire::protocol_mq | vhost_user_wire::protocol_reply_ack |
                             vhost_user_wire::protocol_backend_channel | vhost_user_wire::protocol_config |
                             vhost_user_wire::protocol_inflight;
    std::uint64_t queues = 2;
    std::uint64_t capacity = 64;  // sectors
    std::uint32_t block_size = 512;
    Fault fault = Fault::none;
    unsigned fault_at = 1;          // the message that meets it, from 1 on, of a connection
    unsigned faulty_clients = ~0u;  // how many connections meet it
    bool mute = false;              // answers are not told of
    std::set<unsigned> held = {};   // requests that are taken and not answered, from 0 on
    bool echoes = false;            // serves an interface: a frame comes back on its pair's receive queue
  };

  FakeVhostServer(const std::string& path, std::vector<std::byte>& disk, Behaviour behaviour)
      : disk_(disk), behaviour_(std::move(behaviour)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ::unlink(path.c_str());
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 1) != 0)
      throw std::runtime_error("the test's socket");
    thread_ = std::thread([this] { run(); });
  }
  ~FakeVhostServer() { die(); }
  FakeVhostServer(const FakeVhostServer&) = delete;
  FakeVhostServer& operator=(const FakeVhostServer&) = delete;

  void die() {
    stop_.signal();
    if (thread_.joinable()) thread_.join();
    socket_.reset();
    listener_.reset();
  }
  // Tells the front-end that the disk has so many sectors now.
  void resize(std::uint64_t sectors) {
    capacity_ = sectors;
    talk({vhost_user_wire::backend_config_changed, vhost_user_wire::flags_version, 0});
  }

  // Sends a header on the server's own channel.
  void talk(const vhost_user_wire::Header& header) {
    const std::lock_guard lock(talk_mutex_);
    to_say_.push_back(header);
    talk_.signal();
  }

  std::atomic<unsigned> clients = 0;
  std::atomic<unsigned> messages = 0;      // of the last connection
  std::atomic<unsigned> taken = 0;         // requests, those taken again included
  std::atomic<std::uint32_t> regions = 0;  // of memory that it was given last
  std::atomic<unsigned> answered = 0;
  std::atomic<unsigned> writeback = 2;  // as it was set last; 2: never
  std::atomic<unsigned> mtu = 0;        // the same; 0: never
  std::atomic<unsigned> dropped = 0;    // frames
  std::atomic<std::uint64_t> driver_features = 0;

 private:
  struct Closed {};
  struct Descriptor {
    le64 address;
    le32 length;
    le16 flags;
    le16 next;
  };
  struct Region {
    vhost_user_wire::SharedRegion place;
    std::byte* host;
  };
  // As the protocol lays it out for split rings.
  struct Track {
    std::uint64_t features;
    std::uint16_t version, entries, batch, used;
  };
  struct Entry {
    std::uint8_t inflight, padding[5];
    std::uint16_t next;
    std::uint64_t counter;
  };
  static_assert(sizeof(Track) == 16 && sizeof(Entry) == 16);
  struct Ring {
    std::uint16_t index = 0;
    std::uint16_t size = 0;
    std::uint16_t next = 0;
    std::byte* descriptors = nullptr;
    std::byte* available = nullptr;
    std::byte* used = nullptr;
    Fd kick, call;
    bool enabled = false;
    Track* track = nullptr;
    Entry* entries() const { return reinterpret_cast<Entry*>(track + 1); }
  };
  struct Message {
    vhost_user_wire::Header header;
    std::vector<std::byte> payload;
    std::vector<Fd> files;
    template <class T>
    T as() const {
      T object{};
      if (payload.size() < sizeof object) throw Closed();
      std::memcpy(&object, payload.data(), sizeof object);
      return object;
    }
  };

  void run() {
    while (wait_readable(listener_.get())) {
      socket_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      ++clients;
      messages = 0;
      try {
        serve();
      } catch (const Closed&) {
      }
      forget();
    }
  }
  void forget() {
    rings_.clear();
    for (const auto& [address, bytes] : mapped_) ::munmap(address, bytes);
    mapped_.clear();
    regions_.clear();
    channel_.reset();
    if (!stop_.pending()) socket_.reset();
  }
  bool wait_readable(int fd) {
    std::array<pollfd, 2> entries = {{{fd, POLLIN, 0}, {stop_.fd(), POLLIN, 0}}};
    ::poll(entries.data(), 2, -1);
    return entries[1].revents == 0;
  }
  void serve() {
    while (true) {
      std::vector<pollfd> entries = {
          {stop_.fd(), POLLIN, 0}, {socket_.get(), POLLIN, 0}, {talk_.fd(), POLLIN, 0}};
      std::vector<Ring*> kicked;
      for (auto& [index, ring] : rings_)
        if (ring.kick && (ring.enabled || behaviour_.echoes)) {
          entries.push_back({ring.kick.get(), POLLIN, 0});
          kicked.push_back(&ring);
        }
      ::poll(entries.data(), entries.size(), -1);
      if (entries[0].revents != 0) throw Closed();
      if (entries[2].revents != 0 && talk_.drain() && channel_) {
        const std::lock_guard lock(talk_mutex_);
        for (const vhost_user_wire::Header& header : std::exchange(to_say_, {}))
          if (::write(channel_.get(), &header, sizeof header) < 0) throw Closed();
      }
      for (std::size_t i = 0; i < kicked.size(); ++i) {
        std::uint64_t count = 0;
        const bool buffers = behaviour_.echoes && kicked[i]->index % 2 == 0;
        if (entries[3 + i].revents != 0 && ::read(kicked[i]->kick.get(), &count, sizeof count) > 0 &&
            !buffers)
          take(*kicked[i]);
      }
      if (entries[1].revents != 0) handle(receive());
    }
  }

  // The socket.
  Message receive() {
    Message message;
    read_all(writable_bytes_of(message.header), message.files);
    message.payload.resize(message.header.size);
    read_all(message.payload, message.files);
    return message;
  }
  void read_all(std::span<std::byte> bytes, std::vector<Fd>& files) {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(8 * sizeof(int))> control{};
    while (!bytes.empty()) {
      if (!wait_readable(socket_.get())) throw Closed();
      iovec part{bytes.data(), bytes.size()};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      const ssize_t count = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
      if (count <= 0) throw Closed();
      if (const cmsghdr* rights = CMSG_FIRSTHDR(&message))
        for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= rights->cmsg_len; at += sizeof(int)) {
          int file = -1;
          std::memcpy(&file, CMSG_DATA(rights) + at, sizeof file);
          files.emplace_back(file);
        }
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }
  void answer(const Message& to, std::span<const std::byte> payload, int file = -1) {
    vhost_user_wire::Header header{to.header.request, 5, static_cast<std::uint32_t>(payload.size())};
    if (faulty_ && behaviour_.fault == Fault::wrong_answer) header.request = 99;
    if (faulty_ && behaviour_.fault == Fault::no_flag) header.flags = 1;
    if (faulty_ && behaviour_.fault == Fault::short_answer)
      header.size = static_cast<std::uint32_t>(payload.size() - 1);
    std::vector<std::byte> bytes(sizeof header + header.size);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, payload.data(), header.size);
    iovec part{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
    if (file >= 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(rights), &file, sizeof file);
    }
    if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0) throw Closed();
  }
  void answer(const Message& to, std::uint64_t value) { answer(to, bytes_of(le64(value))); }

  void handle(Message message) {
    using vhost_user_wire::Request;
    faulty_ = ++messages == behaviour_.fault_at && behaviour_.fault != Fault::none &&
              clients <= behaviour_.faulty_clients;
    if (faulty_ && behaviour_.fault == Fault::close) throw Closed();
    if (faulty_ && behaviour_.fault == Fault::silence) return;
    const auto first_file = [&] { return message.files.empty() ? Fd() : std::move(message.files.front()); };
    const auto state = [&] { return message.as<vhost_user_wire::VringState>(); };
    switch (static_cast<Request>(static_cast<std::uint32_t>(message.header.request))) {
      case Request::get_features:
        return answer(message, behaviour_.features);
      case Request::get_protocol_features:
        return answer(message, behaviour_.protocol);
      case Request::set_protocol_features:
        acknowledges_ = (message.as<le64>() & vhost_user_wire::protocol_reply_ack) != 0;
        break;
      case Request::get_queue_num:
        return answer(message, behaviour_.queues);
      case Request::get_config:
        return answer_config(message);
      case Request::set_config:
        writeback = static_cast<unsigned>(message.payload.back());
        break;
      case Request::set_backend_channel:
        channel_ = first_file();
        break;
      case Request::set_mem_table:
        map_memory(message);
        break;
      case Request::get_inflight:
        return answer_inflight(message);
      case Request::set_inflight:
        use_inflight(message);
        break;
      case Request::set_features:
        driver_features = message.as<le64>();
        break;
      case Request::net_set_mtu:
        mtu = static_cast<unsigned>(message.as<le64>());
        break;
      case Request::set_vring_num:
        rings_[state().index].index = static_cast<std::uint16_t>(state().index);
        rings_[state().index].size = static_cast<std::uint16_t>(state().number);
        break;
      case Request::set_vring_base:
        rings_[state().index].next = static_cast<std::uint16_t>(state().number);
        break;
      case Request::set_vring_addr: {
        const auto place = message.as<vhost_user_wire::VringAddress>();
        Ring& ring = rings_[place.index];
        ring.descriptors = user(place.descriptors);
        ring.available = user(place.available);
        ring.used = user(place.used);
        break;
      }
      case Request::set_vring_call:
        rings_[static_cast<std::uint32_t>(message.as<le64>())].call = first_file();
        break;
      case Request::set_vring_kick: {
        Ring& ring = rings_[static_cast<std::uint32_t>(message.as<le64>())];
        ring.kick = first_file();
        if (ring.track != nullptr) take_again(ring);
        break;
      }
      case Request::set_vring_enable:
        rings_[state().index].enabled = state().number != 0;
        break;
      case Request::get_vring_base: {
        Ring& ring = rings_[state().index];
        ring.kick.reset();
        return answer(message, bytes_of(vhost_user_wire::VringState{state().index, ring.next}));
      }
      default:
        break;
    }
    if (acknowledges_ && message.header.flags & vhost_user_wire::flags_need_reply)
      answer(message, faulty_ && behaviour_.fault == Fault::refusal ? 1u : 0u);
  }
  void answer_config(const Message& message) {
    std::vector<std::byte> payload = message.payload;
    std::byte* const space = payload.data() + sizeof(vhost_user_wire::ConfigPiece);
    const le64 capacity{capacity_ != 0 ? capacity_.load() : behaviour_.capacity};
    std::memcpy(space, &capacity, sizeof capacity);
    const le32 block_size{behaviour_.block_size};
    std::memcpy(space + 20, &block_size, sizeof block_size);
    space[32] = std::byte{1};  // writeback
    answer(message, payload);
  }

  // Memory.
  std::byte* map(int file, std::uint64_t bytes, std::uint64_t offset) {
    void* const at =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, static_cast<off_t>(offset));
    if (at == MAP_FAILED) throw Closed();
    mapped_.emplace_back(at, bytes);
    return static_cast<std::byte*>(at);
  }
  void map_memory(const Message& message) {
    vhost_user_wire::MemoryTable table{};
    std::memcpy(&table, message.payload.data(), std::min(sizeof table, message.payload.size()));
    regions_.clear();
    regions = table.regions;
    for (std::uint32_t i = 0; i < table.regions; ++i)
      regions_.push_back({table.region.at(i), map(message.files.at(i).get(), table.region.at(i).bytes,
                                                  table.region.at(i).file_offset)});
  }
  std::byte* user(std::uint64_t address) const {
    return find(address, &vhost_user_wire::SharedRegion::user_address);
  }
  std::byte* guest(std::uint64_t address) const {
    return find(address, &vhost_user_wire::SharedRegion::guest_address);
  }
  std::byte* find(std::uint64_t address, le64 vhost_user_wire::SharedRegion::* base) const {
    for (const Region& region : regions_)
      if (address - region.place.*base < region.place.bytes)
        return region.host + (address - region.place.*base);
    throw Closed();
  }

  // Requests in flight.
  static std::uint64_t track_bytes(std::uint16_t entries) { return sizeof(Track) + entries * sizeof(Entry); }
  void answer_inflight(const Message& message) {
    auto place = message.as<vhost_user_wire::InflightPlace>();
    place.bytes = place.queues * track_bytes(place.queue_size);
    const Fd file(::memfd_create("inflight", MFD_CLOEXEC));
    if (::ftruncate(file.get(), static_cast<off_t>(place.bytes)) != 0) throw Closed();
    answer(message, bytes_of(place), file.get());
  }
  void use_inflight(const Message& message) {
    const auto place = message.as<vhost_user_wire::InflightPlace>();
    std::byte* const area = map(message.files.at(0).get(), place.bytes, place.file_offset);
    for (std::uint16_t queue = 0; queue < place.queues; ++queue)
      rings_[queue].track = reinterpret_cast<Track*>(area + queue * track_bytes(place.queue_size));
  }
  void take_again(Ring& ring) {
    std::vector<std::pair<std::uint64_t, std::uint16_t>> heads;
    for (std::uint16_t head = 0; head < ring.size; ++head)
      if (ring.entries()[head].inflight != 0) heads.emplace_back(ring.entries()[head].counter, head);
    ring.next = static_cast<std::uint16_t>(word(ring.used + 2) + heads.size());
    std::sort(heads.begin(), heads.end());
    for (const auto& [counter, head] : heads) perform(ring, head);
  }

  // Requests.
  static std::uint16_t word(std::byte* at) {
    return std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(at)).load();
  }
  void take(Ring& ring) {
    while (ring.next != word(ring.available + 2)) {
      const std::uint16_t head = word(ring.available + 4 + 2 * (ring.next % ring.size));
      ++ring.next;
      if (ring.track != nullptr) {
        ring.entries()[head].counter = ++counter_;
        ring.entries()[head].inflight = 1;
      }
      perform(ring, head);
    }
  }
  void perform(Ring& ring, std::uint16_t head) {
    if (behaviour_.held.contains(taken++)) return;
    const Chain chain = chain_of(ring, head);
    give_back(ring, head, behaviour_.echoes ? echo(ring, chain) : serve_disk(chain));
  }
  struct Chain {
    std::vector<iovec> readable;
    std::vector<iovec> writable;
  };
  Chain chain_of(const Ring& ring, std::uint16_t head) const {
    Chain chain;
    const std::byte* table = ring.descriptors;
    for (std::uint16_t index = head;;) {
      Descriptor descriptor;
      std::memcpy(&descriptor, table + 16 * index, sizeof descriptor);
      if (descriptor.flags & 4) {
        table = guest(descriptor.address);
        index = 0;
        continue;
      }
      (descriptor.flags & 2 ? chain.writable : chain.readable)
          .push_back({guest(descriptor.address), descriptor.length});
      if (!(descriptor.flags & 1)) return chain;
      index = descriptor.next;
    }
  }
  // The bytes written.
  std::uint32_t serve_disk(const Chain& chain) {
    const auto& [readable, writable] = chain;
    const auto* const header = static_cast<const std::byte*>(readable.at(0).iov_base);
    const std::uint64_t at = load_le({header + 8, 8}) * 512;
    std::uint32_t written = 1;
    if (load_le({header, 4}) == 1) {
      std::memcpy(disk_.data() + at, header + 16, readable.at(0).iov_len - 16);
    } else {
      written = static_cast<std::uint32_t>(writable.at(0).iov_len);
      std::memcpy(writable.at(0).iov_base, disk_.data() + at, written - 1);
    }
    static_cast<std::byte*>(writable.back().iov_base)[writable.back().iov_len - 1] = std::byte{0};
    return written;
  }
  // Frames fit into one buffer. Nothing is written to the one that is sent.
  std::uint32_t echo(const Ring& from, const Chain& chain) {
    Ring& to = rings_[from.index - 1u];
    if (!from.enabled || !to.enabled || !to.kick || to.next == word(to.available + 2)) {
      ++dropped;
      return 0;
    }
    const std::uint16_t head = word(to.available + 4 + 2 * (to.next++ % to.size));
    auto* at = static_cast<std::byte*>(chain_of(to, head).writable.at(0).iov_base);
    std::uint32_t written = 0;
    for (const iovec& piece : chain.readable) {
      std::memcpy(at + written, piece.iov_base, piece.iov_len);
      written += static_cast<std::uint32_t>(piece.iov_len);
    }
    give_back(to, head, written);
    return 0;
  }
  void give_back(Ring& ring, std::uint16_t head, std::uint32_t written) {
    const std::uint16_t used = word(ring.used + 2);
    const std::array<le32, 2> element = {head, written};
    std::memcpy(ring.used + 4 + 8 * (used % ring.size), element.data(), sizeof element);
    ++answered;
    std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(ring.used + 2)).store(used + 1u);
    if (ring.track != nullptr) ring.entries()[head].inflight = 0;
    if (behaviour_.mute) return;
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t sent = ::write(ring.call.get(), &one, sizeof one);
  }

  std::vector<std::byte>& disk_;
  Behaviour behaviour_;
  EventFd stop_;
  EventFd talk_;
  std::mutex talk_mutex_;  // guards the next
  std::vector<vhost_user_wire::Header> to_say_;
  std::atomic<std::uint64_t> capacity_ = 0;
  Fd listener_;
  Fd socket_;
  Fd channel_;
  bool faulty_ = false;
  bool acknowledges_ = false;
  std::uint64_t counter_ = 0;
  std::vector<std::pair<void*, std::size_t>> mapped_;
  std::vector<Region> regions_;
  std::map<std::uint32_t, Ring> rings_;
  std::thread thread_;
};

}  // namespace hum::testing
