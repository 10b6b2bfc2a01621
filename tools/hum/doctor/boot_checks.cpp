// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/boot_checks.h"

#include <algorithm>
#include <exception>
#include <optional>

#include "tools/hum/doctor/disk_facts.h"
#include "tools/hum/doctor/guest_kernel.h"
#include "tools/hum/doctor/root_device.h"
#include "vmm/base/options.h"

namespace hum::doctor {
namespace {

using State = Check::State;
using Weight = Check::Weight;
using Health = DiskContent::Health;

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string text;
  for (const std::string& each : parts) text += (text.empty() ? "" : std::string(between)) + each;
  return text;
}

std::string size_text(std::uint64_t bytes) {
  return format_size(bytes) + (bytes % 1024 == 0 && bytes != 0 ? "" : " bytes");
}

// The checks of one plan, in the order in which a boot meets them.
class Examination {
 public:
  explicit Examination(const BootPlan& plan) : plan_(plan), kernel_(plan) {}

  std::vector<Check> run() {
    read_disks();
    find_root_device();
    if (!plan_.kernel.empty()) check_kernel();
    if (!plan_.initrd.empty()) check_initrd();
    if (!plan_.kernel.empty() && kernel_.kernel_error().empty() && kernel_.facts().is_linux) {
      check_console();
      check_disk_drivers();
    }
    for (std::size_t i = 0; i < disks_.size(); ++i) check_disk(i);
    if (!plan_.kernel.empty() && kernel_.facts().is_linux) check_root();
    return std::move(checks_);
  }

 private:
  Check& add(std::string name, State state, std::string found) {
    checks_.push_back({std::move(name), state, std::move(found), "", "", Weight::vital});
    return checks_.back();
  }

  void read_disks() {
    for (const std::string& path : plan_.disks) {
      DiskFacts facts;
      std::string error;
      try {
        facts = examine_disk(path);
      } catch (const std::exception& failure) {
        error = failure.what();
      }
      disks_.push_back(std::move(facts));
      disk_errors_.push_back(std::move(error));
    }
  }

  void find_root_device() {
    const std::optional<std::string> value = command_line_value(plan_.command_line, "root");
    if (!value || value->empty()) return;
    root_text_ = *value;
    root_ = find_root(*value, disks_);
  }

  void check_kernel() {
    const KernelFacts& facts = kernel_.facts();
    if (!kernel_.kernel_error().empty()) {
      Check& check = add("kernel", State::no, kernel_.kernel_error());
      check.costs = "the VM does not start";
      return;
    }
    Check& check = add("kernel", State::yes, facts.kind);
    if (facts.is_linux)
      check.found = "Linux " + (facts.version.empty() ? "of an unknown version" : facts.version);
    if (facts.is_linux) check.found += ", " + facts.kind;
    if (!facts.compression.empty()) check.found += ", packed with " + facts.compression;
    if (!facts.problem.empty()) {
      check.state = State::no;
      check.found = facts.problem;
      check.costs = "the VM does not start";
      check.fix = "give a kernel for x86-64 (/boot/vmlinuz-* or vmlinux), complete";
    }
    check_entry();
    if (facts.is_linux) check_configuration();
  }

  void check_entry() {
    const KernelFacts& facts = kernel_.facts();
    std::vector<std::string> ways;
    if (facts.linux_64) ways.emplace_back("64-bit Linux entry");
    if (facts.pvh) ways.emplace_back("PVH");
    if (facts.multiboot) ways.emplace_back("multiboot");
    Check& check =
        add("ways in", ways.empty() ? State::no : State::yes, ways.empty() ? "none" : joined(ways, ", "));
    check.costs = "the VM does not start";
    check.fix = "give a kernel for x86-64";
    if (facts.is_linux && facts.problem.empty() && !facts.unpacked) {
      check.state = State::limited;
      check.weight = Weight::remark;
      check.found += "; it is packed in a way that is not known here, and unpacks itself";
      check.costs = "it starts later, and what is in it is not known";
      check.fix = "use a kernel packed with lz4, zstd, gzip, xz, lzma or bzip2";
    }
    if (facts.is_linux && plan_.command_line.size() > facts.command_line_limit) {
      Check& line = add("command line", State::no, std::to_string(plan_.command_line.size()) + " characters");
      line.costs = "the VM does not start: this kernel takes " + std::to_string(facts.command_line_limit);
      line.fix = "shorten it";
    }
  }

