// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/crash_lives_testing.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "tools/humd/api.h"
#include "tools/humd/api_error.h"
#include "tools/humd/files.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds patience{20};
constexpr int most_told = 1000;

// Until a client is told how it has ended.
Task<> wait_for_end(Manager& manager, const Say& say, std::int64_t id) {
  const Operation operation = co_await manager.wait_for(id, steady_clock::now() + patience);
  if (operation.state != Operation::State::running)
    say("ended " + std::to_string(id) + " " + std::string(to_string(operation.state)));
}

}  // namespace

Task<> act(Manager& manager, const Say& say, std::string name, std::string kind, std::string arguments) {
  const auto row = manager.vms().find(name);
  if (!row) co_return;
  Caller caller;
  Operation operation;
  try {
    operation = co_await manager.begin(kind, *row, std::move(caller), std::move(arguments));
  } catch (const ApiError&) {  // it has ended by itself meanwhile
    co_return;
  }
  say("begun " + kind + " " + name);
  co_await wait_for_end(manager, say, operation.id);
}

Task<> create(Manager& manager, const Say& say, VmSpec spec) {
  const std::string name = spec.name();
  Caller caller;
  const Operation operation = co_await manager.create(std::move(spec), std::move(caller), false);
  say("created " + name);
  co_await wait_for_end(manager, say, operation.id);
}

bool is_busy(Manager& manager) {
  if (!manager.has_begun_with_host()) return true;
  if (!manager.journal().open().empty() || !manager.vms().due_restarts(wall_clock() + 0.5).empty())
    return true;
  const std::vector<VmRow> vms = manager.vms().list({});
  return std::any_of(vms.begin(), vms.end(),
                     [&](const VmRow& vm) { return vm.process && manager.live().has_ended(vm.id); });
}

Task<> settle(Manager& manager) {
  const auto deadline = steady_clock::now() + std::chrono::seconds(30);
  for (;;) {
    if (!is_busy(manager)) co_return;
    if (steady_clock::now() > deadline) throw std::runtime_error("it does not settle");
    co_await manager.wait_for_change(std::min(deadline, steady_clock::now() + std::chrono::milliseconds(20)));
  }
}

Task<ApiAnswer> ask(Manager& manager, std::string method, std::string path, std::string query,
                    std::string body) {
  struct Outcome {
    Notifier ended;
    std::optional<ApiAnswer> answer;
  };
  const auto outcome = std::make_shared<Outcome>();
  boost::asio::io_context& context = manager.context();
  Api api(context, manager);
  ApiRequest asked;
  asked.method = std::move(method);
  asked.path = std::move(path);
  asked.query = std::move(query);
  asked.body = std::move(body);
  asked.peer = ::geteuid();
  api.handle(std::move(asked), [outcome](std::optional<ApiAnswer> answer) {
    outcome->answer = std::move(answer);
    outcome->ended.notify_all();
  });
  while (!outcome->answer) co_await outcome->ended.wait_until();
  co_return std::move(*outcome->answer);
}

Task<> request(Manager& manager, const Say& say, std::string method, std::string path, std::string body) {
  const std::string removed =
      method == "DELETE" ? path.substr(4, path.find('/', 4) - 5) + " " + path.substr(path.rfind('/') + 1)
                         : "";
  if (!removed.empty()) say("removing " + removed);
  const ApiAnswer answer =
      co_await ask(manager, std::move(method), std::move(path), "wait_s=20", std::move(body));
  const nlohmann::json told = nlohmann::json::parse(answer.body, nullptr, false);
  if (answer.status != 200 || told.value("state", "") != "done") {
    say("wrong: " + answer.body);
    co_return;
  }
  say("ended " + std::to_string(told["id"].get<std::int64_t>()) + " done");
  if (removed.empty())
    say("made " + told["type"].get<std::string>() + " " + told["object"].get<std::string>());
}

