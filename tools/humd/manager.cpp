// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/manager.h"

#include <time.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/humd/api_error.h"
#include "tools/humd/files.h"
#include "tools/humd/sha256.h"
#include "tools/humd/vm_resources.h"
#include "tools/humd/workflows.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;
using std::chrono::steady_clock;

constexpr std::chrono::milliseconds record_pause{5};
constexpr std::chrono::seconds record_patience{5};  // for a VMM that has begun to say who it is
constexpr int operations_kept = 10'000;
constexpr std::size_t longest_key = 255;
constexpr std::size_t most_log = 1024UL * 1024;

ObjectRef vm_ref(std::int64_t id) {
  return {.type = ObjectType::vm, .id = id};
}

ObjectRef object_of(const Operation& operation) {
  return {.type = operation.type, .id = operation.object};
}

// Seconds, also those that the host slept.
double time_since_boot() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

void check_key(const Caller& caller) {
  if (caller.key.size() > longest_key)
    throw ConfigError("Idempotency-Key", caller.key.substr(0, 64), "too long", "give up to 255 characters");
}

}  // namespace

Manager::Manager(boost::asio::io_context& context, ManagerSettings settings, Journal::Observer observer)
    : context_(context),
      settings_(std::move(settings)),
      capacity_(host_capacity(settings_.share)),
      store_(context, settings_.folders.store(), settings_.vfs),
      journal_(store_, std::move(observer)),
      vms_(store_),
      images_(store_),
      volumes_(store_),
      networks_(store_),
      projects_(store_),
      image_files_(settings_.folders.images()),
      volume_files_(settings_.folders.volumes(), image_files_),
      live_(
          context, [this](std::int64_t id) { on_end(id); },
          [this](std::int64_t id) {
            if (const auto run = runs_.find(vm_ref(id)); run != runs_.end())
              run->second->changed.notify_all();
          }),
      passts_(context, [this](std::int64_t id) { passts_.remove(id); }),
      background_(context) {}

Manager::~Manager() {
  for (const auto& [object, run] : runs_) run->stop_work = true;
}

NetworkHost& Manager::network_host() {
  if (network_host_) return *network_host_;
  if (::geteuid() != 0)
    throw ConfigError("network", "", "only root can make networks on this host",
                      "give a VM the network '" + std::string(user_network) + "', which needs no root");
  network_host_ = std::make_unique<NetworkHost>(
      NetworkHostSettings{.folder = folders().networks(), .instance = meta("instance")}, log_);
  return *network_host_;
}

VmCgroups& Manager::cgroups() {
  if (!cgroups_) cgroups_ = std::make_unique<VmCgroups>(CgroupPlace::here(meta("instance"), folders().state));
  return *cgroups_;
}

void Manager::hold_to(std::int64_t vm, const VmLimits& limits) {
  const VmmProcess* const process = live_.find(vm);
  if (process == nullptr) return;
  cgroups().make(vm, limits);
  cgroups().enter(vm, process->identity().pid);
}

void Manager::tell(std::string_view type, const nlohmann::json& data) {
  changed_.notify_all();
  if (sink_) sink_(type, data);
}

// --- operations ---

std::optional<Operation> Manager::asked_before(const Caller& caller) {
  if (caller.key.empty()) return {};
  Query row = store_.database().query("SELECT digest, operation FROM request WHERE owner = ? AND key = ?",
                                      {static_cast<std::int64_t>(caller.user), caller.key});
  if (!row.next()) return {};
  if (row.text(0) != sha256_of(caller.what))
    throw ApiError(422, "key-reused",
                   "the Idempotency-Key '" + caller.key.substr(0, 64) +
                       "' was given with another request; give a new one");
  return journal_.find(row.number(1));
}

Operation Manager::begin_operation(Operation operation, const Caller& caller) {
  journal_.begin(operation);
  if (!caller.key.empty())
    store_.database().execute("INSERT OR REPLACE INTO request VALUES (?, ?, ?, ?, ?)",
                              {static_cast<std::int64_t>(caller.user), caller.key, sha256_of(caller.what),
                               operation.id, operation.created});
  store_.commit();
  launch(operation);
  return operation;
}

Operation Manager::begin_by_itself(const std::string& kind, const VmRow& vm, const std::string& arguments) {
  Operation operation{
      .kind = kind, .object = vm.id, .object_name = vm.name, .owner = vm.owner, .arguments = arguments};
  const Transaction transaction(store_);
  return begin_operation(std::move(operation), {});
}

