// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/disk_command.h"

#include <sys/stat.h>

#include <cstdint>
#include <nlohmann/json.hpp>

#include "devices/block/raw_file.h"
#include "tools/hum/exit_codes.h"
#include "tools/hum/kernel_store_files.h"
#include "tools/hum/process.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

// A folder for images, in which `hum disk` runs.
class Folder {
 public:
  ProcessResult disk(std::vector<std::string> words) const {
    words.insert(words.begin(), {HUM_PROGRAM, "disk"});
    return run_process(words, folder_.path());
  }
  ProcessResult create(std::vector<std::string> words) const {
    words.insert(words.begin(), "create");
    return disk(words);
  }
  nlohmann::json info(const std::string& name) const {
    const ProcessResult result = disk({"info", "--json", name});
    CHECK(result.exit_code == 0);
    return nlohmann::json::parse(result.output);
  }
  // What creating says when it refuses, after which all is as it was.
  std::string refusal(const std::vector<std::string>& words) const {
    const std::size_t before = entries();
    const ProcessResult result = create(words);
    CHECK(result.exit_code == exit_bad_request);
    CHECK(entries() == before);
    return result.errors;
  }
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::recursive_directory_iterator(folder_.path()), fs::recursive_directory_iterator()));
  }
  fs::path operator/(const std::string& name) const { return folder_.path() / name; }

 private:
  TemporaryFolder folder_{fs::temp_directory_path()};
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a new disk image is qcow2 and says what it is") {
  const Folder folder;
  const ProcessResult made = folder.create({"a.qcow2", "10G"});
  CHECK(made.exit_code == 0);
  CHECK(made.output.empty());
  CHECK(made.errors.empty());
  CHECK(folder.entries() == 1);
  const nlohmann::json info = folder.info("a.qcow2");
  CHECK(info["path"] == "a.qcow2");
  CHECK(info["format"] == "qcow2");
  CHECK(info["virtual_size"] == std::uint64_t{10} << 30);
  CHECK(info["size_on_disk"] < 1 << 20);
  CHECK(info["version"] == 3);
  CHECK(info["cluster_size"] == 65536);
  CHECK(info["compression"] == "zlib");
  CHECK(info["backing_file"].is_null());
  CHECK(info["backing_format"].is_null());
  CHECK(info["snapshots"] == 0);
  CHECK(info["dirty"] == false);
  CHECK(info["corrupt"] == false);
  const std::string text = folder.disk({"info", "a.qcow2"}).output;
  CHECK(contains(text, "virtual size   10G (10737418240 bytes)\n"));
  CHECK(contains(text, "cluster size   64K\n"));
  CHECK_FALSE(contains(text, "backing"));
}

TEST_CASE("a new raw image is a sparse file of its size") {
  const Folder folder;
  CHECK(folder.create({"--format", "raw", "a.img", "3G"}).exit_code == 0);
  CHECK(fs::file_size(folder / "a.img") == std::uint64_t{3} << 30);
  const nlohmann::json info = folder.info("a.img");
  CHECK(info["format"] == "raw");
  CHECK(info["virtual_size"] == std::uint64_t{3} << 30);
  CHECK(info["size_on_disk"] < 1 << 20);
  CHECK_FALSE(info.contains("cluster_size"));
  CHECK(contains(folder.disk({"info", "a.img"}).output, "format         raw\n"));
}

TEST_CASE("a new image may be read by whom the umask lets, like any other file") {
  const Folder folder;
  const mode_t mask = ::umask(027);
  CHECK(folder.create({"a.qcow2", "1M"}).exit_code == 0);
  ::umask(mask);
  CHECK(fs::status(folder / "a.qcow2").permissions() == fs::perms(0640));
}

TEST_CASE("clusters and compression are as they were wanted") {
  const Folder folder;
  CHECK(folder.create({"a", "1M", "--cluster-size", "2M", "--compression", "zstd"}).exit_code == 0);
  CHECK(folder.info("a")["cluster_size"] == 2 << 20);
  CHECK(folder.info("a")["compression"] == "zstd");
  CHECK(folder.create({"b", "0", "--cluster-size", "512"}).exit_code == 0);
  CHECK(folder.info("b")["cluster_size"] == 512);
  CHECK(folder.info("b")["virtual_size"] == 0);
}

TEST_CASE("an image over another is of its size, rounded up to sectors, unless one is given") {
  const Folder folder;
  fs::create_directory(folder / "base");
  write_whole_file(folder / "base/raw.img", std::string(1025, 'x'));
  CHECK(folder.create({"base/a", "--backing", "raw.img", "--backing-format", "raw"}).exit_code == 0);
  const nlohmann::json info = folder.info("base/a");
  CHECK(info["virtual_size"] == 1536);
  CHECK(info["backing_file"] == "raw.img");
  CHECK(info["backing_format"] == "raw");
  CHECK(folder.create({"b", "8M", "--backing", "base/a", "--backing-format", "qcow2"}).exit_code == 0);
  CHECK(folder.info("b")["virtual_size"] == 8 << 20);
  CHECK(folder.create({"c", "--backing", folder / "b", "--backing-format", "qcow2"}).exit_code == 0);
  CHECK(folder.info("c")["virtual_size"] == 8 << 20);
  const std::string text = folder.disk({"info", "b"}).output;
  CHECK(contains(text, "backing file   base/a\n"));
  CHECK(contains(text, "backing format qcow2\n"));
}

