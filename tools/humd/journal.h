// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/humd/object.h"
#include "tools/humd/store.h"

namespace hum {

// Something that the daemon does in steps, and how far it is.
struct Operation {
  enum class State : std::uint8_t { running, done, failed, cancelled };
  // What stands in the way of an operation's end, or did.
  struct Failure {
    std::string code;  // a word for programs
    std::string text;
  };

  std::int64_t id = 0;
  std::string kind{};  // "start"
  ObjectType type = ObjectType::vm;
  std::int64_t object = 0;    // the number of what it is about
  std::string object_name{};  // when it was asked for
  uid_t owner = 0;
  std::string arguments = "{}";  // JSON, whose form belongs to the kind
  int step = -1;                 // that it has come to; -1: none yet
  bool undoing = false;          // on its way back
  State state = State::running;
  std::optional<Failure> failure{};
  double created = 0;
  double ended = 0;
};

std::string_view to_string(Operation::State state);

// Where an operation is when the journal's observer is called.
enum class JournalMoment : std::uint8_t {
  entered,   // a step is stored as begun, and nothing of it is done
  acted,     // it is done, and that is not stored
  finished,  // the operation's end is stored
};

// The operations, as rows of the store. What enter, turn_back and finish write is committed when they return,
// together with all that was written before.
class Journal {
 public:
  // For tests: called at each moment with the step's name.
  using Observer = std::function<void(const Operation&, std::string_view step, JournalMoment)>;

  explicit Journal(Store& store, Observer observer = {}) : store_(store), observer_(std::move(observer)) {}

  // Gives it its number and its time. The caller commits.
  void begin(Operation& operation);
  void enter(Operation& operation, int step, std::string_view name);
  void acted(const Operation& operation, std::string_view name) const;
  // From here the steps are undone, for that reason.
  void turn_back(Operation& operation, Operation::Failure failure);
  void finish(Operation& operation, Operation::State state);

  std::optional<Operation> find(std::int64_t id);
  // Those that have not ended, in the order of their beginning.
  std::vector<Operation> open();
  // The newest first, from below that number on; of one object, or of all.
  std::vector<Operation> list(std::int64_t before, int most, std::optional<ObjectRef> object = {});
  // Forgets those that have ended, but for that many.
  void prune(int kept);

 private:
  void observe(const Operation& operation, std::string_view step, JournalMoment moment) const;

  Store& store_;
  Observer observer_;
};

}  // namespace hum