  void check_configuration() {
    const DriverSources& drivers = kernel_.drivers();
    Check& check = add("configuration", State::yes, "from " + kernel_.options_from());
    check.weight = Weight::remark;
    if (!drivers.options.empty()) {
      check_needed_options();
      return;
    }
    check.state = State::unknown;
    check.found = drivers.built_in.empty() ? "not in the kernel, nor beside it, nor in /boot"
                                           : "only the list of what is built in (modules.builtin)";
    check.costs = "what this kernel has built in is only known as far as it shows";
    check.fix = "put its configuration beside it, named config-" +
                (kernel_.facts().version.empty() ? "VERSION" : kernel_.facts().version);
  }

  void need(const std::string& option, const std::string& costs) {
    if (kernel_.drivers().options.get(option) == 'y') return;
    Check& check = add("CONFIG_" + option, State::no, "not built in");
    check.costs = costs;
    check.fix = "build the kernel with CONFIG_" + option + "=y";
  }

  void check_needed_options() {
    need("ACPI", "the kernel finds neither devices nor interrupts, and cannot power off");
    checks_.back().weight = checks_.back().name == "CONFIG_ACPI" ? Weight::speed : checks_.back().weight;
    if (!plan_.mmio && !plan_.disks.empty()) need("PCI", "no device is found; '--transport mmio' may do");
    if (!plan_.initrd.empty()) need("BLK_DEV_INITRD", "the initrd is not looked at");
    for (const InitrdPart& part : kernel_.initrd().parts) {
      if (part.compression.empty()) continue;
      std::string option = "RD_" + part.compression;
      std::transform(option.begin(), option.end(), option.begin(), [](char each) {
        return each >= 'a' && each <= 'z' ? static_cast<char>(each - 'a' + 'A') : each;
      });
      need(option, "the kernel cannot unpack the initrd, which is packed with " + part.compression);
    }
  }

  void check_initrd() {
    const InitrdFiles& initrd = kernel_.initrd();
    if (!kernel_.initrd_error().empty()) {
      Check& check = add("initrd", State::no, kernel_.initrd_error());
      check.costs = "what is in it is missing in the guest, which stops at its start";
      check.fix = "copy or make it again";
      return;
    }
    std::vector<std::string> parts;
    for (const InitrdPart& each : initrd.parts)
      parts.push_back(each.compression.empty() ? "cpio" : each.compression);
    if (parts.size() > 4) parts = {std::to_string(parts.size()) + " parts"};
    Check& check = add("initrd", State::yes,
                       std::to_string(initrd.count) + " files (" + joined(parts, ", ") + "), " +
                           std::to_string(kernel_.drivers().modules.size()) + " modules");
    if (initrd.count == 0) {
      check.state = State::no;
      check.costs = "there is nothing in it";
      check.fix = "make it again";
    } else if (!kernel_.initrd_has_init() && !command_line_value(plan_.command_line, "rdinit")) {
      check.state = State::limited;
      check.weight = root_text_.empty() ? Weight::speed : Weight::remark;
      check.found += ", no /init";
      check.costs = "Linux goes on to root= without running anything of it";
      check.fix = "make it with an /init, or give rdinit=";
    }
    if (!kernel_.foreign_release().empty() && kernel_.drivers().modules.empty()) {
      Check& modules = add(
          "the initrd's modules", State::no,
          "for Linux " + kernel_.foreign_release() + " only, and the kernel is " + kernel_.facts().version);
      modules.costs = "the guest's kernel loads none of them";
      modules.fix = "give the initrd of this kernel";
      modules.weight = Weight::speed;
    }
  }

  void check_console() {
    const std::optional<std::string> console = command_line_value(plan_.command_line, "console");
    if (!console) {
      Check& check = add("console", State::limited, "no console= on the command line");
      check.weight = Weight::speed;
      check.costs = "the guest's messages are not seen";
      check.fix = "add console=ttyS0";
      return;
    }
    if (console->starts_with("ttyS"))
      return add_driver("serial console", drivers::serial_console, "the guest's messages are not seen",
                        Weight::speed);
    if (console->starts_with("hvc"))
      return add_driver("virtio console", drivers::virtio_console, "the guest's messages are not seen",
                        Weight::speed);
    Check& check = add("console", State::limited, "console=" + *console);
    check.weight = Weight::speed;
    check.costs = "this machine has no such console: the guest's messages are not seen";
    check.fix = "add console=ttyS0";
  }

