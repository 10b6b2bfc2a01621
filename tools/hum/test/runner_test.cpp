// SPDX-License-Identifier: Apache-2.0
// The runner with real images on KVM, and with programs that fail in its stead.
#include "tools/hum/test/runner.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "tools/hum/test/child.h"
#include "tools/hum/test/text.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  WARN("skipped: /dev/kvm cannot be opened");
  return true;
}

// A folder with programs that can take hum's place; removed at the end.
struct Folder : hum::testing::TemporaryFolder {
  std::string program(const std::string& name, const std::string& script) const {
    const std::string file = *this / name;
    write_text_file(file, "#!/bin/sh\n" + script + "\n");
    fs::permissions(file, fs::perms::owner_all);
    return file;
  }
};

TestCase test_of(const std::string& image, const std::string& arguments = {}, unsigned timeout = 60) {
  TestCase test;
  test.name = fs::path(image).stem().string() + arguments;
  test.image = image.find('/') == std::string::npos ? HUM_IMAGE_FOLDER "/" + image : image;
  if (!arguments.empty()) test.arguments = arguments;
  test.timeout = timeout;
  return test;
}

TestResult run_one(const TestCase& test, RunnerOptions options = {.program = HUM_PROGRAM}) {
  Runner runner(std::move(options), {});
  auto results = runner.run({test});
  REQUIRE(results.size() == 1);
  return results.front();
}

// What has ended and was not waited for has no command line any more.
bool is_alive(const std::string& process) {
  const std::string path = "/proc/" + process + "/cmdline";
  return fs::exists(path) && !read_text_file(path).empty();
}

}  // namespace