Task<Operation> Manager::begin_with(Operation operation, Caller caller, Prepare prepare) {
  {
    const Transaction transaction(store_);
    prepare(operation);
    operation = begin_operation(std::move(operation), caller);
  }
  co_await store_.synced();
  co_return operation;
}

Task<Operation> Manager::begin_on_object(Operation operation, Caller caller, Prepare prepare) {
  check_key(caller);
  if (auto before = asked_before(caller)) co_return std::move(*before);
  co_return co_await begin_with(std::move(operation), std::move(caller), std::move(prepare));
}

void Manager::expect_idle(const ObjectRef& object, const std::string& name) const {
  const auto busy = runs_.find(object);
  if (busy == runs_.end()) return;
  const std::string type(to_string(object.type));
  throw ApiError(409, type + "-busy",
                 "operation " + std::to_string(busy->second->operation.id) + " (" +
                     busy->second->operation.kind + ") on the " + type + " '" + name +
                     "' is under way; wait for it, or cancel it");
}

Task<Operation> Manager::create(VmSpec spec, Caller caller, bool start) {
  Operation operation{.kind = "create", .object_name = spec.name(), .owner = caller.user};
  operation.arguments = json{{"start", start}}.dump();
  const uid_t user = caller.user;
  Prepare prepare = [this, user, spec = std::move(spec)](Operation& creation) {
    expect_quota(*this, 0, spec);
    const std::string content = content_for(*this, spec, user);
    creation.object = vms_.insert(spec, user, content);
    give_own_disk(*this, creation.object, spec, user, content);
    bind_resources(*this, creation.object, spec, user);
  };
  co_return co_await begin_on_object(std::move(operation), std::move(caller), std::move(prepare));
}

Task<Operation> Manager::begin(std::string kind, VmRow vm, Caller caller, std::string arguments) {
  check_key(caller);
  if (auto before = asked_before(caller)) co_return std::move(*before);
  // What ends a VM whatever it is at does not wait for what is under way.
  const bool forced = kind == "kill" || (kind == "delete" && json::parse(arguments).value("force", false));
  if (const auto busy = runs_.find(vm_ref(vm.id)); busy != runs_.end()) {
    const std::shared_ptr<Run> run = busy->second;
    if (!forced) expect_idle(vm_ref(vm.id), vm.name);
    run->cancel();
    while (run->operation.state == Operation::State::running) co_await run->ended.wait_until();
  }
  const auto row = vms_.find(vm.id);
  if (!row) throw ApiError(404, "vm-not-found", "there is no VM '" + vm.name + "'");
  expect_idle(vm_ref(vm.id), vm.name);
  if (kind == "delete" && row->state != VmState::stopped && !forced)
    throw ApiError(409, "vm-running", "the VM '" + vm.name + "' runs; stop it first, or delete it by force");
  check_vm_state(kind, *row);
  if (kind == "start") {
    expect_room(*this, *row);
    expect_idle_volumes(*this, row->spec());
  }
  Operation operation{.kind = kind,
                      .object = row->id,
                      .object_name = row->name,
                      .owner = caller.user,
                      .arguments = arguments};
  Prepare nothing = [](Operation&) {};
  co_return co_await begin_with(std::move(operation), std::move(caller), std::move(nothing));
}

void Manager::change_limits(std::int64_t vm, const VmLimits& before, const VmLimits& after) {
  if (before == after) return;
  try {
    hold_to(vm, after);
  } catch (const HostError&) {
    hold_to(vm, before);
    throw;
  }
}

Task<VmRow> Manager::update(VmRow vm, VmSpec spec) {
  expect_idle(vm_ref(vm.id), vm.name);
  const VmSpec before = vm.spec();
  {
    const Transaction transaction(store_);
    expect_quota(*this, vm.id, spec);
    vms_.set_spec(vm.id, spec);
    bind_resources(*this, vm.id, spec, vm.owner);
    change_limits(vm.id, before.limits(), spec.limits());
    store_.commit();
  }
  reschedule();
  tell("vm.updated", {{"vm", spec.name()}, {"id", vm.id}});
  co_await store_.synced();
  auto row = vms_.find(vm.id);
  if (!row) throw ApiError(404, "vm-not-found", "the VM is not there any more");
  co_return std::move(*row);
}

void Manager::launch(const Operation& operation) {
  const auto run = std::make_shared<Run>(operation);
  const Workflow* const workflow = find_workflow(operation.type, operation.kind);
  run->is_final = workflow != nullptr && workflow->is_final;
  runs_[object_of(operation)] = run;
  boost::asio::co_spawn(context_, run_to_end(run), boost::asio::detached);
}

