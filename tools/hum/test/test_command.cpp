// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/test_command.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include "tools/hum/exit_codes.h"
#include "tools/hum/terminal.h"
#include "tools/hum/test/progress.h"
#include "tools/hum/test/text.h"
#include "vmm/base/errors.h"
#include "vmm/kvm/probe.h"
#include "vmm/machine/vm_config.h"

namespace hum {
namespace {

constexpr int exit_failed = 1;
constexpr int exit_nothing_ran = static_cast<int>(skip_exit_code);
constexpr int exit_interrupted = 130;

constexpr const char* examples =
    "IMAGE is what 'hum run --kernel' boots, and it says how it went by the exit port 0xf4: 0 pass, 77 skip, "
    "else fail. A .flat image is one of kvm-unit-tests and gets the machine that these expect.\n\n"
    "Exit code: 0 all as expected, 1 something failed, 2 a wrong option or manifest, 77 nothing could run "
    "here, 130 interrupted.\n\n"
    "Examples:\n"
    "  hum test build/guest-tests                           every manifest of a folder\n"
    "  hum test guest-tests/virtio.toml --filter 'blk-*' --jobs 4 --output logs\n"
    "  hum test timer.elf smp.elf --cpus 4 --memory 1G --junit report.xml\n"
    "  hum test kvm-unit-tests/x86/unittests.cfg --filter vmexit --tap\n"
    "  hum test smp.elf --until-fail";

unsigned whole_number(const std::string& key, const std::string& text, std::uint64_t least,
                      std::uint64_t most) {
  const OptionSpec spec{
      .key = "", .type = OptionType::integer, .help = "", .minimum = least, .maximum = most};
  return static_cast<unsigned>(std::get<std::uint64_t>(parse_option(key, spec, text)));
}

// Why nothing can run here; empty if KVM is there.
std::string missing_kvm() {
  try {
    const Kvm kvm;
    return {};
  } catch (const std::exception& error) {
    return error.what();
  }
}

// Why tests with this need cannot run here; empty: they can.
std::string what_lacks_for(Need need) {
  switch (need) {
    case Need::nothing:
      break;
    case Need::lab:
      if (supervisor_nanoseconds_per_instruction(Kvm()) >= emulated_supervisor_nanoseconds)
        return "this KVM emulates kernel code; run it in the lab: tools/lab hum test ...";
      break;
    case Need::direct_io: {
      const std::string folder = std::filesystem::temp_directory_path();
      if (!Fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600)))
        return "'" + folder + "' has no direct I/O; set TMPDIR to a folder that has";
      break;
    }
  }
  return {};
}

void mark_what_cannot_run(std::vector<TestCase>& tests) {
  std::map<Need, std::string> lacking;
  for (TestCase& test : tests) {
    if (!test.skip.empty() || test.need == Need::nothing) continue;
    const auto known = lacking.find(test.need);
    test.skip = known != lacking.end() ? known->second
                                       : lacking.emplace(test.need, what_lacks_for(test.need)).first->second;
  }
}

std::size_t planned(const Suite& suite) {
  return suite.tests.size();
}

}  // namespace

TestCommand::TestCommand(CLI::App& app, int& exit_code) {
  app.add_option("paths", suite_.paths,
                 "images, manifests (*.toml), kvm-unit-tests' unittests.cfg, or folders of these")
      ->required()
      ->type_name("IMAGE|MANIFEST|DIR");
  const auto number = [&](const std::string& name, const std::string& help, std::uint64_t most, auto set) {
    std::string key = name.substr(name.find("--") + 2);
    return app
        .add_option_function<std::string>(
            name, [key, most, set](const std::string& text) { set(whole_number(key, text, 1, most)); }, help)
        ->type_name("N");
  };
  runner_.jobs = std::clamp(std::thread::hardware_concurrency(), 1u, 256u);
  app.add_option("-f,--filter", suite_.filters,
                 "only tests whose name or group is like this (*, ?, [...]); may be repeated")
      ->type_name("PATTERN")
      ->group("Choice");
  app.add_flag("--all", suite_.all, "the tests marked slow, too")->group("Choice");
  app.add_flag("--list", list_, "print the tests instead of running them")->group("Choice");
  number("-j,--jobs", "images at a time (default: one per processor)", 256, [this](unsigned n) {
    runner_.jobs = n;
  })->group("Run");
  number("--repeat", "run each test so often", 1'000'000, [this](unsigned n) {
    suite_.repeat = n;
    repeat_given_ = true;
  })->group("Run");
  app.add_flag("--until-fail", runner_.until_fail,
               "run the tests again and again until one fails, with --repeat so often at most")
      ->group("Run");
  number("--timeout", "seconds for each image, instead of its own (default 30)", 86'400,
         [this](unsigned n) { suite_.timeout = n; })
      ->type_name("SECONDS")
      ->group("Run");
  app.add_option("--arguments", suite_.arguments, "the command line of images that are named by themselves")
      ->type_name("TEXT")
      ->group("Machine, in place of what each test asks for");
  for (const OptionSpec& spec : machine_options()) {
    const std::string key(spec.key);
    const std::string flags = (key == "cpus" ? "-c," : key == "memory" ? "-m," : "") + ("--" + key);
    app.add_option_function<std::string>(
           flags,
           [this, key](const std::string& text) {
             VmConfig().set(key, text);  // so that a wrong one is told once, now
             suite_.machine[key] = text;
           },
           std::string(spec.help) + " (" + describe_accepted(spec) + ")")
        ->type_name("VALUE")
        ->group("Machine, in place of what each test asks for");
  }
  app.add_option("-o,--output", runner_.output, "keep each image's serial text and record in this folder")
      ->type_name("DIR")
      ->group("Reports");
  app.add_flag("--tap", tap_, "write TAP version 14 to standard output")->group("Reports");
  app.add_option("--junit", junit_, "write a JUnit XML report")->type_name("FILE")->group("Reports");
  app.add_option("--json", json_, "write a JSON report")->type_name("FILE")->group("Reports");
  app.add_flag("-q,--quiet", quiet_, "tell only of what fails, and the count")->group("Reports");
  app.footer(examples);
  app.callback([this, &exit_code] { exit_code = execute(); });
}

