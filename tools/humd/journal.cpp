// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/journal.h"

#include <algorithm>
#include <array>
#include <limits>

namespace hum {
namespace {

constexpr std::array<std::string_view, 4> state_words = {"running", "done", "failed", "cancelled"};

constexpr std::string_view columns =
    "SELECT id, kind, object, object_name, owner, arguments, step, undoing, state, error, created, ended, "
    "type "
    "FROM operation ";

Operation operation_of(const Query& row) {
  Operation operation{.id = row.number(0),
                      .kind = row.text(1),
                      .object = row.number(2),
                      .object_name = row.text(3),
                      .owner = static_cast<uid_t>(row.number(4)),
                      .arguments = row.text(5),
                      .step = static_cast<int>(row.number(6)),
                      .undoing = row.number(7) != 0,
                      .created = row.real(10),
                      .ended = row.real(11)};
  const auto word = std::find(state_words.begin(), state_words.end(), row.text(8));
  if (word != state_words.end()) operation.state = static_cast<Operation::State>(word - state_words.begin());
  operation.type = object_type(row.text(12));
  const std::string error = row.text(9);
  if (const std::size_t blank = error.find(' '); blank != std::string::npos)
    operation.failure = {error.substr(0, blank), error.substr(blank + 1)};
  return operation;
}

std::vector<Operation> all_of(Query query) {
  std::vector<Operation> found;
  while (query.next()) found.push_back(operation_of(query));
  return found;
}

}  // namespace

std::string_view to_string(Operation::State state) {
  return state_words[static_cast<std::size_t>(state)];
}

void Journal::observe(const Operation& operation, std::string_view step, JournalMoment moment) const {
  if (observer_) observer_(operation, step, moment);
}

void Journal::begin(Operation& operation) {
  operation.created = wall_clock();
  store_.database().execute(
      "INSERT INTO operation (kind, type, object, object_name, owner, arguments, step, undoing, state, "
      "error, "
      "created)"
      " VALUES (?, ?, ?, ?, ?, ?, -1, 0, 'running', '', ?)",
      {operation.kind, to_string(operation.type), operation.object, operation.object_name,
       static_cast<std::int64_t>(operation.owner), operation.arguments, operation.created});
  operation.id = store_.database().last_row();
}

void Journal::enter(Operation& operation, int step, std::string_view name) {
  store_.database().execute("UPDATE operation SET step = ? WHERE id = ?", {step, operation.id});
  store_.commit();
  operation.step = step;
  observe(operation, name, JournalMoment::entered);
}

void Journal::acted(const Operation& operation, std::string_view name) const {
  observe(operation, name, JournalMoment::acted);
}

void Journal::turn_back(Operation& operation, Operation::Failure failure) {
  store_.database().execute("UPDATE operation SET undoing = 1, error = ? WHERE id = ?",
                            {failure.code + " " + failure.text, operation.id});
  store_.commit();
  operation.undoing = true;
  operation.failure = std::move(failure);
}

void Journal::finish(Operation& operation, Operation::State state) {
  const double now = wall_clock();
  store_.database().execute("UPDATE operation SET state = ?, ended = ? WHERE id = ?",
                            {to_string(state), now, operation.id});
  store_.commit();
  operation.state = state;
  operation.ended = now;
  observe(operation, "", JournalMoment::finished);
}

std::optional<Operation> Journal::find(std::int64_t id) {
  Query row = store_.database().query(std::string(columns) + "WHERE id = ?", {id});
  if (!row.next()) return {};
  return operation_of(row);
}

std::vector<Operation> Journal::open() {
  return all_of(store_.database().query(std::string(columns) + "WHERE state = 'running' ORDER BY id"));
}

std::vector<Operation> Journal::list(std::int64_t before, int most, std::optional<ObjectRef> object) {
  if (before <= 0) before = std::numeric_limits<std::int64_t>::max();
  if (!object)
    return all_of(store_.database().query(std::string(columns) + "WHERE id < ? ORDER BY id DESC LIMIT ?",
                                          {before, most}));
  return all_of(store_.database().query(
      std::string(columns) + "WHERE id < ? AND object = ? AND type = ? ORDER BY id DESC LIMIT ?",
      {before, object->id, to_string(object->type), most}));
}

void Journal::prune(int kept) {
  store_.database().execute(
      "DELETE FROM operation WHERE state != 'running' AND id <= (SELECT max(id) FROM operation) - ?", {kept});
}

}  // namespace hum
