// SPDX-License-Identifier: Apache-2.0
//
// The disk of the store refuses each of its writes and syncs in turn, once or until somebody makes room. A
// client gets an error or its answer, and what it asked for is whole or not there; the daemon goes on.
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/humd/crash_lives_testing.h"
#include "tools/humd/sqlite_faults_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using std::chrono::steady_clock;

struct Fault {
  FaultyDisk::Refused what;
  unsigned n;  // 0: none
  bool lasting;
};

// A daemon on a disk with a fault, and its one client. It begins with the store of a daemon whose host was
// restarted.
class FaultyLife {
 public:
  FaultyLife(const fs::path& store, const Fault& fault) : fault_(fault) {
    fs::copy_file(store, place_.folders().store());
    if (fault.n != 0) disk_.refuse(fault.what, fault.n, fault.lasting);
    start_daemon();
    context_->restart();
    boost::asio::co_spawn(*context_, live(), [this](const std::exception_ptr& error) {
      failure_ = error;
      has_ended_ = true;
    });
  }

  bool has_ended() const { return has_ended_; }
  void poll() { context_->poll(); }
  bool was_refused() const { return was_refused_ || disk_.has_refused(); }

  void check() {
    INFO((fault_.what == FaultyDisk::Refused::write ? "write " : "sync ")
         << fault_.n << " was refused" << (fault_.lasting ? ", and all after it" : "") << "\n"
         << said_);
    std::string wrong;
    try {
      if (failure_) std::rethrow_exception(failure_);
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    CHECK(wrong == "");
    stop_daemon();
    CHECK(place_.untidy({}, {}) == "");
    Database database(place_.folders().store());
    Query sound = database.query("PRAGMA integrity_check");
    REQUIRE(sound.next());
    CHECK(sound.text(0) == "ok");
    Query left = database.query("SELECT count(*) FROM operation WHERE state = 'running'");
    REQUIRE(left.next());
    CHECK(left.number(0) == 0);
  }

 private:
  void say(const std::string& line) { said_ += line + "\n"; }

  void make_room() {
    was_refused_ = was_refused_ || disk_.has_refused();
    disk_.make_room();
  }

  void stop_daemon() {
    manager_.reset();
    context_.reset();
  }

  // One that cannot start says so, and is started again when there is room.
  void start_daemon() {
    for (;;) {
      try {
        context_ = std::make_unique<boost::asio::io_context>(1);
        ManagerSettings settings = place_.settings();
        settings.vfs = disk_.name();
        manager_ = std::make_unique<Manager>(*context_, settings);
        run_coroutine(*context_, manager_->recover());
        return;
      } catch (const StoreError& error) {
        say(std::string("no start: ") + error.what());
        if (!disk_.has_refused()) throw;
        stop_daemon();
        make_room();
      }
    }
  }

  std::int64_t last_operation() {
    const std::vector<Operation> found = manager_->journal().list(0, 1, {});
    return found.empty() ? 0 : found.front().id;
  }

  // Asks until it is begun, and makes room when it is refused or takes its time.
  Task<> carry_out(std::string what, std::function<Task<Operation>()> begin) {
    std::int64_t id = 0;
    while (id == 0) {
      const std::int64_t last = last_operation();
      std::string refusal;
      try {
        id = (co_await begin()).id;
      } catch (const StoreError& error) {
        refusal = error.what();
      }
      if (refusal.empty()) break;
      say(what + ": " + refusal);
      if (!disk_.has_refused()) throw std::runtime_error(what + " was refused without a reason");
      // What could not be synced is begun; what could not be written is not.
      if (last_operation() != last) id = last_operation();
      if (id != 0 && fault_.what == FaultyDisk::Refused::write)
        throw std::runtime_error(what + " was refused and is begun");
      make_room();
    }
    auto deadline = steady_clock::now() + std::chrono::milliseconds(30);
    Operation operation;
    operation.state = Operation::State::running;
    for (int tries = 0; operation.state == Operation::State::running && tries < 3; ++tries) {
      try {
        operation = co_await manager_->wait_for(id, deadline);
      } catch (const StoreError& error) {
        say(what + ", waiting: " + error.what());
      }
      if (tries == 0 && operation.state == Operation::State::running) make_room();
      deadline = steady_clock::now() + std::chrono::seconds(10);
    }
    say(what + ": " + std::string(to_string(operation.state)));
    if (operation.state != Operation::State::done)
      throw std::runtime_error(what + " is " + std::string(to_string(operation.state)) + " " +
                               (operation.failure ? operation.failure->text : ""));
  }

  Task<> make(VmSpec spec) {
    const std::string name = spec.name();
    std::function<Task<Operation>()> begin = [this, spec]() -> Task<Operation> {
      Caller caller;
      co_return co_await manager_->create(spec, std::move(caller), false);
    };
    co_await carry_out("create " + name, begin);
  }

  Task<> change(std::string name, std::string kind, std::string arguments = "{}") {
    std::function<Task<Operation>()> begin = [this, name, kind, arguments]() -> Task<Operation> {
      Caller caller;
      const auto row = manager_->vms().find(name);
      if (!row) throw std::runtime_error(name + " is not there");
      co_return co_await manager_->begin(kind, *row, std::move(caller), arguments);
    };
    co_await carry_out(kind + " " + name, begin);
  }

  Task<> rename(std::string from, std::string to) {
    for (int tries = 0; tries < 2; ++tries) {
      const auto row = manager_->vms().find(from);
      if (!row) co_return;  // it could not be synced
      std::string refusal;
      try {
        co_await manager_->update(*row, fake_vm(to));
      } catch (const StoreError& error) {
        refusal = error.what();
      }
      if (refusal.empty()) co_return;
      say("rename: " + refusal);
      make_room();
    }
  }

  void expect(const std::string& name, VmState state) {
    const auto row = manager_->vms().find(name);
    const std::string found = row ? std::string(to_string(row->state)) : "not there";
    if (found != to_string(state)) throw std::runtime_error(name + " is " + found);
  }

  // What it does by itself has to wait for room, too.
  Task<> settled() {
    while (is_busy(*manager_) && !disk_.has_refused())
      co_await manager_->wait_for_change(steady_clock::now() + std::chrono::milliseconds(20));
    if (disk_.has_refused()) {
      co_await manager_->wait_for_change(steady_clock::now() + std::chrono::milliseconds(50));
      make_room();
    }
    co_await settle(*manager_);
  }

  Task<> live() {
    bound_log(*manager_);
    co_await settled();
    expect("keeper", VmState::running);
    expect("lost", VmState::stopped);
    co_await make(fake_vm("web"));
    expect("web", VmState::stopped);
    co_await change("web", "start");
    expect("web", VmState::running);
    co_await make(fake_vm("job", "fake=exit-code:3", R"({"restart": "on-failure", "most_restarts": 1})"));
    co_await change("job", "start");
    co_await settled();
    expect("job", VmState::stopped);
    co_await rename("web", "site");
    expect("site", VmState::running);
    co_await change("site", "stop", R"({"timeout_ms": 30})");
    expect("site", VmState::stopped);
    for (const char* const name : {"site", "job", "lost", "keeper"})
      co_await change(name, "delete", R"({"force": true})");
    co_await settled();
    if (manager_->vms().count() != 0) throw std::runtime_error("a VM is left");
  }

  Fault fault_;
  DaemonPlace place_;
  FaultyDisk disk_;
  bool was_refused_ = false;
  std::unique_ptr<boost::asio::io_context> context_;
  std::unique_ptr<Manager> manager_;
  std::string said_;
  std::exception_ptr failure_;
  bool has_ended_ = false;
};

// Of a daemon with one VM that is to run again when the host has started, and one that is not.
void make_store(const fs::path& to) {
  const DaemonPlace place;
  {
    boost::asio::io_context context{1};
    ManagerSettings settings = place.settings();
    settings.boot_id = "another";
    Manager manager(context, settings);
    const Say say = [](const std::string&) {};
    const auto all = [&]() -> Task<> {
      co_await manager.recover();
      co_await create(manager, say, fake_vm("keeper", {}, R"({"restart": "always"})"));
      co_await create(manager, say, fake_vm("lost"));
      for (const char* const name : {"keeper", "lost"}) co_await act(manager, say, name, "start");
    };
    run_coroutine(context, all());
  }
  fs::copy_file(place.folders().store(), to);
}

// Several at a time, as they wait most of theirs. How often it was refused.
unsigned refuse_everywhere(FaultyDisk::Refused what, bool lasting) {
  constexpr unsigned at_once = 24;
  const testing::TemporaryFolder folder;
  const fs::path store = folder / "store";
  make_store(store);
  unsigned refused = 0;
  for (unsigned next = 1, ends = 0; ends == 0;) {
    std::vector<std::unique_ptr<FaultyLife>> lives;
    for (; lives.size() < at_once; next += crash_stride)
      lives.push_back(std::make_unique<FaultyLife>(store, Fault{what, next, lasting}));
    const auto deadline = steady_clock::now() + std::chrono::seconds(60);
    const auto all_ended = [&] {
      return std::all_of(lives.begin(), lives.end(), [](const auto& each) { return each->has_ended(); });
    };
    while (!all_ended() && steady_clock::now() < deadline) {
      for (const auto& each : lives)
        if (!each->has_ended()) each->poll();
      ::usleep(500);
    }
    for (const auto& each : lives) {
      CHECK(each->has_ended());
      each->check();
      if (each->was_refused())
        ++refused;
      else
        ++ends;
    }
  }
  std::printf("count: %u %s of the store refused%s\n", refused,
              what == FaultyDisk::Refused::write ? "writes" : "syncs",
              lasting ? ", with all after them" : "");
  return refused;
}

}  // namespace

TEST_CASE("a write that the store's disk refuses once is an error of a client's request or done later") {
  CHECK(refuse_everywhere(FaultyDisk::Refused::write, false) >= 100 / crash_stride);
}

TEST_CASE("a disk that is full from any write on holds the daemon up until there is room") {
  CHECK(refuse_everywhere(FaultyDisk::Refused::write, true) >= 100 / crash_stride);
}

TEST_CASE("a sync that the store's disk refuses is an error of a client's request or done later") {
  CHECK(refuse_everywhere(FaultyDisk::Refused::sync, false) >= 10 / crash_stride);
  CHECK(refuse_everywhere(FaultyDisk::Refused::sync, true) >= 10 / crash_stride);
}

}  // namespace hum