int TestCommand::execute() {
  Suite suite = load_suite([this] {
    SuiteOptions options = suite_;
    if (runner_.until_fail) options.repeat = 1;
    return options;
  }());
  if (list_) return list(suite);
  // A report that cannot be written is told before the work.
  for (const std::string& path : {junit_, json_})
    if (!path.empty()) write_text_file(path, "");
  if (const std::string missing = missing_kvm(); !missing.empty()) {
    if (tap_) std::printf("TAP version 14\n1..0 # SKIP %s\n", missing.c_str());
    for (TestCase& test : suite.tests) test.skip = missing;
    RunSummary run{.results = {}, .planned = planned(suite), .slow_left_out = suite.slow_left_out};
    for (const TestCase& test : suite.tests)
      run.results.push_back({test, Ending::skip, {Ending::skip, {}, std::nullopt, {}}, 0, {}});
    write_reports(run);
    std::fprintf(stderr, "skipped: nothing can run here: %s\n", missing.c_str());
    return exit_nothing_ran;
  }
  mark_what_cannot_run(suite.tests);
  return run_rounds(std::move(suite));
}

int TestCommand::list(const Suite& suite) const {
  for (const TestCase& test : suite.tests) {
    std::string groups;
    for (const std::string& group : test.groups) groups += (groups.empty() ? "" : ",") + group;
    std::printf("%-40s %-20s %s%s\n", test.name.c_str(), groups.c_str(), test.what.c_str(),
                test.skip.empty() ? "" : (" (skipped: " + test.skip + ")").c_str());
  }
  return exit_ok;
}

// Without --until-fail there is one round, whatever --repeat says: the suite has each test so often.
int TestCommand::run_rounds(Suite suite) {
  const unsigned rounds = !runner_.until_fail ? 1 : repeat_given_ ? suite_.repeat : UINT32_MAX;
  RunSummary run;
  for (unsigned round = 1; round <= rounds; ++round) {
    if (rounds > 1) std::fprintf(stderr, "round %u\n", round);
    run = run_once(suite);
    if (run.interrupted || run.failed() != 0) break;
  }
  write_reports(run);
  for (const TestResult& result : run.results)
    if (result.status == Ending::skip)
      std::fprintf(stderr, "skipped: %s: %s\n", clean_text(result.test.name).c_str(),
                   result.reason().c_str());
  std::fprintf(stderr, "count: %s\n", summary_line(run).c_str());
  if (run.interrupted) return exit_interrupted;
  if (run.failed() != 0) return exit_failed;
  return run.count(Ending::skip) == run.planned ? exit_nothing_ran : exit_ok;
}

RunSummary TestCommand::run_once(const Suite& suite) {
  const auto size = terminal_size(STDERR_FILENO);
  Progress progress(STDERR_FILENO, planned(suite), size ? std::max(size->second, 20u) : 0, quiet_);
  std::size_t number = 0;
  const auto print = [](const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  };
  RunObserver observer;
  observer.started = [&](const TestCase& test) { progress.started(test); };
  observer.finished = [&](const TestResult& result) {
    progress.finished(result);
    if (tap_) print(tap_point(result, ++number));
  };
  if (tap_) print(tap_head(planned(suite)));
  Runner runner(runner_, observer);
  const auto begun = std::chrono::steady_clock::now();
  RunSummary run{
      .results = runner.run(suite.tests), .planned = planned(suite), .slow_left_out = suite.slow_left_out};
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  run.interrupted = runner.interrupted();
  run.jobs = runner_.jobs;
  if (tap_) print(tap_end(run));
  return run;
}

void TestCommand::write_reports(const RunSummary& run) const {
  if (!junit_.empty()) write_text_file(junit_, junit_report(run));
  if (!json_.empty()) write_text_file(json_, json_report(run));
}

}  // namespace hum