Task<> Manager::run_to_end(std::shared_ptr<Run> run) {
  const Workflow* const workflow = find_workflow(run->operation.type, run->operation.kind);
  if (workflow != nullptr) co_await carry_out(*this, journal_, store_, *workflow, *run);
  const Operation& operation = run->operation;
  runs_.erase(object_of(operation));
  run->ended.notify_all();
  if (!has_begun_with_host_) reschedule();
  json data = {{"operation", operation.id},
               {"kind", operation.kind},
               {std::string(to_string(operation.type)), operation.object_name},
               {"state", to_string(operation.state)}};
  if (operation.failure)
    data["error"] = {{"code", operation.failure->code}, {"message", operation.failure->text}};
  tell("operation.ended", data);
  const auto vm = operation.type == ObjectType::vm ? vms_.find(operation.object) : std::nullopt;
  if (!vm) co_return;
  // What came while the operation was under way, or before it went on.
  if (has_unnoticed_end(*vm)) on_end(vm->id);
  const bool created = operation.kind == "create" && operation.state == Operation::State::done;
  if (created && json::parse(operation.arguments).value("start", false) && !runs_.contains(vm_ref(vm->id))) {
    try {
      begin_by_itself("start", *vm, "{}");
    } catch (const StoreError&) {  // as if it had not been asked for; the VM is there
    }
  }
}

// A process that was not found again has ended, too.
bool Manager::has_unnoticed_end(const VmRow& vm) {
  return live_.has_ended(vm.id) && (vm.process || live_.find(vm.id) != nullptr);
}

void Manager::on_end(std::int64_t id) {
  if (is_recovering_) return;  // which looks at the end
  if (const auto run = runs_.find(vm_ref(id)); run != runs_.end()) return run->second->changed.notify_all();
  const auto vm = vms_.find(id);
  if (!vm) return live_.remove(id);
  try {
    begin_by_itself("end", *vm, "{}");
  } catch (const StoreError&) {
    // As soon as the store takes it.
    boost::asio::co_spawn(
        context_,
        [](Manager& manager, std::int64_t vm_id) -> Task<> {
          Notifier pause;
          co_await pause.wait_until(steady_clock::now() + std::chrono::seconds(1));
          if (manager.live().find(vm_id) != nullptr) manager.on_end(vm_id);
        }(*this, id),
        boost::asio::detached);
  }
}

Task<Operation> Manager::wait_for(std::int64_t id, TimePoint deadline) {
  for (;;) {
    auto operation = journal_.find(id);
    if (!operation) throw ApiError(404, "operation-not-found", "there is no operation " + std::to_string(id));
    if (operation->state != Operation::State::running) {
      co_await store_.synced();
      co_return std::move(*operation);
    }
    const auto found = runs_.find(object_of(*operation));
    if (steady_clock::now() >= deadline) co_return std::move(*operation);
    const std::shared_ptr<Run> run = found == runs_.end() ? nullptr : found->second;
    Notifier& notifier = run ? run->ended : changed_;
    co_await notifier.wait_until(deadline);
  }
}

void Manager::cancel(std::int64_t id) {
  const auto operation = journal_.find(id);
  if (!operation) throw ApiError(404, "operation-not-found", "there is no operation " + std::to_string(id));
  const auto run = runs_.find(object_of(*operation));
  if (run == runs_.end() || run->second->operation.id != id)
    throw ApiError(409, "operation-ended", "operation " + std::to_string(id) + " has ended");
  if (run->second->is_final)
    throw ApiError(409, "operation-final",
                   "operation " + std::to_string(id) + " (" + operation->kind + ") goes to its end");
  run->second->cancel();
}

const Run* Manager::run_of(const Operation& operation) const {
  const auto run = runs_.find(object_of(operation));
  return run == runs_.end() || run->second->operation.id != operation.id ? nullptr : run->second.get();
}

// --- what is due ---

// A clock that is set makes nothing early or late: times in the store are set with it. One that was wrong
// while the host was down is not known to have been.
void Manager::heed_clock(double now) {
  constexpr double slack = 2;
  const double offset = now - time_since_boot();
  const double set_by = offset - clock_offset_;
  if (std::abs(set_by) < slack) return;
  const Transaction transaction(store_);
  vms_.shift_times(set_by, now);
  store_.database().execute("INSERT OR REPLACE INTO meta VALUES ('clock_offset', ?)", {offset});
  store_.commit();
  clock_offset_ = offset;
}