  void add_driver(const std::string& name, const Driver& driver, const std::string& costs, Weight weight) {
    const std::string driver_name(driver.name);
    const std::string option = "CONFIG_" + std::string(driver.option);
    Check& check = add(name, State::yes, "");
    check.weight = weight;
    check.costs = costs;
    switch (kernel_.drivers().find(driver)) {
      case Presence::built_in:
        check.found = driver_name + ", built in";
        break;
      case Presence::in_initrd:
        check.found = driver_name + ", a module in the initrd";
        break;
      case Presence::unknown:
        check.state = State::unknown;
        check.found = "nothing tells whether " + driver_name + " is built in";
        break;
      case Presence::missing:
        check.state = State::no;
        check.found = "no " + driver_name + " built in" +
                      (plan_.initrd.empty() ? ", and no initrd to bring it" : ", and none in the initrd");
        check.fix = driver.module.empty() ? "use a kernel with " + option + "=y"
                                          : "give an initrd with " + std::string(driver.module) +
                                                ".ko, or a kernel with " + option + "=y";
        break;
    }
  }

  // A kernel that has its root elsewhere can do without its disks.
  Weight disk_weight() const {
    return root_.names_disk && !root_text_.empty() ? Weight::vital : Weight::speed;
  }

  void check_disk_drivers() {
    if (plan_.disks.empty()) return;
    const std::string costs = disk_weight() == Weight::vital ? "the guest does not find its root and stops"
                                                             : "the guest does not find its disks";
    add_driver("virtio driver", plan_.mmio ? drivers::virtio_mmio : drivers::virtio_pci, costs,
               disk_weight());
    add_driver("disk driver", drivers::virtio_blk, costs, disk_weight());
  }

  static std::string describe(const DiskContent& content) {
    if (content.type.empty()) return "nothing known";
    std::string text = content.type;
    if (!content.label.empty()) text += " '" + content.label + "'";
    switch (content.health) {
      case Health::unknown:
        break;
      case Health::clean:
        text += ", clean";
        break;
      case Health::needs_recovery:
        text += ", its journal needs recovery";
        break;
      case Health::not_unmounted:
        text += ", not cleanly unmounted";
        break;
      case Health::has_errors:
        text += ", with errors";
        break;
    }
    return text;
  }

  static bool is_unclean(const DiskContent& content) {
    return content.health != Health::unknown && content.health != Health::clean;
  }

  void check_disk(std::size_t index) {
    const DiskFacts& facts = disks_[index];
    const std::string& path = plan_.disks[index];
    Check& check = add("disk " + disk_name(index), State::yes, "");
    if (!disk_errors_[index].empty()) {
      check.state = State::no;
      check.found = disk_errors_[index];
      check.costs = "the VM does not start";
      return;
    }
    check.found = size_text(facts.size) + " " + facts.format;
    if (facts.format != "raw") {
      check.state = State::no;
      check.found += " image: only raw ones are read";
      check.costs = "the guest sees the file's own bytes, not the disk in it";
      check.fix = "qemu-img convert -O raw '" + path + "' disk.img";
      return;
    }
    if (facts.size < 512) {
      check.state = State::no;
      check.costs = "it has not a single sector";
      check.fix = "truncate -s 1G '" + path + "'";
      return;
    }
    if (!facts.table.empty())
      check.found +=
          ", table " + facts.table + " with " + std::to_string(facts.partitions.size()) + " partitions";
    if (facts.table.empty()) check.found += ", " + describe(facts.whole);
    if (facts.size % 512 != 0) {
      check.state = State::limited;
      check.weight = Weight::remark;
      check.found += ", no whole number of sectors";
      check.costs = "the guest does not see the last " + std::to_string(facts.size % 512) + " bytes";
      check.fix = "truncate -s %512 '" + path + "'";
    }
    if (facts.table.empty()) check_health(check, facts.whole, path);
    if (facts.table_usable)
      for (const DiskPartition& each : facts.partitions) check_partition(disk_name(index), each, path);
    constexpr std::size_t most = 8;
    for (std::size_t i = 0; i < std::min(facts.damages.size(), most); ++i) {
      Check& damage =
          add("disk " + disk_name(index), facts.table_usable ? State::limited : State::no, facts.damages[i]);
      damage.weight = Weight::speed;
      damage.costs =
          facts.table_usable ? "the guest may refuse it, or lose data" : "the guest sees no partitions";
      damage.fix = facts.damages[i].find("cut off") != std::string::npos
                       ? "copy it again, completely"
                       : "sgdisk -e '" + path + "' moves and mends the tables, on a copy";
    }
  }

