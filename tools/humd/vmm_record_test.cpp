// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include <climits>
#include <filesystem>
#include <string>

#include "tools/humd/vmm_process.h"
#include "tools/humd/vmm_process_testing.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/machine/end_record.h"

namespace hum {
namespace {

using namespace hum::testing;

constexpr std::size_t largest = 1024 * 1024;

std::string with_process(const std::string& process) {
  return R"({"cause": "running", "process": )" + process + "}";
}

}  // namespace

TEST_CASE("what a VMM's record says of its end is read back") {
  const TemporaryFolder folder;
  EndRecord record;
  record.cause = EndCause::debug_exit;
  record.detail = "in words";
  record.guest_exit_code = 4294967295;
  record.started = utc_now();
  RecordFile(folder / "record").write(record);

  const auto end = end_in_record(folder / "record");
  REQUIRE(end);
  CHECK(end->cause == "debug-exit");
  CHECK(end->detail == "in words");
  CHECK(end->guest_exit_code == 4294967295);
  CHECK(end->ran);
  CHECK_FALSE(end->without_a_word());
  const auto identity = identity_in_record(folder / "record");
  REQUIRE(identity);
  CHECK(identity->pid == ::getpid());
  CHECK(identity->boot_id.empty());
  CHECK(identity->start_time > 0);
}

TEST_CASE("a record of a VM that has not been started says so") {
  const TemporaryFolder folder;
  RecordFile(folder / "record").write(EndRecord());
  const auto end = end_in_record(folder / "record");
  REQUIRE(end);
  CHECK_FALSE(end->ran);
  CHECK(end->without_a_word());
  CHECK_FALSE(end->guest_exit_code);
}

TEST_CASE("what is no record tells nothing, and nobody waits for it") {
  const TemporaryFolder folder;
  const std::string path = folder / "record";
  const std::string whole = EndRecord().to_json();
  SECTION("nothing there") {}
  SECTION("no folder") {
    std::filesystem::create_symlink(folder / "none/record", path);
  }
  SECTION("an empty file") {
    put_file(path, "");
  }
  SECTION("half of one") {
    put_file(path, whole.substr(0, whole.size() / 2));
  }
  SECTION("all but its last byte") {
    put_file(path, whole.substr(0, whole.size() - 1));
  }
  SECTION("another document") {
    put_file(path, "[1, 2]");
  }
  SECTION("an object of other things") {
    put_file(path, R"({"cause": 7, "process": 8, "detail": []})");
  }
  SECTION("an end without a word for it") {
    put_file(path, R"({"cause": ""})");
  }
  SECTION("no text") {
    put_file(path, std::string("\xff\xfe\0\x80", 4));
  }
  SECTION("text that is not UTF-8") {
    put_file(path, "{\"cause\": \"\xff\xfe\"}");
  }
  SECTION("lists without an end") {
    put_file(path, std::string(largest, '['));
  }
  SECTION("a folder") {
    std::filesystem::create_directory(path);
  }
  SECTION("a fifo") {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  }
  SECTION("a link to a good one") {
    put_file(folder / "good", whole);
    REQUIRE(end_in_record(folder / "good"));
    std::filesystem::create_symlink(folder / "good", path);
  }
  SECTION("a device that never ends") {
    std::filesystem::create_symlink("/dev/zero", path);
  }
  CHECK_FALSE(end_in_record(path));
  CHECK_FALSE(identity_in_record(path));
}

TEST_CASE("a record has 1 MiB at most") {
  const TemporaryFolder folder;
  const std::string path = folder / "record";
  std::string text = EndRecord().to_json();
  text.resize(largest, ' ');
  put_file(path, text);
  CHECK(end_in_record(path));
  CHECK(identity_in_record(path));
  put_file(path, text + " ");
  CHECK_FALSE(end_in_record(path));
  CHECK_FALSE(identity_in_record(path));
}

TEST_CASE("an identity in a record is of a process that there can be") {
  const TemporaryFolder folder;
  const std::string path = folder / "record";
  const auto read = [&](const std::string& process) {
    put_file(path, with_process(process));
    CHECK(end_in_record(path));
    return identity_in_record(path);
  };
  const auto good = read(R"({"pid": 2147483647, "start_ticks": 18446744073709551615})");
  REQUIRE(good);
  CHECK(good->pid == INT_MAX);
  CHECK(good->start_time == UINT64_MAX);
  for (const char* const bad :
       {R"({"pid": 2147483648, "start_ticks": 5})", R"({"pid": 4294967297, "start_ticks": 5})",
        R"({"pid": 0, "start_ticks": 5})", R"({"pid": -5, "start_ticks": 5})",
        R"({"pid": 5.5, "start_ticks": 5})", R"({"pid": "5", "start_ticks": 5})",
        R"({"pid": 5, "start_ticks": 0})", R"({"pid": 5, "start_ticks": -1})",
        R"({"pid": 5, "start_ticks": 18446744073709551616})", R"({"pid": 5})", R"({"start_ticks": 5})",
        "null"}) {
    INFO(bad);
    CHECK_FALSE(read(bad));
  }
}

TEST_CASE("a guest's exit code has 32 bits") {
  const TemporaryFolder folder;
  const std::string path = folder / "record";
  const auto code = [&](const std::string& text) {
    put_file(path, R"({"cause": "debug-exit", "guest_exit_code": )" + text + "}");
    return end_in_record(path)->guest_exit_code;
  };
  CHECK(code("0") == 0);
  CHECK(code("4294967295") == 4294967295);
  CHECK_FALSE(code("4294967296"));
  CHECK_FALSE(code("-1"));
  CHECK_FALSE(code("null"));
  CHECK_FALSE(code("\"1\""));
}

}  // namespace hum
