// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/guest/guest.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "tools/hum/guest/job.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

// The job file in the archive: from the magic word to the zero bytes that pad it.
std::string job_file(const std::vector<std::byte>& archive) {
  const std::string_view text(reinterpret_cast<const char*>(archive.data()), archive.size());
  const std::size_t header = text.rfind("hum/job") - 110;
  const std::size_t size = std::stoul(std::string(text.substr(header + 6 + 8 * 6, 8)), nullptr, 16);
  return std::string(text.substr(header + 120, size));
}

std::vector<std::string> texts(char** list) {
  std::vector<std::string> found;
  for (; *list != nullptr; ++list) found.emplace_back(*list);
  return found;
}

// A job as init reads it, but for the lists: init leaves them to the machine's end.
struct ReadJob : hum_job {
  ReadJob(char* bytes, std::size_t size) : hum_job(), problem(hum_job_parse(bytes, size, this)) {}
  ReadJob(const ReadJob&) = delete;
  ReadJob& operator=(const ReadJob&) = delete;
  ~ReadJob() {
    std::free(arguments);
    std::free(environment);
  }

  const char* problem;
};

std::string problem_of(std::string file) {
  const ReadJob job(file.data(), file.size());
  return job.problem != nullptr ? job.problem : "";
}

std::string record(std::string_view text) {
  return std::string(hum_job_magic) + '\0' + std::string(text) + '\0';
}

}  // namespace

TEST_CASE("init reads the job that the host has written") {
  Job written;
  written.arguments = {"printf", "%s\n", "", "a=b \n c"};
  written.environment = {"TERM=xterm", "EMPTY="};
  written.directory = "/var/tmp";
  written.hostname = "guest";
  written.terminal = Job::TerminalSize{50, 132};
  written.network_patience = 3000;
  std::string file = job_file(job_archive(written));
  const ReadJob read(file.data(), file.size());
  REQUIRE(read.problem == nullptr);
  CHECK(texts(read.arguments) == written.arguments);
  CHECK(texts(read.environment) == written.environment);
  CHECK(read.directory == written.directory);
  CHECK(read.hostname == written.hostname);
  CHECK(read.terminal);
  CHECK(read.rows == 50);
  CHECK(read.columns == 132);
  CHECK(read.network);
  CHECK(read.network_patience == 3000);
}

TEST_CASE("without a job file, and with one without keys, init runs a shell") {
  const ReadJob without(nullptr, 0);
  REQUIRE(without.problem == nullptr);
  CHECK(texts(without.arguments).empty());
  CHECK(std::string(without.hostname) == "hum");
  CHECK(without.network);
  CHECK(without.network_patience == 0);
  std::string file = job_file(job_archive({}));
  const ReadJob read(file.data(), file.size());
  REQUIRE(read.problem == nullptr);
  CHECK(texts(read.arguments).empty());
  CHECK(read.directory == nullptr);
  CHECK_FALSE(read.terminal);
  CHECK_FALSE(read.network);
}

TEST_CASE("init refuses a job file that it does not understand") {
  CHECK(problem_of(record("argument=true")).empty());
  CHECK(problem_of(record("colour=red")) == "it has an unknown key");
  CHECK(problem_of(record("arguments=true")) == "it has an unknown key");
  CHECK(problem_of(record("argument")) == "it has an unknown key");
  CHECK(problem_of(std::string("hum-job 2") + '\0') == "it is of another version");
  CHECK(problem_of("hum-job 1") == "it is cut off");
  CHECK(problem_of(record("terminal=24 80")).empty());
  CHECK(problem_of(record("terminal=65535 65535")).empty());
  for (const char* size : {"", "24", "24 ", "24x80", "24 80 ", "65536 80", "24 65536"}) {
    CHECK(problem_of(record(std::string("terminal=") + size)) == "its terminal size is no pair of numbers");
  }
}

TEST_CASE("a job that cannot be written is refused") {
  Job job;
  job.arguments = {std::string("a\0b", 3)};
  CHECK_THROWS_AS(job_archive(job), ConfigError);
  job.arguments = {""};
  CHECK_THROWS_AS(job_archive(job), ConfigError);
  job.arguments = {"true"};
  job.environment = {"NAME"};
  CHECK_THROWS_AS(job_archive(job), ConfigError);
  job.environment = {"=value"};
  CHECK_THROWS_AS(job_archive(job), ConfigError);
  job.environment = {"NAME="};
  CHECK_NOTHROW(job_archive(job));
}

TEST_CASE("the embedded init is a static executable below 1 MiB") {
  REQUIRE(guest_init().size() > 4);
  CHECK(std::memcmp(guest_init().data(), "\177ELF", 4) == 0);
  CHECK(guest_init().size() < 1024 * 1024);
}

}  // namespace hum
