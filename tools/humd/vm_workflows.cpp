// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/workflows.h"

#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/http/http_client.h"
#include "tools/humd/api_error.h"
#include "tools/humd/files.h"
#include "tools/humd/manager.h"
#include "tools/humd/network_passt.h"
#include "tools/humd/vm_resources.h"
#include "vmm/base/errors.h"
#include "vmm/machine/end_record.h"

namespace hum {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Between looks at a VMM that has been started: often at first, for most are there within some milliseconds.
constexpr milliseconds short_pause{1};
constexpr milliseconds long_pause{20};
constexpr int short_pauses = 20;
constexpr int most_group_tries = 200;
constexpr double settled = 60;  // seconds: a VM that has run so long has not failed at its start
constexpr std::size_t largest_vmm_reply = 1024UL * 1024;
constexpr int passt_socket = 4;  // in passt

std::int64_t vm_of(const Run& run) {
  return run.operation.object;
}

VmRow row_of(Manager& manager, const Run& run) {
  auto row = manager.vms().find(vm_of(run));
  if (!row) throw ApiError(404, "vm-not-found", "the VM is not there any more");
  return std::move(*row);
}

json arguments_of(const Run& run) {
  return json::parse(run.operation.arguments);
}

void tell(Manager& manager, const Run& run, std::string_view type, json more = json::object()) {
  more["vm"] = run.operation.object_name;
  more["id"] = vm_of(run);
  manager.tell(type, more);
}

Task<HttpReply> call(Manager& manager, std::int64_t id, std::string method, std::string target,
                     std::string body) {
  HttpCall request;
  request.method = std::move(method);
  request.target = std::move(target);
  request.body = std::move(body);
  request.largest_reply = largest_vmm_reply;
  co_return co_await http_call(manager.folders().vm_socket(id), std::move(request),
                               manager.settings().call_patience);
}

// As call, for what must be done. Throws ApiError with the VMM's own words.
Task<> demand(Manager& manager, std::int64_t id, std::string method, std::string target, std::string body) {
  std::string trouble;
  try {
    const HttpReply reply = co_await call(manager, id, std::move(method), std::move(target), std::move(body));
    if (reply.status == 204) co_return;
    trouble = "status " + std::to_string(reply.status) + " " + reply.body.substr(0, 1000);
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  throw ApiError(502, "vmm-refused",
                 "the VM's process did not do it: " + trouble + "; try again, or kill the VM");
}

// --- create ---

Task<> keep_record(Manager& /*manager*/, Run& /*run*/) {
  co_return;  // the row came together with the operation
}

Task<> forget_record(Manager& manager, Run& run) {
  release_resources(manager, vm_of(run));
  manager.vms().remove(vm_of(run));
  manager.store().commit();
  tell(manager, run, "vm.deleted");
  co_await collect_contents(manager, run);
}

Task<> make_folder(Manager& manager, Run& run) {
  make_private_folder(manager.folders().vm(vm_of(run)));
  co_return;
}

Task<> remove_folder(Manager& manager, Run& run) {
  remove_tree(manager.folders().vm(vm_of(run)));
  co_return;
}

Task<> finish_creation(Manager& manager, Run& run) {
  manager.vms().set_state(vm_of(run), VmState::stopped);
  tell(manager, run, "vm.created");
  co_return;
}

// --- start ---

Task<> reserve(Manager& manager, Run& run) {
  const std::int64_t id = vm_of(run);
  expect_room(manager, row_of(manager, run));
  expect_idle_volumes(manager, row_of(manager, run).spec());
  manager.vms().set_state(id, VmState::starting);
  manager.vms().set_wanted(id, true);
  const VmRow row = row_of(manager, run);
  manager.vms().set_failures(id, row.failures, std::nullopt);
  co_return;
}

// Started again by its policy, later each time that it fails soon.
void restart_later(Manager& manager, const Run& run, unsigned failures) {
  constexpr unsigned most_doublings = 16;
  const double delay = failures == 0
                           ? 0
                           : std::min(longest_restart_delay,
                                      static_cast<double>(1U << std::min(failures - 1, most_doublings)));
  manager.vms().set_failures(vm_of(run), failures + 1, wall_clock() + delay);
  manager.reschedule();
  tell(manager, run, "vm.restarting", {{"in_seconds", delay}});
}

Task<> give_up_start(Manager& manager, Run& run) {
  const VmRow row = row_of(manager, run);
  const std::string reason = run.operation.failure ? run.operation.failure->text : "";
  const json ended = {{"at", wall_clock()}, {"asked", false}, {"cause", "not-started"}, {"detail", reason}};
  manager.vms().set_state(row.id, VmState::stopped);
  manager.vms().set_ended(row.id, ended.dump(-1, ' ', false, json::error_handler_t::replace));
  tell(manager, run, "vm.failed", {{"reason", reason}});
  const VmSpec spec = row.spec();
  const bool again = arguments_of(run).value("by_policy", false) && spec.restart() != RestartPolicy::no &&
                     row.failures < spec.most_restarts().value_or(UINT_MAX);
  if (again) restart_later(manager, run, std::max(row.failures, 1U));
  manager.vms().set_wanted(row.id, again);
  co_return;
}

Task<> write_files(Manager& manager, Run& run) {
  const std::int64_t id = vm_of(run);
  make_private_folder(manager.folders().vm(id));
  make_private_folder(manager.folders().live_vm(id));
  write_private_file(manager.folders().vm_config(id), vmm_config(manager, row_of(manager, run)).dump());
  co_return;
}

// Somebody else's process has the VM's lock: what it holds is left as it is.
bool is_locked(const Run& run) {
  return run.operation.failure && run.operation.failure->code == "vm-locked";
}

Task<> remove_files(Manager& manager, Run& run) {
  if (!is_locked(run)) remove_tree(manager.folders().live_vm(vm_of(run)));
  co_return;
}

// A passt of the VM's own, where its spec wants that: the end of a socket that leads to it. It ends when
// nobody has that any more.
Fd start_user_network(Manager& manager, const VmRow& row) {
  for (const VmSpec::NetworkWish& wish : row.spec().networks()) {
    if (wish.network != user_network) continue;
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
      throw HostError(errno, "make a socket", "raise the limit of open files (ulimit -n)");
    Fd ours(ends[0]);
    const Fd passt_end(ends[1]);
    SpawnRequest request;
    request.arguments = passt_command(passt_socket, wish.ports);
    request.log_path = manager.folders().vm_passt_log(row.id);
    request.descriptors = {{passt_end.get(), passt_socket}};
    manager.passts().remove(row.id);
    manager.passts().add(row.id, spawn(request));
    return ours;
  }
  return {};
}

Task<> spawn_vmm(Manager& manager, Run& run) {
  const std::int64_t id = vm_of(run);
  if (manager.live().find(id) != nullptr) co_return;
  if (co_await manager.adopt(id))
    co_return manager.cgroups().enter(id, manager.live().find(id)->identity().pid);
  const Folders& folders = manager.folders();
  std::error_code none;
  std::filesystem::remove(folders.vm_record(id), none);  // of a process that has ended since
  std::filesystem::remove(folders.vm_socket(id), none);
  const auto lock = RunLock::take(folders.vm_lock(id));
  if (!lock) throw ApiError(409, "vm-locked", "another process holds '" + folders.vm_lock(id) + "'");
  SpawnRequest request;
  request.arguments = {manager.settings().vmm_program,
                       "--api-sock",
                       folders.vm_socket(id),
                       "--id",
                       "vm-" + std::to_string(id),
                       "--config-file",
                       folders.vm_config(id),
                       "--record",
                       folders.vm_record(id),
                       "--console-log",
                       folders.vm_console(id),
                       "--enable-pci",
                       "--ready-fd",
                       std::to_string(ready_pipe)};
  request.lock_fd = lock->fd();
  request.log_path = folders.vm_log(id);
  const Fd user = start_user_network(manager, row_of(manager, run));
  if (user) request.descriptors = {{user.get(), user_socket}};
  auto [told, tells] = make_pipe();
  request.descriptors.emplace_back(tells.get(), ready_pipe);
  VmmProcess process = spawn(request);
  ProcessIdentity identity = process.identity();
  identity.boot_id = manager.boot_id();
  manager.live().add(id, std::move(process), std::move(told));
  manager.vms().set_process(id, identity);
  manager.vms().set_started(id, wall_clock());
  manager.cgroups().enter(id, identity.pid);
}

Task<> wait_for_end(Manager& manager, Run& run, TimePoint deadline) {
  while (!manager.live().has_ended(vm_of(run)) && steady_clock::now() < deadline)
    co_await run.wait_until(deadline);
}

// Ends it whatever it is at. Returns when it is gone.
Task<> end_process(Manager& manager, Run& run, milliseconds patience) {
  const std::int64_t id = vm_of(run);
  if (manager.live().find(id) == nullptr) co_await manager.adopt(id);
  for (const int signal : {SIGTERM, SIGKILL}) {
    if (manager.live().has_ended(id)) co_return;
    if (signal == SIGTERM && patience == milliseconds(0)) continue;
    manager.live().find(id)->signal(signal);
    const auto deadline = signal == SIGKILL ? TimePoint::max() : steady_clock::now() + patience;
    while (!manager.live().has_ended(id) && (deadline == TimePoint::max() || steady_clock::now() < deadline))
      co_await run.changed.wait_until(deadline);
  }
}

Task<> kill_vmm(Manager& manager, Run& run) {
  if (is_locked(run)) co_return;  // nothing was started
  const std::int64_t id = vm_of(run);
  co_await end_process(manager, run, milliseconds(0));
  manager.live().remove(id);
  manager.vms().set_process(id, std::nullopt);
}

Task<> make_cgroups(Manager& manager, Run& run) {
  manager.cgroups().make(vm_of(run), row_of(manager, run).spec().limits());
  co_return;
}

// A process that has ended is in its group for a moment more. What is left is swept at the next start.
Task<> remove_cgroups(Manager& manager, Run& run) {
  for (int tries = 0; tries < most_group_tries && !manager.cgroups().remove(vm_of(run)); ++tries)
    co_await run.changed.wait_until(steady_clock::now() + short_pause);
}

// Why a process has ended before it ran its VM.
std::string last_words(Manager& manager, std::int64_t id) {
  const VmmEnd end = end_in_record(manager.folders().vm_record(id)).value_or(VmmEnd{});
  if (!end.detail.empty()) return end.detail;
  const std::string line = last_line_of(manager.folders().vm_log(id));
  return line.empty() ? "it left no word" : line;
}

// Whether its API says so.
Task<bool> says_that_it_runs(Manager& manager, std::int64_t id) {
  bool runs = false;
  try {
    const HttpReply reply = co_await call(manager, id, "GET", "/hum/v1/vm", "");
    const json state = json::parse(reply.body, nullptr, false);
    runs = reply.status == 200 && state.is_object() && state.value("state", "") != "not-started";
  } catch (const std::exception&) {  // it is not there yet, or ends
  }
  co_return runs;
}

// The process tells when its VM runs. One that does not, or was started by a daemon before this one, is
// asked.
Task<> confirm(Manager& manager, Run& run) {
  const std::int64_t id = vm_of(run);
  const auto deadline = steady_clock::now() + manager.settings().start_patience;
  for (int looks = 0; !manager.live().is_ready(id); ++looks) {
    if (manager.live().has_ended(id)) {
      // A guest may be done before anybody has looked.
      if (end_in_record(manager.folders().vm_record(id)).value_or(VmmEnd{}).ran) break;
      throw ApiError(502, "vmm-ended", "the VM's process ended: " + last_words(manager, id));
    }
    const bool may_tell = manager.live().may_tell(id);
    if (!may_tell && co_await says_that_it_runs(manager, id)) break;
    if (steady_clock::now() > deadline)
      throw ApiError(504, "vmm-silent",
                     "the VM's process did not answer in time; its log: " + manager.folders().vm_log(id));
    if (may_tell)
      co_await run.wait_until(deadline);
    else
      co_await run.wait(looks < short_pauses ? short_pause : long_pause);
  }
  manager.vms().set_state(id, VmState::running);
  tell(manager, run, "vm.started");
}

// --- stop, kill, and the end that came by itself ---

Task<> begin_stop(Manager& manager, Run& run) {
  const std::int64_t id = vm_of(run);
  manager.vms().set_state(id, VmState::stopping);
  manager.vms().set_wanted(id, arguments_of(run).value("again", false));
  const VmRow row = row_of(manager, run);
  manager.vms().set_failures(id, 0, std::nullopt);
  co_return;
}

Task<> go_on_running(Manager& manager, Run& run) {
  if (!row_of(manager, run).process) co_return;  // it is gone already
  manager.vms().set_state(vm_of(run), VmState::running);
  manager.vms().set_wanted(vm_of(run), true);
  co_return;
}

// What the guest is to hear; one that does not is ended in the next step.
Task<bool> tell_guest(Manager& manager, std::int64_t id, std::string target, std::string body) {
  bool heard = false;
  try {
    const HttpReply reply = co_await call(manager, id, "PUT", std::move(target), std::move(body));
    heard = reply.status < 300;
  } catch (const std::exception&) {
  }
  co_return heard;
}

// The power button, and in the second half of the time Ctrl-Alt-Del, for a guest without a driver of the
// button.
Task<> ask_guest(Manager& manager, Run& run) {
  const std::int64_t id = vm_of(run);
  if (manager.live().has_ended(id)) co_return;
  const auto timeout = milliseconds(arguments_of(run).value("timeout_ms", std::int64_t{10'000}));
  const auto begin = steady_clock::now();
  try {
    co_await call(manager, id, "PATCH", "/vm", R"({"state": "Resumed"})");
  } catch (const std::exception&) {
  }
  const bool pressed = co_await tell_guest(manager, id, "/hum/v1/vm/power-button", "");
  if (pressed) co_await wait_for_end(manager, run, begin + timeout / 2);
  if (manager.live().has_ended(id)) co_return;
  co_await tell_guest(manager, id, "/actions", R"({"action_type": "SendCtrlAltDel"})");
  co_await wait_for_end(manager, run, begin + timeout);
}

Task<> end_vmm(Manager& manager, Run& run) {
  co_await end_process(manager, run, manager.settings().term_patience);
}

Task<> kill_now(Manager& manager, Run& run) {
  co_await end_process(manager, run, milliseconds(0));
}

Task<> record_end(Manager& manager, Run& run) {
  const std::int64_t id = vm_of(run);
  const VmRow row = row_of(manager, run);
  if (!row.process) co_return;  // it is recorded
  const VmmEnd end = end_in_record(manager.folders().vm_record(id)).value_or(VmmEnd{});
  json ended = {{"at", wall_clock()}, {"asked", run.operation.kind != "end"}};
  if (row.process->boot_id != manager.boot_id()) {
    ended["cause"] = "lost";
    ended["detail"] = "the host was restarted";
  } else if (end.cause == "running" || end.cause.empty()) {
    ended["cause"] = run.operation.kind == "end" ? "lost" : "killed";
    if (run.operation.kind == "end")
      ended["detail"] = manager.cgroups().ran_out_of_memory(id)
                            ? "the host ended its process, which wanted more memory than limits.memory_mib"
                            : "its process was killed without a word";
  } else {
    ended["cause"] = end.cause;
    if (!end.detail.empty()) ended["detail"] = end.detail;
    if (end.guest_exit_code) ended["exit_code"] = *end.guest_exit_code;
  }
  // Its whole record is worth keeping, if there is one.
  if (!end.cause.empty()) copy_file(manager.folders().vm_record(id), manager.folders().vm_end(id));
  manager.vms().set_ended(id, ended.dump(-1, ' ', false, json::error_handler_t::replace));
  manager.vms().set_process(id, std::nullopt);
  tell(manager, run, "vm.ended", ended);
}

Task<> clean_up(Manager& manager, Run& run) {
  const std::int64_t id = vm_of(run);
  co_await disconnect_networks(manager, run);
  co_await remove_cgroups(manager, run);
  manager.live().remove(id);
  remove_tree(manager.folders().live_vm(id));
  manager.vms().set_state(id, VmState::stopped);
}

bool calls_for_restart(const VmSpec& spec, const json& ended, unsigned failures) {
  const std::string cause = ended.value("cause", "");
  if (cause == to_string(EndCause::reboot)) return true;  // the guest itself asks for it
  if (spec.most_restarts() && failures >= *spec.most_restarts()) return false;
  if (spec.restart() == RestartPolicy::always) return true;
  const bool well = cause == to_string(EndCause::power_off) ||
                    (cause == to_string(EndCause::debug_exit) && ended.value("exit_code", 1) == 0);
  return spec.restart() == RestartPolicy::on_failure && !well;
}

Task<> heed_policy(Manager& manager, Run& run) {
  const VmRow row = row_of(manager, run);
  if (row.restart_at) co_return;  // it was heeded
  const json ended = row.ended.empty() ? json::object() : json::parse(row.ended);
  const double ran = row.started ? ended.value("at", 0.0) - *row.started : 0;
  const unsigned failures = ran > settled ? 0 : row.failures;
  if (row.wanted && calls_for_restart(row.spec(), ended, failures)) {
    restart_later(manager, run, failures);
    co_return;
  }
  manager.vms().set_wanted(row.id, false);
  manager.vms().set_failures(row.id, 0, std::nullopt);
}

// --- pause and resume ---

Task<> pause_vm(Manager& manager, Run& run) {
  co_await demand(manager, vm_of(run), "PATCH", "/vm", R"({"state": "Paused"})");
  manager.vms().set_state(vm_of(run), VmState::paused);
  tell(manager, run, "vm.paused");
}

Task<> resume_vm(Manager& manager, Run& run) {
  co_await demand(manager, vm_of(run), "PATCH", "/vm", R"({"state": "Resumed"})");
  manager.vms().set_state(vm_of(run), VmState::running);
  tell(manager, run, "vm.resumed");
}

// What it was before, as far as its process can tell.
Task<> look_again(Manager& manager, Run& run) {
  std::string state;
  try {
    const HttpReply reply = co_await call(manager, vm_of(run), "GET", "/hum/v1/vm", "");
    const json body = json::parse(reply.body, nullptr, false);
    if (body.is_object()) state = body.value("state", "");
  } catch (const std::exception&) {
  }
  if (state == "paused") manager.vms().set_state(vm_of(run), VmState::paused);
  if (state == "running") manager.vms().set_state(vm_of(run), VmState::running);
}

// --- delete ---

Task<> mark_deleted(Manager& manager, Run& run) {
  manager.vms().set_state(vm_of(run), VmState::deleting);
  manager.vms().set_wanted(vm_of(run), false);
  manager.vms().set_failures(vm_of(run), 0, std::nullopt);
  co_return;
}

Task<> clean_for_deletion(Manager& manager, Run& run) {
  co_await disconnect_networks(manager, run);
  co_await remove_cgroups(manager, run);
  manager.live().remove(vm_of(run));
  remove_tree(manager.folders().live_vm(vm_of(run)));
}

constexpr Step create_steps[] = {
    {"record", keep_record, forget_record},
    {"folder", make_folder, remove_folder},
    {"disks", make_own_disks, remove_own_disks},
    {"finish", finish_creation},
};
constexpr Step start_steps[] = {
    {"reserve", reserve, give_up_start},
    {"files", write_files, remove_files},
    {"networks", connect_networks, disconnect_networks},
    {"cgroups", make_cgroups, remove_cgroups},
    {"spawn", spawn_vmm, kill_vmm},
    {"confirm", confirm},
};
// A stop that is cancelled in time leaves the VM running; from "end" on nothing goes back.
constexpr Step stop_steps[] = {
    {"begin", begin_stop, go_on_running},
    {"ask", ask_guest},
    {"end", end_vmm},
    {"record", record_end},
    {"clean", clean_up},
};
constexpr Step kill_steps[] = {
    {"begin", begin_stop},
    {"kill", kill_now},
    {"record", record_end},
    {"clean", clean_up},
};
constexpr Step end_steps[] = {
    {"record", record_end},
    {"clean", clean_up},
    {"policy", heed_policy},
};
constexpr Step pause_steps[] = {{"pause", pause_vm, look_again}};
constexpr Step resume_steps[] = {{"resume", resume_vm, look_again}};
constexpr Step restart_steps[] = {
    {"begin", begin_stop, go_on_running},
    {"ask", ask_guest},
    {"end", end_vmm},
    {"record", record_end},
    {"clean", clean_up},
    {"reserve", reserve, give_up_start},
    {"files", write_files, remove_files},
    {"networks", connect_networks, disconnect_networks},
    {"cgroups", make_cgroups, remove_cgroups},
    {"spawn", spawn_vmm, kill_vmm},
    {"confirm", confirm},
};
constexpr Step delete_steps[] = {
    {"mark", mark_deleted},    {"kill", kill_now},          {"clean", clean_for_deletion},
    {"folder", remove_folder}, {"disks", remove_own_disks}, {"forget", forget_record},
};

constexpr Workflow workflows[] = {
    {.kind = "create", .steps = create_steps, .is_lasting = true},
    {.kind = "start", .steps = start_steps},
    {.kind = "stop", .steps = stop_steps},
    {.kind = "kill", .steps = kill_steps, .is_final = true},
    {.kind = "end", .steps = end_steps, .is_final = true},
    {.kind = "pause", .steps = pause_steps},
    {.kind = "resume", .steps = resume_steps},
    {.kind = "restart", .steps = restart_steps},
    {.kind = "delete", .steps = delete_steps, .is_final = true, .is_lasting = true},
};

}  // namespace

const Workflow* vm_workflow(std::string_view kind) {
  const auto found = std::find_if(std::begin(workflows), std::end(workflows),
                                  [&](const Workflow& each) { return each.kind == kind; });
  return found == std::end(workflows) ? nullptr : found;
}

void check_vm_state(std::string_view kind, const VmRow& vm) {
  using enum VmState;
  const auto refuse = [&](const char* code, const std::string& what) {
    throw ApiError(409, code, "the VM '" + vm.name + "' " + what);
  };
  const bool lives = vm.state == running || vm.state == paused;
  if (vm.state == creating || vm.state == deleting)
    refuse("vm-busy",
           vm.state == creating ? "is being created; try again when it is there" : "is being deleted");
  if (kind == "start" && vm.state != stopped) refuse("vm-running", "runs already");
  if ((kind == "stop" || kind == "kill") && vm.state == stopped && !vm.restart_at)
    refuse("vm-stopped", "does not run");
  if (kind == "restart" && !lives) refuse("vm-stopped", "does not run; start it");
  if (kind == "pause" && vm.state != running) refuse("vm-not-running", "does not run");
  if (kind == "resume" && vm.state != paused) refuse("vm-not-paused", "is not paused");
}

}  // namespace hum
