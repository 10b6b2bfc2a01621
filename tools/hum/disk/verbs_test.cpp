// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/disk/verbs.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "devices/block/raw_file.h"
#include "tools/hum/exit_codes.h"
#include "tools/hum/kernel_store_files.h"
#include "tools/hum/process.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

// A folder for images, in which the programs run.
class Folder {
 public:
  ProcessResult disk(std::vector<std::string> words) const {
    words.insert(words.begin(), {HUM_PROGRAM, "disk"});
    return run_process(words, folder_.path());
  }
  int code(const std::vector<std::string>& words) const {
    const ProcessResult result = disk(words);
    INFO(result.errors);
    CHECK((result.exit_code != exit_bad_request || !result.errors.empty()));
    return result.exit_code;
  }
  // The exit code of a command for which a signal waits from its begin on, blocked and perhaps ignored.
  int code_with(int signal, bool ignored, std::vector<std::string> words) const {
    words.insert(words.begin(), {HUM_PROGRAM, "disk"});
    std::vector<char*> arguments;
    for (std::string& each : words) arguments.push_back(each.data());
    arguments.push_back(nullptr);
    const std::string folder = folder_.path();
    const pid_t child = ::fork();
    if (child == 0) {
      sigset_t blocked;
      ::sigemptyset(&blocked);
      ::sigaddset(&blocked, signal);
      ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
      ::signal(signal, ignored ? SIG_IGN : SIG_DFL);
      if (::raise(signal) != 0 || ::chdir(folder.c_str()) != 0) ::_exit(99);
      ::execv(arguments[0], arguments.data());
      ::_exit(99);
    }
    REQUIRE(child > 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : exit_signal + WTERMSIG(status);
  }
  // False where it is not there.
  bool qemu_img(std::vector<std::string> words) const {
    words.insert(words.begin(), "qemu-img");
    try {
      const ProcessResult result = run_process(words, folder_.path());
      INFO(result.errors);
      CHECK(result.exit_code == 0);
      output_ = result.output;
      return true;
    } catch (const HostError&) {
      return false;
    }
  }
  const std::string& qemu_output() const { return output_; }
  void write(const std::string& name, std::uint64_t offset, const std::vector<std::byte>& bytes) const {
    CHECK(RawFile::open("path", folder_.path() / name, false)->write(offset, bytes) == BlockResult::ok);
  }
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()));
  }
  fs::path operator/(const std::string& name) const { return folder_.path() / name; }

 private:
  TemporaryFolder folder_{fs::temp_directory_path()};
  mutable std::string output_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string content_of(const fs::path& path) {
  const std::vector<std::byte> bytes = read_whole_file(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Content, a hole, content that does not end with a cluster; of two megabytes.
std::string some_content() {
  std::string content(2 << 20, '\0');
  for (std::size_t i = 0; i < 300'000; ++i) content[i] = static_cast<char>(i * i / 7);
  for (std::size_t i = 1'500'000; i < 1'600'000; ++i) content[i] = 'x';
  return content;
}

}  // namespace

TEST_CASE("a disk is the same after it was converted there and back") {
  const Folder folder;
  write_whole_file(folder / "a.img", some_content());
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{},
        {"--cluster-size", "512"},
        {"--compress"},
        {"--compress", "--compression", "zstd", "--cluster-size", "128K"}}) {
    std::vector<std::string> there = {"convert", "a.img", "b", "--format", "raw", "--to", "qcow2"};
    there.insert(there.end(), options.begin(), options.end());
    CHECK(folder.code(there) == 0);
    CHECK(folder.code({"check", "b", "--format", "qcow2"}) == 0);
    CHECK(folder.code({"convert", "b", "c.img", "--format", "qcow2", "--to", "raw"}) == 0);
    CHECK(content_of(folder / "c.img") == some_content());
    CHECK(fs::file_size(folder / "b") < 1'500'000);
    folder.qemu_img({"compare", "-q", "-f", "raw", "-F", "qcow2", "a.img", "b"});
    folder.qemu_img({"check", "-q", "b"});
    fs::remove(folder / "b");
    fs::remove(folder / "c.img");
  }
  CHECK(folder.entries() == 1);
}

