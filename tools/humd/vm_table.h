// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/humd/store.h"
#include "tools/humd/vm_spec.h"
#include "tools/humd/vmm_process.h"

namespace hum {

enum class VmState : std::uint8_t { creating, stopped, starting, running, paused, stopping, deleting };
std::string_view to_string(VmState state);

inline constexpr double longest_restart_delay = 300;  // seconds

// A VM as the store has it.
struct VmRow {
  std::int64_t id = 0;
  std::string name{};
  std::string project{};
  std::string spec_text{};  // of a VmSpec, which takes a while to make
  uid_t owner = 0;
  std::int64_t generation = 1;  // one more with each change of the spec
  VmState state = VmState::creating;
  bool wanted = false;  // to run, by whoever asked last: for restarts of the VM and of the host
  std::optional<ProcessIdentity> process{};
  std::string ended{};    // JSON: how it ended last; empty: never
  unsigned failures = 0;  // ends in a row that called for a restart
  std::optional<double> restart_at{};
  double created = 0;
  std::optional<double> started{};
  std::optional<double> expires{};
  std::string image{};  // the digest of its image; empty: it has none

  VmSpec spec() const { return VmSpec::stored(spec_text); }
};

// What VMs are together.
struct VmUse {
  std::uint64_t vms = 0;
  std::uint64_t cpus = 0;
  std::uint64_t memory_mib = 0;
};

// What a list of VMs is to have.
struct VmFilter {
  std::string project{};  // empty: any
  std::string state{};
  std::string name_part{};
  std::optional<uid_t> owner{};
  std::string after{};  // the name before the first
  int most = 1000;
};

// The VMs as rows of the store. Nothing here commits.
class VmTable {
 public:
  explicit VmTable(Store& store) : store_(store) {}

  // Throws ApiError (409): the name is taken. Answers its number.
  std::int64_t insert(const VmSpec& spec, uid_t owner, const std::string& image = {});
  void remove(std::int64_t id);

  std::optional<VmRow> find(std::int64_t id);
  // By name, or by number.
  std::optional<VmRow> find(std::string_view name);
  // In the order of their names.
  std::vector<VmRow> list(const VmFilter& filter);
  std::vector<VmRow> in_states(std::initializer_list<VmState> states);
  // Those that a restart is due for; and the time of the next that will be.
  // Also those whose time is later than any that is given: it is of a clock that has been set since.
  std::vector<std::int64_t> due_restarts(double now);
  // The clock was set by so much, and says now: what has begun and what is to come keeps its distance.
  void shift_times(double seconds, double now);
  std::vector<std::int64_t> expired(double now);
  std::optional<double> next_due();

  void set_state(std::int64_t id, VmState state);
  void set_wanted(std::int64_t id, bool wanted);
  void set_process(std::int64_t id, const std::optional<ProcessIdentity>& process);
  void set_started(std::int64_t id, double when);
  void set_ended(std::int64_t id, const std::string& ended);
  void set_failures(std::int64_t id, unsigned failures, std::optional<double> restart_at);
  // Throws ApiError (409): the name is taken.
  void set_spec(std::int64_t id, const VmSpec& spec);

  // Of those that run or are about to, and of all in a project, but for one (0: none).
  VmUse use_of_active(std::int64_t but);
  VmUse use_of_project(const std::string& project, std::int64_t but);
  std::int64_t count();
  std::int64_t count_in(VmState state);

 private:
  std::vector<VmRow> rows(Query query);
  Query first_row(const char* sql, const std::vector<Bound>& values);

  Store& store_;
};

}  // namespace hum