TEST_CASE("one failure of each kind is told apart from the others") {
  if (no_kvm()) return;
  const Folder folder;
  const std::string text = folder / "text.elf";
  write_text_file(text, std::string(10'000, 't'));
  CHECK(run_one(test_of("exit_code.elf", "exit=0")).status == Ending::pass);
  CHECK(run_one(test_of("exit_code.elf", "exit=77")).status == Ending::skip);
  const TestResult failed = run_one(test_of("exit_code.elf", "exit=3"));
  CHECK(failed.status == Ending::fail);
  CHECK(failed.outcome.exit_code == 3u);
  CHECK(failed.last_lines == std::vector<std::string>{"exit 3"});
  CHECK(run_one(test_of("hang.elf", "method=busy", 1)).status == Ending::timeout);
  CHECK(run_one(test_of("triple_fault.elf")).status == Ending::triple_fault);
  CHECK(run_one(test_of("unbacked_fetch.elf")).status == Ending::kvm_error);
  CHECK(run_one(test_of(text)).status == Ending::invalid);
  CHECK(run_one(test_of(folder / "missing.elf")).status == Ending::invalid);
  CHECK(run_one(test_of(folder.path())).status == Ending::invalid);
}

TEST_CASE("hum's own failures are no failures of the image") {
  const Folder folder;
  const auto status_with = [&](const std::string& name, const std::string& script) {
    return run_one(test_of("exit_code.elf"), {.program = folder.program(name, script)});
  };
  const TestResult killed = status_with("killed", "kill -SEGV $$");
  CHECK(killed.status == Ending::vmm_error);
  CHECK(killed.outcome.detail == "hum was ended by SIGSEGV");
  CHECK(status_with("silent", "exit 0").status == Ending::vmm_error);
  CHECK(status_with(
            "liar",
            "for a; do case $a in --record=*) echo '{\"cause\": \"debug-exit\", \"guest_exit_code\": 0}'"
            " > ${a#*=};; esac; done; exit 9")
            .outcome.detail == "the record says debug-exit, but the exit code is 9");
  CHECK(run_one(test_of("exit_code.elf"), {.program = folder / "none"}).status == Ending::vmm_error);
}

TEST_CASE("an image that disappears during the run is invalid from then on") {
  if (no_kvm()) return;
  const Folder folder;
  const std::string image = folder / "image.elf";
  fs::copy_file(HUM_IMAGE_FOLDER "/exit_code.elf", image);
  std::vector<Ending> statuses;
  RunObserver observer;
  observer.finished = [&](const TestResult& result) {
    statuses.push_back(result.status);
    fs::remove(image);
  };
  Runner runner({.program = HUM_PROGRAM}, observer);
  runner.run({test_of(image, "exit=0"), test_of(image, "exit=0 again")});
  CHECK(statuses == std::vector<Ending>{Ending::pass, Ending::invalid});
}

TEST_CASE("text without end is kept bounded, its beginning and its end") {
  const Folder folder;
  const std::string program =
      folder.program("printer", "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last");
  run_one(test_of("exit_code.elf"), {.program = program, .output = folder / "kept"});
  const std::string text = read_text_file(folder / "kept/exit_code.txt");
  CHECK(text.size() < (1 << 20) + 100);
  CHECK(text.size() > 1 << 20);
  CHECK(text.starts_with("first\nxxx"));
  CHECK(text.ends_with("xxx\nlast\n"));
  CHECK(text.find(" bytes left out]") != std::string::npos);
}

TEST_CASE("text and record of an image are kept under its name") {
  if (no_kvm()) return;
  const Folder folder;
  TestCase test = test_of("exit_code.elf", "exit=0");
  test.name = "exit/pci";
  run_one(test, {.program = HUM_PROGRAM, .output = folder / "new/kept"});
  CHECK(read_text_file(folder / "new/kept/exit_pci.txt") == "exit 0\r\n");
  CHECK(read_text_file(folder / "new/kept/exit_pci.json").find("debug-exit") != std::string::npos);
}

TEST_CASE(
    "no more images run at a time than there are jobs, and a failure ends a run that is to end with one") {
  const Folder folder;
  const std::string program = folder.program("quick", "exit 2");
  std::vector<TestCase> tests;
  for (int i = 0; i < 8; ++i) tests.push_back(test_of("image" + std::to_string(i) + ".elf"));
  unsigned running = 0;
  unsigned most = 0;
  RunObserver observer;
  observer.started = [&](const TestCase&) { most = std::max(most, ++running); };
  observer.finished = [&](const TestResult&) { --running; };
  CHECK(Runner({.program = program, .jobs = 3}, observer).run(tests).size() == 8);
  CHECK(most == 3);
  CHECK(Runner({.program = program, .until_fail = true}, {}).run(tests).size() == 1);
}

TEST_CASE("a test with a reason against it is skipped and nothing is run for it") {
  TestCase test = test_of("exit_code.elf");
  test.skip = "not here";
  const TestResult result = run_one(test, {.program = "/nonexistent"});
  CHECK(result.status == Ending::skip);
  CHECK(result.reason() == "not here");
}

TEST_CASE("an interrupt ends every VM at once, and what was known by then is returned") {
  const Folder folder;
  const std::string program = folder.program("sleeper", "echo $$ >> " + folder / "pids; exec sleep 1000");
  std::vector<TestCase> tests;
  for (int i = 0; i < 4; ++i) tests.push_back(test_of("image" + std::to_string(i) + ".elf", "", 2000));
  const pid_t runner_process = ::fork();
  REQUIRE(runner_process >= 0);
  if (runner_process == 0) {
    bool good = false;
    {
      Runner runner({.program = program, .jobs = 2}, {});
      const auto results = runner.run(tests);
      good = runner.interrupted() && results.size() == 2 && results[0].status == Ending::interrupted &&
             results[1].status == Ending::interrupted;
    }
    ::_exit(good ? 0 : 1);
  }
  const auto lines = [&] {
    return fs::exists(folder / "pids") ? last_lines(read_text_file(folder / "pids"), 9).size() : 0;
  };
  for (int i = 0; i < 20'000 && lines() < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(lines() == 2);
  ::kill(runner_process, SIGINT);
  int status = 0;
  ::waitpid(runner_process, &status, 0);
  CHECK(status == 0);
  for (const std::string& line : last_lines(read_text_file(folder / "pids"), 9)) CHECK_FALSE(is_alive(line));
}

TEST_CASE("images end with their runner, even where it is killed") {
  const Folder folder;
  const std::string program = folder.program("sleeper", "echo $$ > " + folder / "pid; exec sleep 1000");
  const pid_t runner_process = ::fork();
  REQUIRE(runner_process >= 0);
  if (runner_process == 0) {
    const Child child(program, {"sleeper"}, "");
    ::pause();
    ::_exit(0);
  }
  std::string pid;
  for (int i = 0; i < 20'000 && !pid.ends_with('\n'); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (fs::exists(folder / "pid")) pid = read_text_file(folder / "pid");
  }
  REQUIRE(pid.ends_with('\n'));
  pid.pop_back();
  ::kill(runner_process, SIGKILL);
  ::waitpid(runner_process, nullptr, 0);
  for (int i = 0; i < 20'000 && is_alive(pid); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_FALSE(is_alive(pid));
}

TEST_CASE("what is typed reaches the process, and without it the input is at its end") {
  const Folder folder;
  const std::string program = folder.program("echo", "cat; exit 2");
  TestCase test = test_of("exit_code.elf");
  test.input = "hello\n";
  CHECK(run_one(test, {.program = program}).last_lines == std::vector<std::string>{"hello"});
  test.input.clear();
  CHECK(run_one(test, {.program = program}).last_lines.empty());
}

}  // namespace hum
