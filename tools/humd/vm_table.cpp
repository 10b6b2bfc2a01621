// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vm_table.h"

#include <algorithm>
#include <array>

#include "tools/humd/api_error.h"

namespace hum {
namespace {

constexpr std::array<std::string_view, 7> state_words = {"creating", "stopped",  "starting", "running",
                                                         "paused",   "stopping", "deleting"};

constexpr std::string_view select =
    "SELECT id, name, project, spec, owner, generation, state, wanted, pid, start_time, boot_id, ended, "
    "failures,"
    " restart_at, created, started, expires, image FROM vm ";

std::optional<double> optional_real(const Query& row, int column) {
  if (row.is_null(column)) return {};
  return row.real(column);
}

VmRow row_of(const Query& row) {
  VmRow vm{.id = row.number(0),
           .name = row.text(1),
           .project = row.text(2),
           .spec_text = row.text(3),
           .owner = static_cast<uid_t>(row.number(4)),
           .generation = row.number(5),
           .wanted = row.number(7) != 0,
           .ended = row.text(11),
           .failures = static_cast<unsigned>(row.number(12)),
           .restart_at = optional_real(row, 13),
           .created = row.real(14),
           .started = optional_real(row, 15),
           .expires = optional_real(row, 16),
           .image = row.text(17)};
  const auto word = std::find(state_words.begin(), state_words.end(), row.text(6));
  if (word != state_words.end()) vm.state = static_cast<VmState>(word - state_words.begin());
  if (!row.is_null(8))
    vm.process = ProcessIdentity{.pid = static_cast<pid_t>(row.number(8)),
                                 .start_time = static_cast<std::uint64_t>(row.number(9)),
                                 .boot_id = row.text(10)};
  return vm;
}

std::vector<std::int64_t> numbers(Query query) {
  std::vector<std::int64_t> found;
  while (query.next()) found.push_back(query.number(0));
  return found;
}

std::optional<double> expiry_of(const VmSpec& spec, double created) {
  const auto lifetime = spec.lifetime();
  if (!lifetime) return {};
  return created + static_cast<double>(lifetime->count());
}

VmUse use_in(const Query& row) {
  return {.vms = static_cast<std::uint64_t>(row.number(0)),
          .cpus = static_cast<std::uint64_t>(row.number(1)),
          .memory_mib = static_cast<std::uint64_t>(row.number(2))};
}

}  // namespace

std::string_view to_string(VmState state) {
  return state_words[static_cast<std::size_t>(state)];
}

std::int64_t VmTable::insert(const VmSpec& spec, uid_t owner, const std::string& image) {
  if (find(spec.name()))
    throw ApiError(409, "name-taken",
                   "a VM of the name '" + spec.name() + "' is there already; give another name");
  const double now = wall_clock();
  store_.database().execute(
      "INSERT INTO vm (name, project, owner, generation, spec, cpus, memory_mib, state, wanted, failures, "
      "created, expires, image) VALUES (?, ?, ?, 1, ?, ?, ?, 'creating', 0, 0, ?, ?, ?)",
      {spec.name(), spec.project(), static_cast<std::int64_t>(owner), spec.text(), std::int64_t{spec.cpus()},
       std::int64_t{spec.memory_mib()}, now, expiry_of(spec, now), image});
  return store_.database().last_row();
}

void VmTable::remove(std::int64_t id) {
  store_.database().execute("DELETE FROM vm WHERE id = ?", {id});
}

std::optional<VmRow> VmTable::find(std::int64_t id) {
  Query row = store_.database().query(std::string(select) + "WHERE id = ?", {id});
  if (!row.next()) return {};
  return row_of(row);
}

std::optional<VmRow> VmTable::find(std::string_view name) {
  const bool number =
      !name.empty() && name.size() < 18 && name.find_first_not_of("0123456789") == std::string_view::npos;
  if (number) return find(static_cast<std::int64_t>(std::stoll(std::string(name))));
  Query row = store_.database().query(std::string(select) + "WHERE name = ?", {name});
  if (!row.next()) return {};
  return row_of(row);
}

std::vector<VmRow> VmTable::rows(Query query) {
  std::vector<VmRow> found;
  while (query.next()) found.push_back(row_of(query));
  return found;
}

std::vector<VmRow> VmTable::list(const VmFilter& filter) {
  std::string sql(select);
  sql += "WHERE name > ?";
  std::vector<Bound> values = {filter.after};
  const auto add = [&](const char* condition, const Bound& value) {
    sql += condition;
    values.push_back(value);
  };
  if (!filter.project.empty()) add(" AND project = ?", filter.project);
  if (!filter.state.empty()) add(" AND state = ?", filter.state);
  if (!filter.name_part.empty()) add(" AND instr(name, ?) > 0", filter.name_part);
  if (filter.owner) add(" AND owner = ?", static_cast<std::int64_t>(*filter.owner));
  add(" ORDER BY name LIMIT ?", filter.most);
  return rows(store_.database().query(sql, values));
}

std::vector<VmRow> VmTable::in_states(std::initializer_list<VmState> states) {
  std::string sql = std::string(select) + "WHERE state IN (";
  std::vector<Bound> values;
  for (const VmState state : states) {
    sql += values.empty() ? "?" : ", ?";
    values.emplace_back(to_string(state));
  }
  return rows(store_.database().query(sql + ") ORDER BY id", values));
}

std::vector<std::int64_t> VmTable::due_restarts(double now) {
  return numbers(
      store_.database().query("SELECT id FROM vm WHERE restart_at <= ? OR restart_at > ? ORDER BY restart_at",
                              {now, now + longest_restart_delay + 1}));
}

void VmTable::shift_times(double seconds, double now) {
  Database& database = store_.database();
  database.execute("UPDATE vm SET restart_at = restart_at + ? WHERE restart_at IS NOT NULL", {seconds});
  // What lies behind the clock as it was had another clock, which may be the one that is right again.
  const double before = now - seconds;
  database.execute("UPDATE vm SET started = started + ? WHERE pid IS NOT NULL AND started <= ?",
                   {seconds, before});
  database.execute(
      "UPDATE vm SET created = created + ?, expires = expires + ? WHERE expires IS NOT NULL AND created <= ?",
      {seconds, seconds, before});
}

std::vector<std::int64_t> VmTable::expired(double now) {
  return numbers(store_.database().query("SELECT id FROM vm WHERE expires <= ? ORDER BY expires", {now}));
}

std::optional<double> VmTable::next_due() {
  Query row = store_.database().query(
      "SELECT min(due) FROM (SELECT min(restart_at) AS due FROM vm UNION ALL SELECT min(expires) FROM vm)");
  if (!row.next() || row.is_null(0)) return {};
  return row.real(0);
}

void VmTable::set_state(std::int64_t id, VmState state) {
  store_.database().execute("UPDATE vm SET state = ? WHERE id = ?", {to_string(state), id});
}

void VmTable::set_wanted(std::int64_t id, bool wanted) {
  store_.database().execute("UPDATE vm SET wanted = ? WHERE id = ?", {wanted, id});
}

void VmTable::set_process(std::int64_t id, const std::optional<ProcessIdentity>& process) {
  if (!process) {
    store_.database().execute("UPDATE vm SET pid = NULL, start_time = NULL, boot_id = NULL WHERE id = ?",
                              {id});
    return;
  }
  store_.database().execute(
      "UPDATE vm SET pid = ?, start_time = ?, boot_id = ? WHERE id = ?",
      {static_cast<std::int64_t>(process->pid), process->start_time, process->boot_id, id});
}

void VmTable::set_started(std::int64_t id, double when) {
  store_.database().execute("UPDATE vm SET started = ? WHERE id = ?", {when, id});
}

void VmTable::set_ended(std::int64_t id, const std::string& ended) {
  store_.database().execute("UPDATE vm SET ended = ? WHERE id = ?", {ended, id});
}

void VmTable::set_failures(std::int64_t id, unsigned failures, std::optional<double> restart_at) {
  store_.database().execute("UPDATE vm SET failures = ?, restart_at = ? WHERE id = ?",
                            {static_cast<std::int64_t>(failures), restart_at, id});
}

void VmTable::set_spec(std::int64_t id, const VmSpec& spec) {
  const auto other = find(spec.name());
  if (other && other->id != id)
    throw ApiError(409, "name-taken",
                   "a VM of the name '" + spec.name() + "' is there already; give another name");
  const auto row = find(id);
  if (!row) return;
  store_.database().execute(
      "UPDATE vm SET name = ?, project = ?, spec = ?, cpus = ?, memory_mib = ?, generation = generation + 1, "
      "expires = ? WHERE id = ?",
      {spec.name(), spec.project(), spec.text(), std::int64_t{spec.cpus()}, std::int64_t{spec.memory_mib()},
       expiry_of(spec, row->created), id});
}

VmUse VmTable::use_of_active(std::int64_t but) {
  const Query row = first_row(
      "SELECT count(*), total(cpus), total(memory_mib) FROM vm WHERE state != 'stopped' AND state IN"
      " ('starting', 'running', 'paused', 'stopping') AND id != ?",
      {but});
  return use_in(row);
}

VmUse VmTable::use_of_project(const std::string& project, std::int64_t but) {
  const Query row =
      first_row("SELECT count(*), total(cpus), total(memory_mib) FROM vm WHERE project = ? AND id != ?",
                {project, but});
  return use_in(row);
}

Query VmTable::first_row(const char* sql, const std::vector<Bound>& values) {
  Query row = store_.database().query(sql, values);
  row.next();
  return row;
}

std::int64_t VmTable::count() {
  Query row = store_.database().query("SELECT count(*) FROM vm");
  return row.next() ? row.number(0) : 0;
}

std::int64_t VmTable::count_in(VmState state) {
  Query row = store_.database().query("SELECT count(*) FROM vm WHERE state = ?", {to_string(state)});
  return row.next() ? row.number(0) : 0;
}

}  // namespace hum