TEST_CASE("a conversion over a backing image writes what differs, and never over a file that is there") {
  const Folder folder;
  std::string content = some_content();
  write_whole_file(folder / "base.img", content);
  content.replace(0, 100, std::string(100, '\0'));
  content[1'700'000] = 'y';
  write_whole_file(folder / "a.img", content);
  CHECK(folder.code({"convert", "a.img", "b", "--format", "raw", "--to", "qcow2", "--backing", "base.img",
                     "--backing-format", "raw"}) == 0);
  CHECK(fs::file_size(folder / "b") < 600'000);
  CHECK(folder.code({"convert", "b", "c.img", "--format", "qcow2", "--to", "raw"}) == 0);
  CHECK(content_of(folder / "c.img") == content);
  const ProcessResult again = folder.disk({"convert", "b", "c.img", "--format", "qcow2", "--to", "raw"});
  CHECK(again.exit_code == exit_bad_request);
  CHECK(contains(again.errors, "target 'c.img': is there already"));
  CHECK(folder.code({"convert", "b", "d", "--format", "qcow2", "--to", "raw", "--compress"}) ==
        exit_bad_request);
  CHECK(folder.entries() == 4);
}

TEST_CASE("an overlay's content is in its base after a commit, which grows, and the overlay is empty") {
  const Folder folder;
  for (const std::string& format : {std::string("raw"), std::string("qcow2")}) {
    fs::remove(folder / "top");
    fs::remove(folder / "base");
    CHECK(folder.code({"create", "base", "1M", "--format", format}) == 0);
    write_whole_file(folder / "a.img", some_content());
    CHECK(folder.code({"convert", "a.img", "top", "--format", "raw", "--to", "qcow2", "--backing", "base",
                       "--backing-format", format}) == 0);
    {
      const auto user = RawFile::open("path", folder / "base", true);
      CHECK(folder.code({"commit", "top", "--format", "qcow2"}) == exit_bad_request);
    }
    CHECK(folder.code({"commit", "top", "--format", "qcow2"}) == 0);
    fs::remove(folder / "b.img");
    CHECK(folder.code({"convert", "base", "b.img", "--format", format, "--to", "raw"}) == 0);
    CHECK(content_of(folder / "b.img") == some_content());
    const auto map = nlohmann::json::parse(folder.disk({"map", "top", "--format", "qcow2", "--json"}).output);
    for (const auto& each : map) CHECK((each["depth"] == 1 || each["present"] == false));
    CHECK(folder.code({"check", "top", "--format", "qcow2"}) == 0);
  }
  CHECK(contains(folder.disk({"commit", "base", "--format", "qcow2"}).errors, "has no backing image"));
}

TEST_CASE("a conversion or a commit that a signal stops leaves nothing, or all as it was") {
  const Folder folder;
  write_whole_file(folder / "a.img", some_content());
  CHECK(folder.code({"convert", "a.img", "a", "--format", "raw", "--to", "qcow2", "--compress"}) == 0);
  CHECK(folder.code({"create", "base", "1M"}) == 0);
  CHECK(folder.code({"convert", "a.img", "top", "--format", "raw", "--to", "qcow2", "--backing", "base",
                     "--backing-format", "qcow2"}) == 0);
  const std::string top = content_of(folder / "top");
  const std::size_t entries = folder.entries();
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"convert", "a.img", "b", "--format", "raw", "--to", "qcow2"},
        {"convert", "a.img", "b", "--format", "raw", "--to", "qcow2", "--compress"},
        {"convert", "a", "b", "--format", "qcow2", "--to", "raw"},
        {"convert", "a.img", "b", "--format", "raw", "--to", "qcow2", "--backing", "base", "--backing-format",
         "qcow2"},
        {"commit", "top", "--format", "qcow2"}}) {
    INFO(words[0] << " " << words[1]);
    CHECK(folder.code_with(SIGTERM, false, words) == exit_signal + SIGTERM);
    CHECK(folder.code_with(SIGINT, false, words) == exit_signal + SIGINT);
    CHECK(folder.entries() == entries);
  }
  CHECK(content_of(folder / "top") == top);
  CHECK(folder.code({"check", "base", "--format", "qcow2"}) == 0);
  CHECK(folder.code({"check", "top", "--format", "qcow2"}) == 0);
  CHECK(folder.code({"commit", "top", "--format", "qcow2"}) == 0);
}

TEST_CASE("a signal that is ignored from the start stops no conversion") {
  const Folder folder;
  write_whole_file(folder / "a.img", some_content());
  CHECK(folder.code_with(SIGHUP, true, {"convert", "a.img", "b", "--format", "raw", "--to", "raw"}) == 0);
  CHECK(content_of(folder / "b") == some_content());
}

TEST_CASE("a size that a disk cannot have is refused with the size and the limit") {
  const Folder folder;
  CHECK(folder.code({"create", "a", "1M", "--cluster-size", "512"}) == 0);
  CHECK(folder.code({"resize", "a", "128G", "--format", "qcow2"}) == 0);
  const ProcessResult larger = folder.disk({"resize", "a", "129G", "--format", "qcow2"});
  CHECK(larger.exit_code == exit_bad_request);
  CHECK(contains(larger.errors, "size '129G': this image's disk can have up to 128G"));
}

TEST_CASE("a disk grows, and shrinks only when that is said") {
  const Folder folder;
  for (const std::string& format : {std::string("raw"), std::string("qcow2")}) {
    CHECK(folder.code({"create", "a", "1M", "--format", format}) == 0);
    const auto size = [&] {
      return nlohmann::json::parse(folder.disk({"info", "a", "--format", format, "--json"}).output)
          .at("virtual_size")
          .get<std::uint64_t>();
    };
    CHECK(folder.code({"resize", "a", "+1M", "--format", format}) == 0);
    CHECK(size() == 2 << 20);
    const ProcessResult smaller = folder.disk({"resize", "a", "512K", "--format", format});
    CHECK(smaller.exit_code == exit_bad_request);
    CHECK(
        contains(smaller.errors, "size '512K': is less than the disk has, 2M (2097152 bytes); add --shrink"));
    CHECK(size() == 2 << 20);
    CHECK(folder.code({"resize", "a", "512K", "--format", format, "--shrink"}) == 0);
    CHECK(size() == 512 << 10);
    CHECK(folder.code({"resize", "a", "513", "--format", format, "--shrink"}) == exit_bad_request);
    fs::remove(folder / "a");
  }
}

