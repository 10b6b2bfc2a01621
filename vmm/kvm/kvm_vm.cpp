// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/kvm_vm.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint32_t irqchip_pins = 24;
constexpr std::uint32_t most_gsis = 1024;
constexpr std::uint64_t tss_pages =
    0xfffbd000;  // three, behind the page of tables where KVM has it by default

kvm_irq_routing_entry irqchip_route(std::uint32_t gsi, std::uint32_t chip, std::uint32_t pin) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_IRQCHIP;
  entry.u.irqchip.irqchip = chip;
  entry.u.irqchip.pin = pin;
  return entry;
}

bool assign_irqfd(int vm, int event_fd, std::uint32_t gsi, std::uint32_t flags) {
  kvm_irqfd request{};
  request.fd = static_cast<std::uint32_t>(event_fd);
  request.gsi = gsi;
  request.flags = flags;
  return kvm_ioctl(vm, KVM_IRQFD, &request) == 0;
}

int create_vm(const Kvm& kvm) {
  return require_ioctl("create a VM", kvm.fd(), KVM_CREATE_VM);
}

}  // namespace

// A message interrupt: a GSI with a route, and an irqfd while it is unmasked.
class KvmVm::Route final : public MsiInterrupt {
 public:
  Route(KvmVm& vm, std::uint32_t gsi) : vm_(vm), gsi_(gsi) {}
  ~Route() override {
    if (!masked_) assign_irqfd(vm_.fd(), fd(), gsi_, KVM_IRQFD_FLAG_DEASSIGN);
    const std::lock_guard lock(vm_.mutex_);
    vm_.gsi_taken_[gsi_] = false;
    std::erase_if(vm_.routes_, [&](const auto& entry) { return entry.gsi == gsi_; });
  }

  void configure(const MsiMessage& message, bool masked) override {
    if (!masked && message != message_) {
      if (!vm_.set_route(gsi_, message)) return vm_.warn_of_refusal("an interrupt route");
      message_ = message;
    }
    if (masked == masked_) return;
    if (!assign_irqfd(vm_.fd(), fd(), gsi_, masked ? KVM_IRQFD_FLAG_DEASSIGN : 0))
      return vm_.warn_of_refusal("an eventfd for an interrupt");
    masked_ = masked;
    // KVM raises the interrupt for what was signalled before it took the eventfd over, but leaves the count.
    if (!masked) event_.drain();
  }

 private:
  KvmVm& vm_;
  std::uint32_t gsi_;
  MsiMessage message_;
  bool masked_ = true;
};

KvmVm::KvmVm(const Kvm& kvm, const Log& log)
    : kvm_(kvm), log_(log), fd_(create_vm(kvm)), gsi_taken_(most_gsis) {}

// Once: a guest can ask for what is refused as often as it likes.
void KvmVm::warn_of_refusal(std::string_view what) {
  const int error = errno;
  if (!warned_.exchange(true))
    log_.warning("KVM refuses " + std::string(what) +
                 ", a device will miss interrupts: " + std::strerror(error));
}

std::uint32_t KvmVm::add(GuestRange range, std::byte* host, bool read_only) {
  const std::lock_guard lock(slots_mutex_);
  auto free =
      std::find_if(slots_.begin(), slots_.end(), [](const GuestRange& slot) { return slot.size == 0; });
  const auto slot = static_cast<std::uint32_t>(free - slots_.begin());
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.flags = read_only ? KVM_MEM_READONLY : 0;
  region.guest_phys_addr = range.begin.value;
  region.memory_size = range.size;
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(host);
  require_ioctl("give the guest its memory", fd_.get(), KVM_SET_USER_MEMORY_REGION, &region);
  if (free == slots_.end()) {
    slots_.push_back(range);
  } else {
    *free = range;
  }
  return slot;
}

void KvmVm::remove(std::uint32_t slot) {
  const std::lock_guard lock(slots_mutex_);
  kvm_userspace_memory_region region{};
  region.slot = slot;
  kvm_ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region);
  slots_[slot] = {};
}

// Intel processors without unrestricted guest run real mode with the help of a task state segment (KVM API,
// KVM_SET_TSS_ADDR); others do not care.
void KvmVm::place_tss() {
  if (kvm_.extension(KVM_CAP_SET_TSS_ADDR) != 0)
    require_ioctl("place the task state segment", fd_.get(), KVM_SET_TSS_ADDR, tss_pages);
}

void KvmVm::create_split_irqchip() {
  place_tss();
  kvm_enable_cap request{};
  request.cap = KVM_CAP_SPLIT_IRQCHIP;
  request.args[0] = irqchip_pins;
  require_ioctl("put the local APICs into the kernel (KVM_CAP_SPLIT_IRQCHIP)", fd_.get(), KVM_ENABLE_CAP,
                &request);
}

