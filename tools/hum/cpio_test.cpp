// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/cpio.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "tools/hum/kernel_store_files.h"
#include "tools/hum/process.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  const std::vector<std::byte> content = read_whole_file(path);
  return {reinterpret_cast<const char*>(content.data()), content.size()};
}

// Unpacks with the system's own cpio and answers the names it lists.
std::string unpack(const fs::path& folder, std::span<const std::byte> archive) {
  write_whole_file(folder / "archive", archive);
  run_successfully({"cpio", "-i", "--quiet", "--no-absolute-filenames", "-F", "archive"}, folder);
  return run_successfully({"cpio", "-t", "--quiet", "-F", "archive"}, folder);
}

std::string header_field(std::span<const std::byte> archive, std::size_t index) {
  return {reinterpret_cast<const char*>(archive.data()) + 6 + 8 * index, 8};
}

}  // namespace

TEST_CASE("the system's cpio reads back files, folders and links") {
  const TemporaryFolder folder(fs::temp_directory_path());
  CpioWriter writer;
  writer.folder("sub", 0750);
  writer.file("sub/one", "1");
  writer.file("sub/four", "1234", 0755);
  writer.file("sub/five", std::string_view("12\00045", 5));
  writer.file("empty", "");
  writer.symlink("link", "sub/four");
  CHECK(unpack(folder.path(), writer.finish()) == "sub\nsub/one\nsub/four\nsub/five\nempty\nlink\n");
  CHECK(text_of(folder.path() / "sub/one") == "1");
  CHECK(text_of(folder.path() / "sub/five") == std::string_view("12\00045", 5));
  CHECK(fs::file_size(folder.path() / "empty") == 0);
  CHECK(fs::read_symlink(folder.path() / "link") == "sub/four");
  CHECK(text_of(folder.path() / "link") == "1234");
  struct stat status{};
  REQUIRE(stat((folder.path() / "sub/four").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0755);
  REQUIRE(stat((folder.path() / "sub").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0750);
}

TEST_CASE("every length of name and content keeps the four-byte alignment") {
  const TemporaryFolder folder(fs::temp_directory_path());
  CpioWriter writer;
  for (std::size_t length = 1; length <= 9; ++length) {
    writer.file(std::string(length, 'n'), std::string(length - 1, 'c'));
  }
  unpack(folder.path(), writer.finish());
  for (std::size_t length = 1; length <= 9; ++length) {
    CHECK(text_of(folder.path() / std::string(length, 'n')) == std::string(length - 1, 'c'));
  }
}

TEST_CASE("a device node carries its numbers") {
  CpioWriter writer;
  writer.character_device("dev/console", 5, 1);
  const std::vector<std::byte> archive = writer.finish();
  CHECK(header_field(archive, 1) == "00002180");
  CHECK(header_field(archive, 9) == "00000005");
  CHECK(header_field(archive, 10) == "00000001");
}

TEST_CASE("equal content gives equal bytes, in multiples of 512, also from a writer used again") {
  CpioWriter writer;
  writer.file("name", "content");
  const std::vector<std::byte> first = writer.finish();
  writer.file("name", "content");
  CHECK(writer.finish() == first);
  CHECK(first.size() == 512);
}

}  // namespace hum
