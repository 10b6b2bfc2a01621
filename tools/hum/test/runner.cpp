// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/runner.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "tools/hum/test/child.h"
#include "tools/hum/test/text.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t serial_limit = 1 << 20;
constexpr std::size_t messages_limit = 64 << 10;
constexpr std::size_t lines_shown = 20;
constexpr unsigned overdue_seconds = 10;  // that hum has after the time-out it was given

sigset_t ending_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, signal);
  return set;
}

std::string make_folder() {
  std::string path = (std::filesystem::temp_directory_path() / "hum-test.XXXXXX").string();
  if (::mkdtemp(path.data()) == nullptr)
    throw HostError(errno, "make a folder for tests '" + path + "'",
                    "set TMPDIR to a folder that you can write");
  return path;
}

// Takes what a pipe has now; true at its end.
bool drain(int fd, BoundedText& text) {
  std::array<char, 65536> buffer;
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  if (count > 0) text.append({buffer.data(), static_cast<std::size_t>(count)});
  return count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN);
}

void drain_all(int fd, BoundedText& text) {
  std::uint64_t before = 0;
  do {
    before = text.size();
    if (drain(fd, text)) return;
  } while (text.size() != before);
}

std::string file_name(std::string test_name) {
  std::replace(test_name.begin(), test_name.end(), '/', '_');
  return test_name;
}

std::string read_if_there(const std::string& path) {
  try {
    return read_text_file(path);
  } catch (const std::exception&) {
    return {};
  }
}

}  // namespace

// An image that runs. Its descriptors are watched as long as it lives.
struct Runner::Job {
  EventLoop& loop;
  TestCase test;
  std::string record;
  std::vector<std::string> files;  // to be removed
  Clock::time_point begun = Clock::now();
  Child child;
  Timer overdue_timer;
  BoundedText serial{serial_limit};
  BoundedText messages{messages_limit};
  std::optional<ProcessEnd::By> killed;

  Job(EventLoop& its_loop, const std::string& program, const TestCase& its_test, const std::string& stem,
      const std::string& its_record)
      : loop(its_loop),
        test(its_test),
        record(its_record),
        files(write_test_files(test, stem)),
        child(program, run_arguments(test, stem, record), test.input) {}

  ~Job() {
    for (const int fd : {child.output(), child.messages(), child.end_fd(), overdue_timer.fd()})
      loop.unwatch(fd);
    for (const std::string& file : files) ::unlink(file.c_str());
  }

  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  void watch(int fd, BoundedText& text) {
    loop.watch(fd, EventLoop::Interest::readable, [this, fd, &text] {
      if (drain(fd, text)) loop.unwatch(fd);
    });
  }

  void watch_all(std::function<void()> ended) {
    watch(child.output(), serial);
    watch(child.messages(), messages);
    loop.watch(child.end_fd(), EventLoop::Interest::readable, std::move(ended));
    overdue_timer.set(std::chrono::seconds(test.timeout + overdue_seconds));
    loop.watch(overdue_timer.fd(), EventLoop::Interest::readable, [this] {
      loop.unwatch(overdue_timer.fd());
      kill(ProcessEnd::By::overdue);
    });
  }

  void kill(ProcessEnd::By reason) {
    killed = reason;
    child.kill();
  }
};

Runner::Runner(RunnerOptions options, RunObserver observer)
    : options_(std::move(options)), observer_(std::move(observer)), folder_(make_folder()) {
  if (!options_.output.empty()) {
    std::error_code error;
    std::filesystem::create_directories(options_.output, error);
    if (error) throw HostError(error.value(), "make the folder '" + options_.output + "'");
  }
  const sigset_t set = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw HostError(errno, "watch for signals");
}

Runner::~Runner() {
  jobs_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  const sigset_t set = ending_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

std::vector<TestResult> Runner::run(const std::vector<TestCase>& tests) {
  loop_.emplace();
  tests_ = &tests;
  next_ = 0;
  failed_ = false;
  results_.clear();
  loop_->watch(signals_.get(), EventLoop::Interest::readable, [this] { interrupt(); });
  start_more();
  loop_->run();
  jobs_.clear();
  return std::move(results_);
}

void Runner::start_more() {
  while (jobs_.size() < options_.jobs && next_ < tests_->size() && !interrupted_ &&
         !(failed_ && options_.until_fail)) {
    const TestCase& test = (*tests_)[next_++];
    if (test.skip.empty()) {
      start(test);
    } else {
      report({test, Ending::skip, {Ending::skip, {}, std::nullopt, {}}, 0, {}});
    }
  }
  if (jobs_.empty()) loop_->stop();
}

void Runner::start(const TestCase& test) {
  observer_.started(test);
  const std::string stem = folder_ + "/" + std::to_string(next_);
  const std::string kept = options_.output.empty() ? "" : options_.output + "/" + file_name(test.name);
  const std::string record = (kept.empty() ? stem : kept) + ".json";
  ::unlink(record.c_str());  // of an earlier run
  Job& job = *jobs_.emplace_back(std::make_unique<Job>(*loop_, options_.program, test, stem, record));
  if (kept.empty()) job.files.push_back(record);
  job.watch_all([this, &job] { finish(job); });
}

void Runner::finish(Job& job) {
  const std::chrono::duration<double> lived = Clock::now() - job.begun;
  drain_all(job.child.output(), job.serial);
  drain_all(job.child.messages(), job.messages);
  ProcessEnd end = job.child.reap();
  if (job.killed && end.by == ProcessEnd::By::signal) end.by = *job.killed;
  TestResult result{
      job.test, Ending::pass, judge(end, read_if_there(job.record), job.messages.text()), lived.count(), {}};
  result.status = status_of(result.outcome, job.test.expect);
  if (result.failed())
    result.last_lines = last_lines(clean_text(job.serial.text() + job.messages.text()), lines_shown);
  if (!options_.output.empty())
    write_text_file(options_.output + "/" + file_name(job.test.name) + ".txt",
                    job.serial.text() + job.messages.text());
  jobs_.remove_if([&](const std::unique_ptr<Job>& each) { return each.get() == &job; });
  report(std::move(result));
  start_more();
}

void Runner::report(TestResult result) {
  failed_ |= result.failed();
  observer_.finished(result);
  results_.push_back(std::move(result));
}

// Each child's end is then seen as usual.
void Runner::interrupt() {
  signalfd_siginfo ignored{};
  while (::read(signals_.get(), &ignored, sizeof ignored) > 0) {
  }
  interrupted_ = true;
  for (const std::unique_ptr<Job>& job : jobs_) job->kill(ProcessEnd::By::interrupt);
  if (jobs_.empty()) loop_->stop();
}

}  // namespace hum
