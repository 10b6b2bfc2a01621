// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/boot_checks.h"

#include <elf.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "tools/hum/doctor/kernel_options.h"
#include "tools/hum/doctor/testing.h"

namespace hum::doctor {
namespace {

using namespace test;
using State = Check::State;

constexpr const char* good_options =
    "CONFIG_ACPI=y\nCONFIG_PCI=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_MMIO=m\n"
    "CONFIG_VIRTIO_BLK=y\nCONFIG_EXT4_FS=y\nCONFIG_SERIAL_8250_CONSOLE=y\n";

// An ELF Linux of one segment that is nothing but its version and some texts.
Bytes test_kernel(const std::string& texts = "", std::uint16_t machine = EM_X86_64) {
  const std::string content = std::string("Linux version 6.1.9-test (who)") + '\0' + texts + '\0';
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_machine = machine;
  header.e_entry = 0x100000;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  Elf64_Phdr segment{};
  segment.p_type = PT_LOAD;
  segment.p_offset = sizeof header + sizeof segment;
  segment.p_paddr = segment.p_vaddr = 0x100000;
  segment.p_filesz = segment.p_memsz = content.size();
  Bytes image(sizeof header + sizeof segment + content.size());
  std::memcpy(image.data(), &header, sizeof header);
  std::memcpy(image.data() + sizeof header, &segment, sizeof segment);
  std::memcpy(image.data() + sizeof header + sizeof segment, content.data(), content.size());
  return image;
}

// An archive of empty files, but modules.builtin.
std::string test_initrd(const std::vector<std::string>& names, const std::string& built_in = "") {
  std::string archive;
  const auto add = [&](const std::string& name, const std::string& content) {
    std::array<char, 128> header{};
    std::snprintf(header.data(), header.size(), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
                  0u, 0100644u, 0u, 0u, 1u, 0u, static_cast<unsigned>(content.size()), 0u, 0u, 0u, 0u,
                  static_cast<unsigned>(name.size() + 1), 0u);
    archive += header.data() + name;
    archive.resize((archive.size() + 4) / 4 * 4);
    archive += content;
    archive.resize((archive.size() + 3) / 4 * 4);
  };
  for (const std::string& each : names) add(each, each.ends_with("modules.builtin") ? built_in : "");
  add("TRAILER!!!", "");
  return archive;
}

// A plan on which all is well: a kernel with everything built in and an ext4 as its root.
struct Bench {
  FakeRoot root;
  BootPlan plan;
  Bytes disk = Bytes(64 * 1024);