namespace {

// Tells where it is at each moment, and ends the process at one of them (0: at none).
Journal::Observer killer(const Say& say, unsigned at) {
  auto count = std::make_shared<unsigned>(0);
  return [&say, at, count](const Operation& operation, std::string_view step, JournalMoment moment) {
    constexpr const char* words[] = {"entered", "acted", "finished"};
    say("at " + operation.kind + "/" + (operation.undoing ? "undo " : "") + std::string(step) + " " +
        words[static_cast<std::size_t>(moment)]);
    if (++*count == at) ::raise(SIGKILL);
  };
}

std::vector<std::string> live(const DaemonPlace& place, const Scenario& scenario, unsigned kill_at) {
  return in_child([&](const Say& say) {
    boost::asio::io_context context{1};
    Manager manager(context, place.settings(), killer(say, kill_at));
    const auto all = [&]() -> Task<> {
      co_await manager.recover();
      co_await scenario.run(manager, say);
    };
    run_coroutine(context, all());
    say("end");
  });
}

// The folders of disks have what the store knows, and nothing else.
std::string untidy_disks(Manager& manager, const DaemonPlace& place) {
  const std::vector<std::int64_t> known = manager.volumes().all();
  const std::vector<std::int64_t> found = numbers_in(place.folders().volumes());
  if (std::set<std::int64_t>(known.begin(), known.end()) !=
      std::set<std::int64_t>(found.begin(), found.end()))
    return "the volumes' folders are not the volumes'";
  std::size_t contents = 0;
  if (std::filesystem::exists(place.folders().images()))
    for (const auto& each : std::filesystem::directory_iterator(place.folders().images())) {
      if (each.path().filename() != "staging") ++contents;
      if (each.path().filename() == "staging" && !std::filesystem::is_empty(each.path()))
        return "something is left of an import";
    }
  if (contents != manager.images().contents().size()) return "the images' folders are not the images'";
  return {};
}

}  // namespace

std::string trouble(Manager& manager, const DaemonPlace& place) {
  std::set<std::int64_t> vms;
  std::set<std::int64_t> running;
  for (const VmRow& vm : manager.vms().list({})) {
    vms.insert(vm.id);
    if (vm.state == VmState::running || vm.state == VmState::paused) running.insert(vm.id);
    if (vm.state != VmState::stopped && !running.contains(vm.id))
      return vm.name + " is " + std::string(to_string(vm.state));
    if (running.contains(vm.id) != vm.process.has_value()) return vm.name + " and its process";
  }
  if (const std::string why = place.untidy(vms, running); !why.empty()) return why;
  for (const std::int64_t id : manager.cgroups().vms())
    if (!running.contains(id)) return "there are cgroups of a VM that does not run";
  for (const ImageRow& image : manager.images().list({}))
    if (image.state != ObjectState::ready) return "the image " + image.name + " is not ready";
  for (const std::int64_t id : manager.volumes().all())
    if (manager.volumes().find(id)->state != ObjectState::ready) return "a volume is not ready";
  for (const NetworkRow& network : manager.networks().list({}))
    if (network.state != ObjectState::ready) return "the network " + network.spec.name + " is not ready";
  return untidy_disks(manager, place);
}

namespace {}  // namespace

std::vector<std::string> recover(const DaemonPlace& place, unsigned kill_at) {
  return in_child([&](const Say& say) {
    boost::asio::io_context context{1};
    Manager manager(context, place.settings(), killer(say, kill_at));
    const auto all = [&]() -> Task<> {
      co_await manager.recover();
      // A VM may end by itself between two looks.
      std::string wrong = "nothing";
      for (int tries = 0; tries < 50 && !wrong.empty(); ++tries) {
        co_await settle(manager);
        wrong = trouble(manager, place);
        if (!wrong.empty())
          co_await manager.wait_for_change(steady_clock::now() + std::chrono::milliseconds(20));
      }
      if (!wrong.empty()) say("wrong: " + wrong);
      for (const VmRow& vm : manager.vms().list({}))
        say("vm " + vm.name + " " + std::string(to_string(vm.state)));
      for (const ImageRow& image : manager.images().list({})) say("image " + image.name);
      for (const VolumeRow& volume : manager.volumes().list({})) say("volume " + volume.name);
      for (const NetworkRow& network : manager.networks().list({})) say("network " + network.spec.name);
      for (const Operation& each : manager.journal().list(0, most_told, {}))
        say("operation " + std::to_string(each.id) + " " + std::string(to_string(each.state)));
      for (const VmRow& vm : manager.vms().list({}))
        co_await act(manager, say, vm.name, "delete", R"({"force": true})");
      for (const VolumeRow& volume : manager.volumes().list({}))
        co_await request(manager, say, "DELETE", "/v1/volumes/" + volume.name, "");
      for (const ImageRow& image : manager.images().list({}))
        co_await request(manager, say, "DELETE", "/v1/images/" + image.name, "");
      for (const NetworkRow& network : manager.networks().list({}))
        co_await request(manager, say, "DELETE", "/v1/networks/" + network.spec.name, "");
      co_await settle(manager);
      if (manager.vms().count() != 0) say("wrong: a VM is left");
      if (const std::string why = trouble(manager, place); !why.empty()) say("wrong: at the end " + why);
      if (!manager.images().contents().empty()) say("wrong: an image's content is left");
    };
    run_coroutine(context, all());
    say("end");
  });
}