void Manager::begin_what_is_due(double now) {
  heed_clock(now);
  for (const std::int64_t id : vms_.due_restarts(now)) {
    const auto vm = vms_.find(id);
    if (vm && !runs_.contains(vm_ref(id)) && vm->state == VmState::stopped)
      begin_by_itself("start", *vm, R"({"by_policy": true})");
  }
  for (const std::int64_t id : vms_.expired(now)) {
    const auto vm = vms_.find(id);
    if (vm && !runs_.contains(vm_ref(id))) begin_by_itself("delete", *vm, R"({"force": true})");
  }
}

void Manager::bound_logs() {
  for (const VmRow& vm : vms_.in_states({VmState::running, VmState::paused}))
    for (const std::string& log : {folders().vm_log(vm.id), folders().vm_passt_log(vm.id)})
      rotate_file(log, most_log);
}

// Those that ran have ended by the host's restart; what is to start with it does, whether it ran or not.
void Manager::begin_with_host() {
  const auto ends = [](const auto& each) { return each.second->operation.kind == "end"; };
  if (has_begun_with_host_ || std::any_of(runs_.begin(), runs_.end(), ends)) return;
  std::vector<std::pair<unsigned, VmRow>> due;
  for (const VmRow& vm : vms_.in_states({VmState::stopped})) {
    const VmSpec spec = vm.spec();
    if (spec.autostart() && !runs_.contains(vm_ref(vm.id)) && !vm.restart_at)
      due.emplace_back(spec.start_order(), vm);
  }
  std::sort(due.begin(), due.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second.id) < std::pair(b.first, b.second.id);
  });
  for (const auto& [order, vm] : due) begin_by_itself("start", vm, R"({"by_policy": true})");
  const Transaction transaction(store_);
  store_.database().execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", {boot_id()});
  store_.commit();
  has_begun_with_host_ = true;
}

// A clock that is set meanwhile is noticed before long; what was due and busy, or could not be stored, is
// tried again.
Task<> Manager::follow_schedule() {
  constexpr double longest_sleep = 10;
  constexpr double shortest_sleep = 0.05;
  for (;;) {
    double sleep = longest_sleep;
    try {
      begin_with_host();
      begin_what_is_due(wall_clock());
      bound_logs();
      sleep = vms_.next_due().value_or(wall_clock() + longest_sleep) - wall_clock();
    } catch (const StoreError&) {
      sleep = 1;
    }
    sleep = std::clamp(sleep, shortest_sleep, longest_sleep);
    co_await schedule_changed_.wait_until(
        steady_clock::now() +
        std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(sleep)));
  }
}

// --- recovery ---

Task<bool> Manager::adopt(std::int64_t id) {
  const std::string record = folders().vm_record(id);
  const auto adopt_this = [&](std::optional<ProcessIdentity> identity) {
    if (!identity) return false;
    if (identity->boot_id.empty()) identity->boot_id = boot_id();
    auto process = VmmProcess::adopt(*identity, settings_.vmm_program);
    if (!process) return false;
    live_.add(id, std::move(*process));
    vms_.set_process(id, *identity);
    return true;
  };
  const auto row = vms_.find(id);
  if (row && adopt_this(row->process)) co_return true;
  const auto deadline = steady_clock::now() + record_patience;
  Notifier pause;
  for (;;) {
    if (!std::filesystem::exists(folders().vm_lock(id))) co_return false;
    if (RunLock::take(folders().vm_lock(id))) co_return false;
    if (adopt_this(identity_in_record(record))) co_return true;
    if (steady_clock::now() > deadline) break;
    co_await pause.wait_until(steady_clock::now() + record_pause);
  }
  if (adopt_this(find_holder(folders().vm_lock(id), settings_.vmm_program))) co_return true;
  throw ApiError(409, "vm-locked",
                 "a process that is no VMM of this daemon holds '" + folders().vm_lock(id) + "'");
}

// What lives is in live_ already.
Task<> Manager::recover_vm(VmRow vm) {
  if (live_.find(vm.id) != nullptr) co_return;  // as it was left
  begin_by_itself("end", vm, "{}");
  co_return;
}