void KvmVm::create_full_irqchip() {
  place_tss();
  require_ioctl("create the interrupt controllers (KVM_CREATE_IRQCHIP)", fd_.get(), KVM_CREATE_IRQCHIP);
  kvm_pit_config pit{};
  pit.flags = KVM_PIT_SPEAKER_DUMMY;
  require_ioctl("create the timer (KVM_CREATE_PIT2)", fd_.get(), KVM_CREATE_PIT2, &pit);
  const std::lock_guard lock(mutex_);
  for (std::uint32_t pin = 0; pin < irqchip_pins; ++pin) {
    gsi_taken_[pin] = true;
    if (pin < 16)
      routes_.push_back(
          irqchip_route(pin, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin % 8));
    routes_.push_back(irqchip_route(pin, KVM_IRQCHIP_IOAPIC, pin));
  }
}

std::unique_ptr<MsiInterrupt> KvmVm::create_interrupt() {
  const std::lock_guard lock(mutex_);
  const auto free = std::find(gsi_taken_.begin(), gsi_taken_.end(), false);
  if (free == gsi_taken_.end())
    throw HostError(ENOSPC, "add an interrupt route", "use fewer devices or queues");
  *free = true;
  return std::make_unique<Route>(*this, static_cast<std::uint32_t>(free - gsi_taken_.begin()));
}

bool KvmVm::set_route(std::uint32_t gsi, const MsiMessage& message) {
  const std::lock_guard lock(mutex_);
  auto entry =
      std::find_if(routes_.begin(), routes_.end(), [&](const auto& each) { return each.gsi == gsi; });
  if (entry == routes_.end()) entry = routes_.insert(routes_.end(), kvm_irq_routing_entry{});
  entry->gsi = gsi;
  entry->type = KVM_IRQ_ROUTING_MSI;
  entry->u.msi.address_lo = static_cast<std::uint32_t>(message.address);
  entry->u.msi.address_hi = static_cast<std::uint32_t>(message.address >> 32);
  entry->u.msi.data = message.data;
  kvm_irq_routing header{};
  header.nr = static_cast<std::uint32_t>(routes_.size());
  KvmTable<kvm_irq_routing, kvm_irq_routing_entry> table(header, routes_);
  return kvm_ioctl(fd_.get(), KVM_SET_GSI_ROUTING, table.get()) == 0;
}

bool KvmVm::change_kick(const KickAddress& where, int event_fd, std::uint32_t flags) {
  kvm_ioeventfd request{};
  request.addr = where.address;
  request.len = where.length;
  request.fd = event_fd;
  request.flags = flags;
  if (where.match) {
    request.datamatch = *where.match;
    request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
  }
  return kvm_ioctl(fd_.get(), KVM_IOEVENTFD, &request) == 0;
}

bool KvmVm::bind(const KickAddress& where, int event_fd) {
  return change_kick(where, event_fd, 0);
}

void KvmVm::unbind(const KickAddress& where, int event_fd) {
  change_kick(where, event_fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

void KvmVm::collect_writes(std::uint16_t first, std::uint32_t count) {
  if (kvm_.extension(KVM_CAP_COALESCED_PIO) == 0) return;
  kvm_coalesced_mmio_zone zone{};
  zone.addr = first;
  zone.size = count;
  zone.pio = 1;
  kvm_ioctl(fd_.get(), KVM_REGISTER_COALESCED_MMIO, &zone);
}

class KernelIrqPins::Pin final : public Interrupt {
 public:
  Pin(const KvmVm& vm, std::uint32_t gsi) : vm_(vm), gsi_(gsi) { hold(false); }

  // Throws HostError.
  void hold(bool held) {
    if (held == held_) return;
    if (!assign_irqfd(vm_.fd(), fd(), gsi_, held ? KVM_IRQFD_FLAG_DEASSIGN : 0))
      throw HostError(errno, "connect an interrupt pin");
    held_ = held;
    if (!held) event_.drain();  // as Route does
  }

 private:
  const KvmVm& vm_;
  std::uint32_t gsi_;
  bool held_ = true;
};

KernelIrqPins::KernelIrqPins(const KvmVm& vm) : vm_(vm), pins_(irqchip_pins) {}
KernelIrqPins::~KernelIrqPins() = default;

Interrupt& KernelIrqPins::pin(std::uint32_t number) {
  std::unique_ptr<Pin>& pin = pins_.at(number);
  if (!pin) pin = std::make_unique<Pin>(vm_, number);
  return *pin;
}

std::uint32_t KernelIrqPins::allocate() {
  for (std::uint32_t number = 5; number < pins_.size(); ++number) {
    if (pins_[number]) continue;
    pin(number);
    return number;
  }
  throw ConfigError("devices", "", "all interrupt pins are taken", "use --transport pci, which needs none");
}

void KernelIrqPins::hold(bool held) {
  for (const auto& pin : pins_)
    if (pin) pin->hold(held);
}

void KernelIrqPins::fields(StateVisitor& visitor) {
  for (std::size_t number = 0; number < pins_.size(); ++number)
    if (pins_[number]) visitor.section("pin", number, [&] { pins_[number]->visit_pending(visitor); });
}

void KernelIrqPins::set_level(std::uint32_t number, bool high) {
  if (number >= pins_.size()) return;
  kvm_irq_level line{};
  line.irq = number;
  line.level = high ? 1 : 0;
  kvm_ioctl(vm_.fd(), KVM_IRQ_LINE, &line);
}

}  // namespace hum