  Bench() {
    TestExt4{}.put_into(disk, 0);
    plan.kernel = root.write("vmlinux", test_kernel());
    plan.disks = {root.write("disk", disk)};
    plan.command_line = "console=ttyS0 root=/dev/vda";
    plan.host_root = root.path();
    configure(good_options);
  }
  void configure(const std::string& options) const { root.write("config-6.1.9-test", options); }
  void configure_without(const std::string& option) const {
    std::string options = good_options;
    const std::size_t at = options.find("CONFIG_" + option + "=");
    options.erase(at, options.find('\n', at) + 1 - at);
    configure(options);
  }
  void give_initrd(const std::vector<std::string>& names, const std::string& built_in = "") {
    plan.initrd = root.write("initrd", test_initrd(names, built_in));
  }
  std::vector<Check> checks() const { return boot_checks(plan); }
  Check check(const std::string& name) const { return find_check(checks(), name); }
  Verdict verdict() const { return verdict_of(checks()); }
};

}  // namespace

TEST_CASE("with everything built in nothing stands in the way") {
  const Bench bench;
  for (const Check& each : bench.checks()) {
    INFO(each.name << ": " << each.found);
    CHECK(each.state == State::yes);
  }
  CHECK(bench.verdict() == Verdict::good);
  CHECK(contains(bench.check("kernel").found, "Linux 6.1.9-test"));
  CHECK(bench.check("root file system").found == "ext4, built in");
}

TEST_CASE("a disk driver that is a module needs an initrd that has it") {
  Bench bench;
  for (const auto& [option, name] :
       {std::pair{"VIRTIO_PCI", "virtio driver"}, std::pair{"VIRTIO_BLK", "disk driver"},
        std::pair{"EXT4_FS", "root file system"}}) {
    Bench each;
    each.configure_without(option);
    CHECK(each.check(name).state == State::no);
    CHECK(contains(each.check(name).found, "no initrd to bring it"));
    CHECK(each.verdict() == Verdict::none);
  }
  bench.configure_without("VIRTIO_BLK");
  bench.give_initrd({"init", "lib/modules/6.1.9-test/kernel/drivers/block/virtio-blk.ko.xz"});
  CHECK(bench.check("disk driver").found == "virtio_blk, a module in the initrd");
  CHECK(bench.verdict() == Verdict::good);
  bench.give_initrd({"init", "lib/modules/6.1.9-test/kernel/other.ko"});
  CHECK(contains(bench.check("disk driver").found, "none in the initrd"));
}

TEST_CASE("modules for another kernel do not count") {
  Bench bench;
  bench.configure_without("VIRTIO_BLK");
  bench.give_initrd({"init", "lib/modules/5.0.0/virtio_blk.ko"});
  CHECK(bench.check("disk driver").state == State::no);
  CHECK(contains(bench.check("the initrd's modules").found, "for Linux 5.0.0 only"));
}

TEST_CASE("without a configuration a kernel's own texts and modules.builtin tell what is built in") {
  Bench bench;
  bench.root.remove("config-6.1.9-test");
  CHECK(bench.check("configuration").state == State::unknown);
  CHECK(bench.check("disk driver").state == State::unknown);
  CHECK(bench.verdict() == Verdict::good);
  bench.plan.kernel = bench.root.write("vmlinux", test_kernel("virtio_blk.queue_depth"));
  CHECK(bench.check("disk driver").found == "virtio_blk, built in");
  CHECK(bench.check("virtio driver").state == State::unknown);
  bench.give_initrd({"init", "lib/modules/6.1.9-test/modules.builtin"},
                    "kernel/drivers/virtio/virtio_pci.ko\n");
  CHECK(bench.check("virtio driver").found == "virtio_pci, built in");
  CHECK(bench.check("root file system").state == State::no);
}

TEST_CASE("the configuration is found in the host's /boot, and not taken from another kernel") {
  const Bench bench;
  bench.root.remove("config-6.1.9-test");
  bench.root.write("config", std::string("# Linux/x86 5.10.3 Kernel Configuration\n") + good_options);
  CHECK(bench.check("configuration").state == State::unknown);
  bench.root.write("config", std::string("# Linux/x86 6.1.200 Kernel Configuration\n") + good_options);
  CHECK(bench.check("configuration").found == "from " + bench.root.path() + "/config");
  bench.root.write("boot/config-6.1.9-test", good_options);
  CHECK(bench.check("configuration").found == "from " + bench.root.path() + "/boot/config-6.1.9-test");
}

TEST_CASE("the transport decides which driver is asked for") {
  Bench bench;
  CHECK(contains(bench.check("virtio driver").found, "virtio_pci"));
  bench.plan.mmio = true;
  CHECK(bench.check("virtio driver").state == State::no);
  CHECK(contains(bench.check("virtio driver").found, "virtio_mmio"));
}

TEST_CASE("options that nothing goes without are asked for") {
  Bench bench;
  bench.give_initrd({"init"});
  for (const char* option : {"ACPI", "PCI", "BLK_DEV_INITRD"}) {
    bench.configure_without(option);
    CHECK(bench.check("CONFIG_" + std::string(option)).state == State::no);
    CHECK(bench.verdict() != Verdict::good);
  }
}

TEST_CASE("a kernel for another architecture or none at all does not start") {
  Bench bench;
  bench.plan.kernel = bench.root.write("vmlinux", test_kernel("", EM_AARCH64));
  CHECK(contains(bench.check("kernel").found, "64-bit ARM"));
  CHECK(bench.verdict() == Verdict::none);
  bench.plan.kernel = bench.root.write("vmlinux", "text");
  CHECK(bench.check("kernel").state == State::no);
  bench.plan.kernel = bench.root.path() + "/none";
  CHECK(contains(bench.check("kernel").found, "no such file"));
}

TEST_CASE("a command line that is too long for the kernel is told") {
  Bench bench;
  bench.plan.command_line = "console=ttyS0 root=/dev/vda ";
  bench.plan.command_line.resize(2047, 'x');
  CHECK(bench.verdict() == Verdict::good);
  bench.plan.command_line += 'x';
  CHECK(bench.check("command line").state == State::no);
}

TEST_CASE("a console that the machine or the kernel does not have is told") {
  Bench bench;
  bench.plan.command_line = "root=/dev/vda";
  CHECK(bench.check("console").state == State::limited);
  bench.plan.command_line = "console=tty0 root=/dev/vda";
  CHECK(bench.check("console").state == State::limited);
  bench.plan.command_line = "console=hvc0 root=/dev/vda";
  CHECK(bench.check("virtio console").state == State::no);
  bench.plan.command_line = "console=ttyS0,115200 root=/dev/vda";
  bench.configure_without("SERIAL_8250_CONSOLE");
  CHECK(bench.check("serial console").state == State::no);
  CHECK(bench.verdict() == Verdict::limited);
}

TEST_CASE("a root= that no disk has, or that Linux alone cannot find, is told") {
  Bench bench;
  bench.plan.command_line = "console=ttyS0 root=/dev/vda1";
  CHECK(bench.check("root=").state == State::no);
  CHECK(bench.verdict() == Verdict::none);
  bench.plan.command_line = std::string("console=ttyS0 root=UUID=") + test_ext4_uuid;
  CHECK(contains(bench.check("root=").fix, "/dev/vda"));
  CHECK(bench.check("root=").state == State::no);
  bench.give_initrd({"init"});
  CHECK(bench.check("root=").state == State::yes);
  bench.plan.command_line = "console=ttyS0 root=/dev/nfs";
  CHECK(bench.check("root=").state == State::unknown);
}

TEST_CASE("neither root= nor an initrd that runs something ends in a panic") {
  Bench bench;
  bench.plan.command_line = "console=ttyS0";
  CHECK(contains(bench.check("root=").costs, "panics"));
  bench.give_initrd({"lib/a"});
  CHECK(bench.check("root=").state == State::no);
  CHECK(contains(bench.check("initrd").found, "no /init"));
  bench.give_initrd({"init"});
  CHECK(bench.verdict() == Verdict::good);
}

TEST_CASE("an initrd that cannot be read is told, and what it would have had is unknown") {
  Bench bench;
  std::string options = good_options;
  options.replace(options.find("VIRTIO_BLK=y"), 12, "VIRTIO_BLK=m");
  bench.configure(options);
  bench.plan.initrd = bench.root.write("initrd", "rubbish");
  CHECK(bench.check("initrd").state == State::no);
  CHECK(bench.check("disk driver").state == State::unknown);
  bench.plan.initrd = bench.root.path() + "/none";
  CHECK(contains(bench.check("initrd").found, "no such file"));
}

TEST_CASE("what is wrong with a disk is told, and its health") {
  Bench bench;
  TestExt4{.state = 0}.put_into(bench.disk, 0);
  bench.root.write("disk", bench.disk);
  CHECK(contains(bench.check("disk vda").found, "not cleanly unmounted"));
  CHECK(bench.check("disk vda").state == State::limited);
  CHECK(contains(bench.check("disk vda").fix, "e2fsck"));
  CHECK(bench.verdict() == Verdict::good);
  TestExt4{.state = 2}.put_into(bench.disk, 0);
  bench.root.write("disk", bench.disk);
  CHECK(bench.verdict() == Verdict::limited);
  bench.disk.resize(bench.disk.size() + 100);
  bench.root.write("disk", bench.disk);
  CHECK(contains(bench.check("disk vda").costs, "100 bytes"));
  bench.root.write("disk", std::string("QFI\xfb") + std::string(1020, 'x'));
  CHECK(contains(bench.check("disk vda").fix, "qemu-img convert"));
  bench.root.write("disk", "tiny");
  CHECK(bench.check("disk vda").state == State::no);
  bench.root.remove("disk");
  CHECK(bench.check("disk vda").state == State::no);
}

TEST_CASE("disks alone are looked at without a kernel") {
  Bench bench;
  bench.plan.kernel.clear();
  CHECK(bench.checks().size() == 1);
  CHECK(bench.check("disk vda").state == State::yes);
}

TEST_CASE("names of modules are those that Linux uses") {
  CHECK(module_name("kernel/drivers/block/virtio-blk.ko.xz") == "virtio_blk");
  CHECK(module_name("ext4.ko") == "ext4");
  CHECK(module_name("a.ko.zst") == "a");
  CHECK(module_name("a.ko.bz3").empty());
  CHECK(module_name(".ko").empty());
  CHECK(module_name("init").empty());
  CHECK(module_name("").empty());
}

TEST_CASE("a configuration knows y, m and n, and nothing else counts") {
  const KernelOptions options(
      "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D=\nrubbish\nCONFIG_E=y");
  CHECK(options.get("A") == 'n');
  CHECK(options.get("B") == 'y');
  CHECK(options.get("C") == 'm');
  CHECK(options.get("D") == 'n');
  CHECK(options.get("E") == 'y');
  CHECK(KernelOptions("no configuration").empty());
}

}  // namespace hum::doctor
