// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/kernel_store_modules.h"

#include <elf.h>

#include <cstring>

#include "tools/hum/kernel_store_files.h"
#include "tools/hum/process.h"
#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

// The smallest file with a section .modinfo: header, names, content, section headers (none, .modinfo, names).
std::vector<std::byte> module_with(std::string_view info) {
  constexpr std::string_view names("\0.modinfo\0.names\0", 17);
  std::vector<std::byte> bytes(sizeof(Elf64_Ehdr));
  const auto append = [&bytes](std::span<const std::byte> more) {
    const std::size_t at = bytes.size();
    bytes.insert(bytes.end(), more.begin(), more.end());
    return at;
  };
  Elf64_Shdr info_section{};
  info_section.sh_name = 1;
  info_section.sh_offset = append(std::as_bytes(std::span(info)));
  info_section.sh_size = info.size();
  Elf64_Shdr names_section{};
  names_section.sh_name = 10;
  names_section.sh_offset = append(std::as_bytes(std::span(names)));
  names_section.sh_size = names.size();
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_shnum = 3;
  header.e_shstrndx = 2;
  header.e_shoff = append(bytes_of(Elf64_Shdr{}));
  append(bytes_of(info_section));
  append(bytes_of(names_section));
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

// A folder as lib/modules/<release>.
class ModuleTree {
 public:
  ModuleTree() { fs::create_directories(kernel()); }

  void add(const std::string& file, std::string_view info) const {
    write_whole_file(kernel() / file, module_with(info));
  }
  void build_in(std::string_view lines) const { write_whole_file(root() / "modules.builtin", lines); }
  fs::path root() const { return folder_.path(); }
  fs::path kernel() const { return root() / "kernel/drivers"; }

  // Names, with the type of the device where they are good for that only.
  std::vector<std::string> closure(const std::vector<WantedModule>& wanted) const {
    std::vector<std::string> names;
    for (const KernelModule& module : module_closure(root(), wanted))
      names.push_back(module.name + (module.virtio_device != 0 ? " " + std::to_string(module.virtio_device)
                                                               : std::string()));
    return names;
  }

 private:
  TemporaryFolder folder_{fs::temp_directory_path()};
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a module's own statements are read, names with underscores") {
  using namespace std::string_view_literals;
  const std::vector<std::byte> module =
      module_with("license=GPL\0depends=virtio-ring,virtio\0softdep=pre: a-b c post: d\0name=x\0"sv);
  const ModuleInfo info = read_module_info("x", module);
  CHECK(info.needs == Names{"virtio_ring", "virtio"});
  CHECK(info.before == Names{"a_b", "c"});
  CHECK(info.after == Names{"d"});
}

TEST_CASE("a file that is no module, or is cut off anywhere, is refused") {
  const std::vector<std::byte> whole = module_with("depends=");
  CHECK(read_module_info("x", whole).needs.empty());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CHECK_THROWS_AS(read_module_info("x", std::span(whole).first(size)), ConfigError);
  }
}

TEST_CASE("what a module needs comes before it, each module once") {
  const ModuleTree tree;
  tree.add("virtio.ko", "depends=");
  tree.add("virtio_ring.ko", "depends=virtio");
  tree.add("virtio-rng.ko", "depends=virtio_ring,virtio");
  tree.add("virtio_blk.ko", "depends=virtio,virtio_ring");
  tree.add("other.ko", "depends=");
  CHECK(tree.closure({{"virtio_rng"}, {"virtio-blk"}, {"virtio"}}) ==
        Names{"virtio", "virtio_ring", "virtio_rng", "virtio_blk"});
}

TEST_CASE("soft dependencies surround a module, if they are there") {
  const ModuleTree tree;
  tree.add("ext4.ko", "softdep=pre: crc32c absent post: tail");
  tree.add("crc32c.ko", "depends=");
  tree.add("tail.ko", "depends=");
  CHECK(tree.closure({{"ext4"}}) == Names{"crc32c", "ext4", "tail"});
}

TEST_CASE("modules that need each other softly end the walk") {
  const ModuleTree tree;
  tree.add("a.ko", "softdep=pre: b");
  tree.add("b.ko", "softdep=pre: a");
  CHECK(tree.closure({{"a"}}) == Names{"b", "a"});
}

TEST_CASE(
    "wanted modules that a kernel lacks or has built in are passed over, needed ones must be somewhere") {
  const ModuleTree tree;
  tree.add("virtio_blk.ko", "depends=virtio");
  CHECK(tree.closure({{"button"}}).empty());
  CHECK_THROWS_AS(tree.closure({{"virtio_blk"}}), ConfigError);
  tree.build_in("kernel/drivers/virtio/virtio.ko\n");
  CHECK(tree.closure({{"virtio_blk"}, {"virtio"}}) == Names{"virtio_blk"});
}

TEST_CASE("compressed modules are unpacked") {
  const ModuleTree tree;
  const std::string info = "filler=" + std::string(100000, 'x');
  tree.add("one.ko", info);
  tree.add("two.ko", info);
  run_successfully({"xz", tree.kernel() / "one.ko"});
  run_successfully({"zstd", "--rm", "-q", tree.kernel() / "two.ko"});
  const std::vector<WantedModule> wanted = {{"one"}, {"two"}};
  const std::vector<KernelModule> modules = module_closure(tree.root(), wanted);
  REQUIRE(modules.size() == 2);
  CHECK(modules[0].content == module_with(info));
  CHECK(modules[1].content == module_with(info));
}

TEST_CASE("what only a rare device needs is marked with its type, and comes behind what every VM needs") {
  const ModuleTree tree;
  tree.add("virtio.ko", "depends=");
  tree.add("common.ko", "depends=");
  tree.add("vsock.ko", "depends=common,virtio");
  tree.add("balloon.ko", "depends=virtio,common");
  tree.add("virtio_blk.ko", "depends=virtio");
  CHECK(tree.closure({{"vsock", 19}, {"virtio_blk"}}) ==
        Names{"virtio", "virtio_blk", "common 19", "vsock 19"});
  CHECK(tree.closure({{"vsock", 19}, {"balloon", 5}}) ==
        Names{"common 19", "virtio 19", "vsock 19", "virtio 5", "common 5", "balloon 5"});
  CHECK(tree.closure({{"balloon", 5}, {"common"}}) == Names{"common", "virtio 5", "balloon 5"});
}

TEST_CASE("a compressed module that is cut off is refused") {
  const ModuleTree tree;
  for (const char* name : {"one.ko", "two.ko"}) tree.add(name, "depends=");
  run_successfully({"xz", tree.kernel() / "one.ko"});
  run_successfully({"zstd", "--rm", "-q", tree.kernel() / "two.ko"});
  for (const char* name : {"one.ko.xz", "two.ko.zst"}) {
    fs::resize_file(tree.kernel() / name, fs::file_size(tree.kernel() / name) / 2);
  }
  CHECK_THROWS_AS(tree.closure({{"one"}}), ConfigError);
  CHECK_THROWS_AS(tree.closure({{"two"}}), ConfigError);
}

}  // namespace hum