namespace {

bool has(const std::vector<std::string>& lines, const std::string& line) {
  return std::find(lines.begin(), lines.end(), line) != lines.end();
}

std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// What was promised to a client is there.
std::string broken_promise(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  for (const std::string& line : before) {
    // "made image base": by a request that was answered, with its operation done.
    if (line.starts_with("made ") && !has(after, line.substr(5)) &&
        !has(before, "removing " + line.substr(5)))
      return line + ", and it is not there";
    if (line.starts_with("ended ") && !has(after, "operation " + line.substr(6)))
      return "the operation " + line + ", and that is not known";
    const bool created = line.starts_with("created ");
    if (!created && !line.starts_with("deleted ")) continue;
    const std::string name = line.substr(8);
    const bool is_there = std::any_of(after.begin(), after.end(), [&](const std::string& each) {
      return each.starts_with("vm " + name + " ");
    });
    if (!created && is_there) return name + " was deleted and is there";
    if (!created) continue;
    const bool may_be_gone = has(before, "begun delete " + name) ||
                             std::any_of(before.begin(), before.end(), [](const std::string& each) {
                               return each.starts_with("at delete/");
                             });
    if (!is_there && !may_be_gone) return name + " was created and is not there";
  }
  return {};
}

}  // namespace

void check(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  INFO("the daemon that was killed:\n" << text_of(before) << "and the next:\n" << text_of(after));
  CHECK(has(after, "end"));
  CHECK(std::none_of(after.begin(), after.end(), [](const std::string& line) {
    return line.starts_with("wrong: ") || line.starts_with("exception: ");
  }));
  CHECK(broken_promise(before, after) == "");
}

namespace {

unsigned moments_in(const std::vector<std::string>& lines) {
  return static_cast<unsigned>(std::count_if(
      lines.begin(), lines.end(), [](const std::string& line) { return line.starts_with("at "); }));
}

bool is_long() {
  return std::getenv("HUM_LONG") != nullptr;
}

}  // namespace

unsigned kill_everywhere(const Scenario& scenario) {
  std::set<std::string> covered;
  unsigned points = 0;
  unsigned total = 0;
  {
    const DaemonPlace place;
    const std::vector<std::string> lines = live(place, scenario, 0);
    INFO(scenario.name << "\n" << text_of(lines));
    REQUIRE(has(lines, "end"));
    REQUIRE(std::none_of(lines.begin(), lines.end(),
                         [](const std::string& line) { return line.starts_with("wrong: "); }));
    REQUIRE(place.untidy({}, {}) == "");
    total = moments_in(lines);
  }
  for (unsigned at = 1; at <= total; at += crash_stride) {
    const DaemonPlace place;
    std::vector<std::string> before = live(place, scenario, at);
    for (const std::string& line : before)
      if (line.starts_with("at ")) covered.insert(line.substr(3));
    const unsigned first = 1 + at % 3;
    for (unsigned second = first; second <= (is_long() ? first + 6 : first); ++second) {
      for (std::string& line : recover(place, second)) before.push_back(std::move(line));
      ++points;
    }
    INFO(scenario.name << ", killed at moment " << at);
    check(before, recover(place, 0));
    reap_orphans();
    ++points;
  }
  std::printf("count: %u kills at %zu moments of operations' steps: %s\n", points, covered.size(),
              scenario.name);
  return points;
}

}  // namespace hum::testing