TEST_CASE("what is there is never overwritten, and after a refusal nothing is left") {
  const Folder folder;
  write_whole_file(folder / "there", std::string("precious"));
  fs::create_symlink("nowhere", folder / "dangling");
  for (const std::string& format : {std::string("raw"), std::string("qcow2")}) {
    CHECK(contains(folder.refusal({"there", "1M", "--format", format}), "path 'there': is there already"));
    CHECK(contains(folder.refusal({"dangling", "1M", "--format", format}), "is there already"));
    CHECK(contains(folder.refusal({".", "1M", "--format", format}), "is there already"));
    CHECK(contains(folder.refusal({"no/a", "1M", "--format", format}), "there is no folder no"));
  }
  CHECK(fs::file_size(folder / "there") == 8);
  CHECK(contains(folder.refusal({"a", "256G", "--cluster-size", "512"}), "larger clusters"));
}

TEST_CASE("a request that makes no sense is refused with what is accepted") {
  const Folder folder;
  write_whole_file(folder / "raw.img", std::string(512, 'x'));
  CHECK(contains(folder.refusal({}), "path: no value is given"));
  CHECK(contains(folder.refusal({"a"}), "size: no value is given; give the size of the guest's disk"));
  CHECK(contains(folder.refusal({"a", "much"}), "size 'much': not a size"));
  CHECK(contains(folder.refusal({"a", "513"}), "not a multiple of 512 bytes"));
  CHECK(contains(folder.refusal({"a", "72057594037928448"}), "larger than 2^56"));
  CHECK(contains(folder.refusal({"a", "16777215T", "--format", "raw"}), "too large for a file"));
  CHECK(contains(folder.refusal({"a", "1M", "--format", "vmdk"}), "--format: vmdk not in"));
  for (const char* const size : {"256", "4M", "3K", "0"})
    CHECK(
        contains(folder.refusal({"a", "1M", "--cluster-size", size}), "give a power of two from 512 to 2M"));
  CHECK(contains(folder.refusal({"a", "1M", "--compression", "lz4"}), "--compression: lz4 not in"));
  CHECK(contains(folder.refusal({"a", "1M", "--format", "raw", "--cluster-size", "4K"}),
                 "--cluster-size '4K': a raw image has no such thing"));
  CHECK(contains(folder.refusal({"a", "--format", "raw", "--backing", "raw.img"}),
                 "--backing 'raw.img': a raw"));
  CHECK(contains(folder.refusal({"a", "--backing", "raw.img"}), "its format is not given"));
  CHECK(contains(folder.refusal({"a", "1M", "--backing-format", "raw"}), "there is no backing image"));
  CHECK(contains(folder.refusal({"a", "--backing", "none.img", "--backing-format", "raw"}), "no such file"));
  CHECK(contains(folder.refusal({"a", "1M", "--backing", "raw.img", "--backing-format", "qcow2"}),
                 "--backing 'raw.img': is no qcow2 image"));
  CHECK(folder.disk({}).exit_code == exit_bad_request);
}

TEST_CASE("the format of an image is guessed only where none is given") {
  const Folder folder;
  REQUIRE(folder.create({"a", "1M"}).exit_code == 0);
  write_whole_file(folder / "b", std::string("QFI\xfb"));
  write_whole_file(folder / "c", std::string("QFI"));
  CHECK(nlohmann::json::parse(folder.disk({"info", "a", "--format", "raw", "--json"}).output)["format"] ==
        "raw");
  CHECK(contains(folder.disk({"info", "b"}).errors, "path 'b': is truncated"));
  CHECK(folder.info("c")["format"] == "raw");
  const ProcessResult wrong = folder.disk({"info", "c", "--format", "qcow2"});
  CHECK(wrong.exit_code == exit_bad_request);
  CHECK(contains(wrong.errors, "is no qcow2 image"));
  CHECK(contains(folder.disk({"info", "none"}).errors, "path 'none': no such file"));
}

TEST_CASE("what an image has in its name of another cannot command a terminal") {
  const Folder folder;
  const std::string name = "x\x1b[2J\xff";
  write_whole_file(folder / name, std::string(512, 'x'));
  REQUIRE(folder.create({"a", "--backing", name, "--backing-format", "raw"}).exit_code == 0);
  CHECK(contains(folder.disk({"info", "a"}).output, "backing file   x?[2J\xff\n"));
  CHECK(folder.info("a")["backing_file"] == "x\x1b[2J\xef\xbf\xbd");
}

TEST_CASE("the state that an image claims is told") {
  const Folder folder;
  REQUIRE(folder.create({"a", "1M"}).exit_code == 0);
  {
    constexpr std::array<std::byte, 1> dirty_and_corrupt{std::byte{3}};
    CHECK(RawFile::open("path", folder / "a", false)->write(79, dirty_and_corrupt) == BlockResult::ok);
  }
  CHECK(folder.info("a")["dirty"] == true);
  CHECK(folder.info("a")["corrupt"] == true);
  const std::string text = folder.disk({"info", "a"}).output;
  CHECK(contains(text, "dirty          yes"));
  CHECK(contains(text, "corrupt        yes"));
}

TEST_CASE("an image that a writer has is not described") {
  const Folder folder;
  REQUIRE(folder.create({"a", "1M"}).exit_code == 0);
  const auto writer = RawFile::open("path", folder / "a", false);
  if (!writer->locked()) return;
  const ProcessResult result = folder.disk({"info", "a"});
  CHECK(result.exit_code == exit_bad_request);
  CHECK(contains(result.errors, "is in use"));
}

}  // namespace hum