TEST_CASE("a disk with snapshots grows and does not shrink") {
  const Folder folder;
  CHECK(folder.code({"create", "a", "1M"}) == 0);
  if (!folder.qemu_img({"snapshot", "-c", "one", "a"})) {
    WARN("skipped: qemu-img is not there");
    return;
  }
  CHECK(folder.code({"check", "a", "--format", "qcow2"}) == 0);
  CHECK(contains(folder.disk({"resize", "a", "512K", "--format", "qcow2", "--shrink"}).errors,
                 "has snapshots"));
  CHECK(folder.code({"resize", "a", "9T", "--format", "qcow2"}) == 0);
  CHECK(folder.code({"check", "a", "--format", "qcow2"}) == 0);
  folder.qemu_img({"check", "-q", "a"});
}

TEST_CASE("a check tells leaks from errors, and repairs both") {
  const Folder folder;
  write_whole_file(folder / "a.img", some_content());
  CHECK(folder.code({"convert", "a.img", "a", "--format", "raw", "--to", "qcow2"}) == 0);
  // A new image: header, refcount table, refcount block, L1 table; then the first data. Refcounts of 16 bits.
  const std::uint64_t counts = 2 * 65536;
  const auto check = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {"check", "a", "--format", "qcow2", "--json"});
    return folder.disk(options);
  };
  folder.write("a", counts + 2 * 1000, {std::byte{0}, std::byte{1}});
  ProcessResult result = check({});
  CHECK(result.exit_code == exit_disk_leaks);
  CHECK(nlohmann::json::parse(result.output)["leaks"] == 1);
  CHECK(check({"--repair", "leaks"}).exit_code == 0);
  CHECK(check({}).exit_code == 0);

  folder.write("a", counts + 2 * 4, {std::byte{0}, std::byte{0}});
  result = check({});
  CHECK(result.exit_code == exit_disk_errors);
  CHECK(nlohmann::json::parse(result.output)["problems"]["undercount"] == 1);
  CHECK(nlohmann::json::parse(result.output)["problems"]["own-flag"] == 1);
  CHECK(check({"--repair", "leaks"}).exit_code == exit_disk_errors);
  CHECK(check({"--repair", "all"}).exit_code == 0);
  CHECK(check({}).exit_code == 0);
  folder.qemu_img({"check", "-q", "a"});
  folder.qemu_img({"compare", "-q", "-f", "raw", "-F", "qcow2", "a.img", "a"});

  folder.write("a", 3 * 65536, {std::byte{0x80}, std::byte{0}, std::byte{1}, std::byte{0}});
  result = check({"--repair", "all"});
  CHECK(result.exit_code == exit_disk_errors);
  CHECK(nlohmann::json::parse(result.output)["problems"]["past-end"] == 1);
  CHECK(folder.code({"check", "a", "--format", "raw"}) == exit_bad_request);
}

TEST_CASE("a map is that of qemu-img, for each image of a chain") {
  const Folder folder;
  write_whole_file(folder / "a.img", some_content());
  CHECK(folder.code({"convert", "a.img", "sparse.img", "--format", "raw", "--to", "raw"}) == 0);
  CHECK(folder.code({"convert", "a.img", "flat", "--format", "raw", "--to", "qcow2"}) == 0);
  std::string content = some_content();
  content.replace(100'000, 200'000, std::string(200'000, 'z'));
  write_whole_file(folder / "b.img", content + std::string(100'352, 'q'));
  CHECK(folder.code({"convert", "b.img", "over", "--format", "raw", "--to", "qcow2", "--backing", "flat",
                     "--backing-format", "qcow2"}) == 0);
  CHECK(folder.code({"create", "top", "4M", "--backing", "over", "--backing-format", "qcow2"}) == 0);
  for (const auto& [name, format] : {std::pair<std::string, std::string>{"sparse.img", "raw"},
                                     {"flat", "qcow2"},
                                     {"over", "qcow2"},
                                     {"top", "qcow2"}}) {
    INFO(name);
    auto map = nlohmann::json::parse(folder.disk({"map", name, "--format", format, "--json"}).output);
    std::uint64_t end = 0;
    for (auto& each : map) {
      CHECK(each["start"] == end);
      end += each["length"].get<std::uint64_t>();
      each.erase("compressed");
    }
    if (!folder.qemu_img({"map", "-f", format, "--output=json", name})) {
      WARN("skipped: qemu-img is not there");
      return;
    }
    auto theirs = nlohmann::json::parse(folder.qemu_output());
    for (auto& each : theirs) each.erase("compressed");
    CHECK(map == theirs);
  }
}

}  // namespace hum
