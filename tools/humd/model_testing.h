// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

// For tests only: what the daemon is to do with a script of requests, as a model that is small enough to
// read.
namespace hum::testing {

enum class Verb : std::uint8_t {
  create,  // a VM; on: a volume that it has, or none
  start,
  stop,
  kill,
  pause,
  resume,
  restart,
  remove,
  remove_by_force,
  mark,   // gives it a label; value: which
  crash,  // the VM's process is killed
  make_volume,
  resize_volume,  // value: its size in MiB
  remove_volume,
  import,
  remove_image,
};

struct Command {
  Verb verb{};
  unsigned object = 0;  // the number of the VM, the volume or the image
  std::optional<unsigned> on{};
  unsigned value = 0;

  bool operator==(const Command&) const = default;
};

inline constexpr unsigned most_clients = 3;
inline constexpr unsigned vm_count = 4;
inline constexpr unsigned volume_count = 2;
inline constexpr unsigned image_count = 1;

// What several clients do at the same time, each one command after the other.
struct Batch {
  std::array<std::vector<Command>, most_clients> clients{};
  unsigned kill_at =
      0;  // the moment of the journal, from the batch's beginning, at which the daemon is killed
  unsigned kill_again = 0;  // that of the next one's recovery
};

using Script = std::vector<Batch>;

Script random_script(std::uint64_t seed, unsigned commands);
unsigned commands_in(const Script& script);
// One line a command, and back. Throws std::runtime_error.
std::string text_of(const Script& script);
Script script_of(const std::string& text);

// All that the model knows; a value.
struct ModelState {
  enum class Run : std::uint8_t { absent, stopped, running, paused };
  struct Vm {
    Run run = Run::absent;
    unsigned mark = 0;
    std::optional<unsigned> volume{};
    auto operator<=>(const Vm&) const = default;
  };
  std::array<Vm, vm_count> vms{};
  std::array<std::optional<unsigned>, volume_count> volumes{};  // their sizes
  std::array<bool, image_count> images{};

  auto operator<=>(const ModelState&) const = default;
};

std::string text_of(const ModelState& state);

// What a client was told of a command.
enum class Outcome : std::uint8_t { not_begun, unknown, done, not_done };

using Outcomes = std::array<std::vector<Outcome>, most_clients>;

// A rule of the model may be made wrong, to see that this is found.
using Twist = std::function<void(ModelState& state, const Command& command)>;

// The states that there may be after a batch: any order of what its clients have done that fits what they
// were told. With nobody else at work on an object, what is allowed is done and what is not is refused.
std::set<ModelState> states_after(const ModelState& before, const Batch& batch, const Outcomes& outcomes,
                                  const Twist& twist = {});

}  // namespace hum::testing
