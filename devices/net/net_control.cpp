// SPDX-License-Identifier: Apache-2.0
#include "devices/net/net_control.h"

#include <span>
#include <utility>

#include "devices/net/net_wire.h"
#include "vmm/base/errors.h"

namespace hum {

using namespace net_wire;

// What a command says, wherever the borders of its descriptors lie; each byte is read once.
class NetControl::Data {
 public:
  explicit Data(const virtio::DescriptorChain& command) : command_(command) {}

  std::uint64_t left() const { return command_.readable_bytes - at_; }
  // False if there is not so much.
  template <class T>
  bool take(T& object) {
    if (left() < sizeof object) return false;
    copy_from(command_.readable, at_, writable_bytes_of(object));
    at_ += sizeof object;
    return true;
  }
  // A table of addresses; one that is too large is passed over, and full.
  bool take(std::vector<MacAddress>& table, bool& full) {
    le32 entries;
    if (!take(entries) || left() / sizeof(MacAddress) < entries) return false;
    full = entries > ReceiveRules::most_addresses;
    table.resize(full ? std::size_t{0} : std::size_t{entries});
    for (MacAddress& each : table) take(each);
    if (full) at_ += std::uint64_t{entries} * sizeof(MacAddress);
    return true;
  }

 private:
  const virtio::DescriptorChain& command_;
  std::uint64_t at_ = 0;
};

NetControl::NetControl(NetPath& path, const MacAddress& own) : path_(path), own_(own) {
  static_assert(sizeof(MacAddress) == 6);
  filter_.rules.own = own;
}

void NetControl::begin(std::uint64_t driver_features) {
  features_ = driver_features;
  path_.set_offloads(driver_features & guest_offloads & ~offloads_off_);
  path_.use_pairs(pairs_);
  show_filter();
}

void NetControl::reset() {
  features_ = 0;
  announce_ = false;
  pairs_ = 1;
  offloads_off_ = 0;
  const std::lock_guard lock(mutex_);
  filter_ = {};
  filter_.rules.own = own_;
}

std::uint32_t NetControl::obey(const virtio::DescriptorChain& command) {
  if (command.writable_bytes == 0) return 0;
  std::uint8_t answer = control_error;
  try {
    if (carry_out(Data(command))) answer = control_ok;
  } catch (const HostError&) {  // the driver's to know
  }
  if (answer != control_ok) errors_.add();
  return static_cast<std::uint32_t>(copy_to(command.writable, 0, bytes_of(answer)));
}

bool NetControl::carry_out(Data data) {
  ControlHeader header;
  if (!data.take(header)) return false;
  switch (header.command_class) {
    case class_rx:
      return set_receive_mode(header.command, data);
    case class_mac:
      return set_mac(header.command, data);
    case class_announce:
      if (header.command != announce_acknowledge || !has(feature_guest_announce)) return false;
      announce_ = false;
      return true;
    case class_mq:
      return header.command == mq_pairs_set && has(feature_mq) && set_pairs(data);
    case class_guest_offloads:
      return header.command == guest_offloads_set && has(feature_ctrl_guest_offloads) && set_offloads(data);
    default:
      return false;
  }
}

// 5.1.6.5.1.
bool NetControl::set_receive_mode(std::uint8_t mode, Data& data) {
  static constexpr bool ReceiveRules::* modes[] = {
      &ReceiveRules::promiscuous,  &ReceiveRules::all_multicast, &ReceiveRules::all_unicast,
      &ReceiveRules::no_multicast, &ReceiveRules::no_unicast,    &ReceiveRules::no_broadcast,
  };
  std::uint8_t on = 0;
  if (mode >= std::size(modes) || !has(mode <= rx_all_multicast ? feature_ctrl_rx : feature_ctrl_rx_extra) ||
      !data.take(on) || on > 1)
    return false;
  Filter next = filter_;
  next.rules.*modes[mode] = on != 0;
  set_filter(std::move(next));
  return true;
}

// 5.1.6.5.2.
bool NetControl::set_mac(std::uint8_t command, Data& data) {
  Filter next = filter_;
  if (command == mac_table_set && has(feature_ctrl_rx)) {
    if (!data.take(next.rules.unicast, next.unicast_full) ||
        !data.take(next.rules.multicast, next.multicast_full))
      return false;
  } else if (command == mac_address_set && has(feature_ctrl_mac_addr)) {
    if (!data.take(next.rules.own) || next.rules.own.is_multicast()) return false;
  } else {
    return false;
  }
  set_filter(std::move(next));
  return true;
}

// 5.1.6.5.5.
bool NetControl::set_pairs(Data& data) {
  le16 pairs;
  if (!data.take(pairs) || pairs == 0 || pairs > path_.pairs()) return false;
  path_.use_pairs(pairs);
  pairs_ = pairs;
  return true;
}

// 5.1.6.5.6: the value has the bits of the features.
bool NetControl::set_offloads(Data& data) {
  le64 offloads;
  const std::uint64_t negotiated = features_ & guest_offloads;
  if (!data.take(offloads) || (offloads & ~negotiated) != 0) return false;
  path_.set_offloads(offloads);
  offloads_off_ = negotiated & ~offloads;
  return true;
}

void NetControl::set_filter(Filter filter) {
  {
    const std::lock_guard lock(mutex_);
    filter_ = std::move(filter);
  }
  show_filter();
}

void NetControl::show_filter() {
  ReceiveRules rules = filter_.rules;
  rules.all_unicast |= filter_.unicast_full;
  rules.all_multicast |= filter_.multicast_full;
  path_.set_rules(rules);
}

MacAddress NetControl::mac() const {
  const std::lock_guard lock(mutex_);
  return filter_.rules.own;
}

void NetControl::want_announcement() {
  if (has(feature_guest_announce)) announce_ = true;
}

void NetControl::fields(StateVisitor& visitor) {
  const auto address = [&](std::string_view name, MacAddress& value) {
    const auto then = visitor.bytes(name, writable_bytes_of(value));
    visitor.require((then.front() & std::byte{1}) == std::byte{0}, name, "is a multicast address");
  };
  ReceiveRules& rules = filter_.rules;
  address("own-mac", own_);
  address("mac", rules.own);
  visitor.flag("promiscuous", rules.promiscuous);
  visitor.flag("all-multicast", rules.all_multicast);
  visitor.flag("all-unicast", rules.all_unicast);
  visitor.flag("no-multicast", rules.no_multicast);
  visitor.flag("no-unicast", rules.no_unicast);
  visitor.flag("no-broadcast", rules.no_broadcast);
  visitor.list("unicast", rules.unicast, ReceiveRules::most_addresses);
  visitor.list("multicast", rules.multicast, ReceiveRules::most_addresses);
  visitor.flag("unicast-full", filter_.unicast_full);
  visitor.flag("multicast-full", filter_.multicast_full);
  const std::uint16_t pairs = visitor.number("pairs-in-use", pairs_, path_.pairs());
  visitor.require(pairs != 0, "pairs-in-use", "is 0");
  const std::uint64_t off = visitor.number("offloads-off", offloads_off_);
  visitor.require((off & ~guest_offloads) == 0, "offloads-off", "has some that do not exist");
  visitor.flag("announce", announce_);
}

}  // namespace hum
