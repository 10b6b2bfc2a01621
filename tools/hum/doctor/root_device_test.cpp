// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/root_device.h"

#include "tools/hum/doctor/testing.h"

namespace hum::doctor {
namespace {

// vda is one ext4, vdb has a GPT with two partitions.
std::vector<DiskFacts> two_disks() {
  DiskFacts whole;
  whole.whole = {.type = "ext4", .label = "ROOT", .uuid = "AbCd-1"};
  DiskFacts parts;
  parts.table = "gpt";
  parts.partitions.resize(2);
  parts.partitions[0] = {.number = 1, .uuid = "11-01", .label = "boot", .content = {}};
  parts.partitions[1] = {.number = 2, .uuid = "11-02", .label = "root", .content = {}};
  parts.partitions[1].content = {.type = "xfs", .label = "DATA", .uuid = "ef"};
  return {whole, parts};
}

std::string name_of(const std::string& root) {
  return find_root(root, two_disks()).name.value_or("nothing");
}

}  // namespace

TEST_CASE("root= is found by path, UUID, LABEL, PARTUUID and PARTLABEL") {
  CHECK(name_of("/dev/vda") == "/dev/vda");
  CHECK(name_of("/dev/vdb2") == "/dev/vdb2");
  CHECK(name_of("UUID=abcd-1") == "/dev/vda");
  CHECK(name_of("UUID=ef") == "/dev/vdb2");
  CHECK(name_of("LABEL=ROOT") == "/dev/vda");
  CHECK(name_of("LABEL=DATA") == "/dev/vdb2");
  CHECK(name_of("PARTUUID=11-02") == "/dev/vdb2");
  CHECK(name_of("PARTLABEL=boot") == "/dev/vdb1");
}

TEST_CASE("a root= that no disk has is told, with what there is") {
  for (const char* root : {"/dev/vdc", "/dev/vda1", "/dev/vdb3", "UUID=ffff", "UUID=", "LABEL=root",
                           "LABEL=", "PARTUUID=11-03", "PARTUUID=", "PARTLABEL=", "PARTLABEL=ROOT"}) {
    INFO(root);
    CHECK(name_of(root) == "nothing");
    CHECK(find_root(root, two_disks()).problem == "there is vda, vdb, vdb1, vdb2");
  }
  CHECK(find_root("/dev/vda", {}).problem == "there is no disk");
  CHECK(test::contains(find_root("/dev/sda1", two_disks()).problem, "/dev/vda"));
  CHECK(test::contains(find_root("/dev/nvme0n1p1", two_disks()).problem, "/dev/vda"));
}

TEST_CASE("a partition of a table that Linux does not take is not found") {
  std::vector<DiskFacts> disks = two_disks();
  disks[1].table_usable = false;
  for (const char* root : {"/dev/vdb2", "UUID=ef", "PARTUUID=11-02", "PARTLABEL=root"})
    CHECK_FALSE(find_root(root, disks).name);
  CHECK(find_root("/dev/vdb", disks).name == "/dev/vdb");
}

TEST_CASE("which ways of naming a root need an initrd is known") {
  CHECK(find_root("UUID=ef", two_disks()).needs_initrd);
  CHECK(find_root("LABEL=DATA", two_disks()).needs_initrd);
  CHECK(find_root("/dev/mapper/vg-root", two_disks()).needs_initrd);
  CHECK_FALSE(find_root("PARTUUID=11-02", two_disks()).needs_initrd);
  CHECK_FALSE(find_root("/dev/vda", two_disks()).needs_initrd);
  CHECK_FALSE(find_root("/dev/nfs", two_disks()).names_disk);
}

TEST_CASE("the last root= of a command line counts, quotes hold words together, and init's words do not") {
  CHECK(command_line_value("quiet root=/dev/vda ro root=/dev/vdb", "root") == "/dev/vdb");
  CHECK(command_line_value("x=\"a root=b\" root=\"LABEL=my disk\"", "root") == "LABEL=my disk");
  CHECK(command_line_value("root=/dev/vda -- root=/dev/vdb", "root") == "/dev/vda");
  CHECK_FALSE(command_line_value("notroot=/dev/vda rootwait", "root"));
  CHECK_FALSE(command_line_value("", "root"));
}

TEST_CASE("disks are counted as Linux does") {
  CHECK(disk_name(0) == "vda");
  CHECK(disk_name(25) == "vdz");
  CHECK(disk_name(26) == "vdaa");
  CHECK(disk_name(701) == "vdzz");
}

}  // namespace hum::doctor