void Manager::sweep() {
  for (const std::int64_t id : numbers_in(folders().live_vms())) {
    if (runs_.contains(vm_ref(id)) || live_.find(id) != nullptr) continue;
    if (vms_.find(id) && vms_.find(id)->state != VmState::stopped) continue;
    // Whoever holds it is not known; it is not touched.
    if (std::filesystem::exists(folders().vm_lock(id)) && !RunLock::take(folders().vm_lock(id))) continue;
    remove_tree(folders().live_vm(id));
  }
  for (const std::int64_t id : numbers_in(folders().vms()))
    if (!vms_.find(id)) remove_tree(folders().vm(id));
  for (const std::int64_t id : cgroups().vms())
    if (!runs_.contains(vm_ref(id)) && live_.find(id) == nullptr) cgroups().remove(id);
}

// Before anything is under way.
Task<> Manager::sweep_disks() {
  std::set<std::string> contents;
  for (std::string& digest : images_.contents()) contents.insert(std::move(digest));
  std::set<std::int64_t> operations;
  for (const Operation& operation : journal_.open()) operations.insert(operation.id);
  std::set<std::int64_t> volumes;
  for (const std::int64_t id : volumes_.all()) volumes.insert(id);
  std::function<void()> work = [this, contents, operations, volumes] {
    image_files_.sweep(contents, operations);
    volume_files_.sweep(volumes);
  };
  co_await background_.run(std::move(work));
}

// What runs has its networks again, whatever became of the host's side of them.
Task<> Manager::recover_networks() {
  std::set<std::int64_t> used;
  for (const VmRow& vm : vms_.in_states({VmState::running, VmState::paused}))
    for (const std::int64_t id : networks_.of_vm(vm.id)) used.insert(id);
  for (const std::int64_t id : used) {
    const auto row = networks_.find(id);
    if (!row) continue;
    std::string trouble;
    try {
      std::function<void()> work = [&host = network_host(), spec = row->spec, leases = networks_.leases(id)] {
        host.ensure_network(spec, leases);
      };
      co_await background_.run(std::move(work));
    } catch (const std::exception& error) {
      trouble = error.what();
    }
    if (!trouble.empty())
      tell("network.unclear", {{"network", row->spec.name}, {"id", id}, {"reason", trouble}});
  }
}

std::string Manager::meta(std::string_view key) {
  Query row = store_.database().query("SELECT value FROM meta WHERE key = ?", {key});
  return row.next() ? row.text(0) : std::string();
}

Task<> Manager::recover() {
  for (const auto& folder : {folders().vms(), folders().live_vms()}) make_private_folder(folder);
  const Transaction transaction(store_);
  journal_.prune(operations_kept);
  const bool rebooted = meta("boot_id") != boot_id();
  const std::string offset = meta("clock_offset");
  clock_offset_ =
      rebooted || offset.empty() ? wall_clock() - time_since_boot() : std::strtod(offset.c_str(), nullptr);
  if (rebooted || offset.empty())
    store_.database().execute("INSERT OR REPLACE INTO meta VALUES ('clock_offset', ?)", {clock_offset_});
  // What a start had made for its process went with the host.
  if (rebooted)
    store_.database().execute(
        "UPDATE operation SET step = -1 WHERE state = 'running' AND undoing = 0 AND type = 'vm'"
        " AND kind IN ('start', 'restart')");
  store_.commit();
  using enum VmState;
  const std::vector<VmRow> active = vms_.in_states({starting, running, paused, stopping, deleting});
  for (const VmRow& vm : active) {
    try {
      if (co_await adopt(vm.id))
        if (const VmLimits limits = vm.spec().limits(); !limits.empty()) hold_to(vm.id, limits);
      store_.commit();
    } catch (const std::exception& error) {
      store_.rollback();
      tell("vm.unclear", {{"vm", vm.name}, {"id", vm.id}, {"reason", error.what()}});
    }
  }
  std::string unclear;
  try {
    co_await sweep_disks();
  } catch (const std::exception& error) {
    unclear = error.what();
  }
  if (!unclear.empty()) tell("disks.unclear", {{"reason", unclear}});
  for (const Operation& operation : journal_.open()) launch(operation);
  for (const VmRow& vm : active)
    if (!runs_.contains(vm_ref(vm.id))) co_await recover_vm(vm);
  sweep();

  has_begun_with_host_ = !rebooted;
  co_await store_.synced();
  is_recovering_ = false;
  boost::asio::co_spawn(context_, follow_schedule(), boost::asio::detached);
  boost::asio::co_spawn(context_, recover_networks(), boost::asio::detached);
  // Those that ended while they were adopted.
  for (const VmRow& each : active)
    if (const auto vm = vms_.find(each.id); vm && has_unnoticed_end(*vm)) on_end(vm->id);
}

}  // namespace hum
