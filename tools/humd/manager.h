// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "tools/humd/background.h"
#include "tools/humd/capacity.h"
#include "tools/humd/disk_tables.h"
#include "tools/humd/folders.h"
#include "tools/humd/image_files.h"
#include "tools/humd/journal.h"
#include "tools/humd/live_vms.h"
#include "tools/humd/network_host.h"
#include "tools/humd/network_table.h"
#include "tools/humd/store.h"
#include "tools/humd/vm_table.h"
#include "tools/humd/vmm_process.h"
#include "tools/humd/volume_files.h"
#include "tools/humd/workflow.h"
#include "vmm/base/log.h"

namespace hum {

struct ManagerSettings {
  Folders folders;
  std::string vmm_program;  // absolute
  std::chrono::milliseconds start_patience{30'000};
  std::chrono::milliseconds call_patience{2'000};  // of the VMM's API
  std::chrono::milliseconds term_patience{5'000};  // from SIGTERM to SIGKILL
  std::string vfs{};                               // of the store; empty: SQLite's usual one
  uid_t administrator = ::geteuid();               // may see and change everything, as root may
  std::string boot_id = current_boot_id();         // of the host
  HostShare share{};                               // of the host that VMs may have
};

// Who asks, and the key by which a request that is sent again is known: it begins nothing then.
struct Caller {
  uid_t user = 0;
  std::string key{};   // the header Idempotency-Key; empty: none
  std::string what{};  // all that the request asks for
};

// Something that has happened, for those who listen: a type like "vm.started", and one JSON object.
using EventSink = std::function<void(std::string_view type, const nlohmann::json& data)>;

// The daemon's logic: begins operations, carries them out, and sees to it that what runs is known, whenever
// the daemon itself was killed. Belongs to the thread that runs the context.
class Manager {
 public:
  Manager(boost::asio::io_context& context, ManagerSettings settings, Journal::Observer observer = {});
  ~Manager();
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  // Finds the VMMs that live, goes on with what was under way, and cleans up; then restarts what is due.
  // Before anything else.
  Task<> recover();

  // Each begins an operation, which is stored when the answer is there, and throws ApiError, ConfigError,
  // StoreError where it may not begin.
  Task<Operation> create(VmSpec spec, Caller caller, bool start);
  // kind: one of the operations on a VM that is there ("start", "stop", ...), with its arguments.
  Task<Operation> begin(std::string kind, VmRow vm, Caller caller, std::string arguments);
  // In the operation's transaction, before it is stored: fills in what the operation is about.
  using Prepare = std::function<void(Operation& operation)>;
  // An operation on an image, a volume or a network.
  Task<Operation> begin_on_object(Operation operation, Caller caller, Prepare prepare);
  // Throws ApiError (409): an operation on it is under way.
  void expect_idle(const ObjectRef& object, const std::string& name) const;

  // Changes what a VM is to be, at once.
  Task<VmRow> update(VmRow vm, VmSpec spec);

  // The operation when it has ended, or as it is when the time comes. Throws ApiError (404).
  Task<Operation> wait_for(std::int64_t operation, TimePoint deadline);
  // Returns when the VM's row may have changed, or false when the time comes.
  Task<bool> wait_for_change(TimePoint deadline) { return changed_.wait_until(deadline); }
  void cancel(std::int64_t operation);
  // Null: it is not under way.
  const Run* run_of(const Operation& operation) const;
  // Whether what is to start with the host was begun.
  bool has_begun_with_host() const { return has_begun_with_host_; }
  // Whether a user may see and change what another has made.
  bool may(uid_t user, uid_t owner) const {
    return user == 0 || user == settings_.administrator || user == owner;
  }

  void listen(EventSink sink) { sink_ = std::move(sink); }

  // For the steps.
  boost::asio::io_context& context() { return context_; }
  const ManagerSettings& settings() const { return settings_; }
  const Folders& folders() const { return settings_.folders; }
  Store& store() { return store_; }
  Journal& journal() { return journal_; }
  VmTable& vms() { return vms_; }
  LiveVms& live() { return live_; }
  LiveVms& passts() { return passts_; }  // of VMs, by the VM's number; those that this daemon has started
  ImageTable& images() { return images_; }
  VolumeTable& volumes() { return volumes_; }
  NetworkTable& networks() { return networks_; }
  ProjectTable& projects() { return projects_; }
  ImageFiles& image_files() { return image_files_; }
  VolumeFiles& volume_files() { return volume_files_; }
  // Throws ConfigError: this host cannot have networks.
  NetworkHost& network_host();
  VmCgroups& cgroups();
  const VmUse& capacity() const { return capacity_; }
  Background& background() { return background_; }
  // Of whoever gives contents their place, or removes them.
  TurnTaking& contents_turn() { return contents_turn_; }
  const std::string& boot_id() const { return settings_.boot_id; }
  void tell(std::string_view type, const nlohmann::json& data);
  // Adopts the process of a VM that this or an earlier daemon has started; false: there is none. Waits for
  // one that has begun and not said so yet. Throws HostError: somebody holds the VM's lock and is no VMM of
  // ours.
  Task<bool> adopt(std::int64_t id);
  // Times of restarts or expiry have changed.
  void reschedule() { schedule_changed_.notify_all(); }

 private:
  void launch(const Operation& operation);
  Task<> run_to_end(std::shared_ptr<Run> run);
  bool has_unnoticed_end(const VmRow& vm);
  void on_end(std::int64_t id);
  Task<> follow_schedule();
  void begin_with_host();
  void begin_what_is_due(double now);
  void heed_clock(double now);
  void bound_logs();
  std::string meta(std::string_view key);
  // A VM that runs has these limits from now on.
  void hold_to(std::int64_t vm, const VmLimits& limits);
  void change_limits(std::int64_t vm, const VmLimits& before, const VmLimits& after);
  Task<> recover_vm(VmRow vm);
  void sweep();
  // Stores it and sets it going.
  Operation begin_operation(Operation operation, const Caller& caller);
  Operation begin_by_itself(const std::string& kind, const VmRow& vm, const std::string& arguments);
  std::optional<Operation> asked_before(const Caller& caller);
  Task<Operation> begin_with(Operation operation, Caller caller, Prepare prepare);
  Task<> recover_networks();
  Task<> sweep_disks();

  boost::asio::io_context& context_;
  ManagerSettings settings_;
  VmUse capacity_;
  Store store_;
  Journal journal_;
  VmTable vms_;
  ImageTable images_;
  VolumeTable volumes_;
  NetworkTable networks_;
  ProjectTable projects_;
  ImageFiles image_files_;
  VolumeFiles volume_files_;
  Log log_;
  std::unique_ptr<NetworkHost> network_host_;  // made when it is needed, and so are the groups
  std::unique_ptr<VmCgroups> cgroups_;
  LiveVms live_;
  LiveVms passts_;
  TurnTaking contents_turn_;
  std::map<ObjectRef, std::shared_ptr<Run>> runs_;
  bool is_recovering_ = true;
  bool has_begun_with_host_ = true;
  double clock_offset_ = 0;  // of the wall clock from the time since the host's start, when last looked at
  Notifier changed_;
  Notifier schedule_changed_;
  EventSink sink_;
  Background background_;  // last: its work uses what is above
};

}  // namespace hum