  void check_partition(const std::string& disk, const DiskPartition& partition, const std::string& path) {
    std::string found = size_text(partition.size) + ", " + describe(partition.content);
    if (!partition.label.empty()) found += ", named '" + partition.label + "'";
    Check& check = add("partition " + disk + std::to_string(partition.number), State::yes, found);
    check.weight = Weight::remark;
    check_health(check, partition.content, path + "?offset=" + std::to_string(partition.begin));
  }

  // Whatever else is wrong with the disk says more.
  static void check_health(Check& check, const DiskContent& content, const std::string& path) {
    if (!is_unclean(content) || check.state != State::yes) return;
    const bool errors = content.health == Health::has_errors;
    check.state = State::limited;
    check.weight = errors ? Weight::speed : Weight::remark;
    check.costs = errors ? "the guest may mount it read-only, or stop"
                         : "the guest recovers it at its first mount, which fails on a read-only disk";
    check.fix = content.type.starts_with("ext")
                    ? "e2fsck -f '" + path + "', with no VM using it"
                    : "mount it once where it can be written, with no VM using it";
  }

  void check_root() {
    if (root_text_.empty()) return check_missing_root();
    Check& check = add("root=", State::yes, root_text_);
    if (!root_.names_disk) {
      check.state = State::unknown;
      check.found += ": not on a disk";
      return;
    }
    check.costs = "the guest does not find its root and stops";
    if (!root_.problem.empty()) {
      check.state = State::no;
      check.found += ": no disk has it";
      check.fix = root_.problem + (plan_.disks.empty() ? ": add it with --disk" : "");
      return;
    }
    if (root_.needs_initrd && plan_.initrd.empty()) {
      check.state = State::no;
      check.found += ": Linux finds it only with the help of an initrd";
      check.fix = root_.content != nullptr ? "give root=" + *root_.name + ", or an initrd" : "give an initrd";
      return;
    }
    if (root_.content == nullptr) {
      check.state = State::unknown;
      check.found += ": made by the initrd";
      return;
    }
    if (*root_.name != root_text_) check.found += " is " + *root_.name;
    const std::string& type = root_.content->type;
    const bool no_file_system = type.empty() || type == "swap" || type == "extended";
    if (no_file_system || type.starts_with("LVM") || type.starts_with("crypto")) {
      check.state = plan_.initrd.empty() || no_file_system ? State::no : State::unknown;
      check.found +=
          ": " + (type.empty() ? "no file system that is known" : "holds " + type + ", not a file system");
      check.fix = "give the partition with the root file system";
      return;
    }
    check.found += ", " + type;
    if (const Driver* driver = drivers::of_file_system(type))
      add_driver("root file system", *driver, "the guest cannot mount its root and stops", Weight::vital);
  }

  void check_missing_root() {
    if (!plan_.initrd.empty() && kernel_.initrd_has_init()) return;
    Check& check =
        add("root=", State::no,
            plan_.initrd.empty() ? "no root= and no initrd" : "no root=, and an initrd without /init");
    check.costs = "the kernel panics: it has nothing to run";
    check.fix = plan_.disks.empty() ? "give an initrd, or a disk and --append root=/dev/vda"
                                    : "add --append root=/dev/vda" +
                                          std::string(disks_.front().partitions.empty() ? "" : "1");
  }

  const BootPlan& plan_;
  GuestKernel kernel_;
  std::vector<DiskFacts> disks_;
  std::vector<std::string> disk_errors_;
  std::string root_text_;
  RootDevice root_;
  std::vector<Check> checks_;
};

}  // namespace

std::vector<Check> boot_checks(const BootPlan& plan) {
  return Examination(plan).run();
}

}  // namespace hum::doctor
