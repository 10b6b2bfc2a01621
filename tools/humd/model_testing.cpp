// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/model_testing.h"

#include <algorithm>
#include <random>
#include <sstream>
#include <stdexcept>
#include <tuple>

namespace hum::testing {
namespace {

using enum Verb;
using Run = ModelState::Run;

struct Word {
  Verb verb;
  const char* text;
  unsigned weight;  // how often it comes in random scripts
};

constexpr Word words[] = {
    {create, "create", 14},
    {start, "start", 16},
    {stop, "stop", 6},
    {kill, "kill", 6},
    {pause, "pause", 6},
    {resume, "resume", 6},
    {restart, "restart", 5},
    {remove, "remove", 5},
    {remove_by_force, "remove-by-force", 5},
    {mark, "mark", 6},
    {crash, "crash", 3},
    {make_volume, "make-volume", 5},
    {resize_volume, "resize-volume", 4},
    {remove_volume, "remove-volume", 4},
    {import, "import", 3},
    {remove_image, "remove-image", 3},
};

bool is_of_volume(Verb verb) {
  return verb == make_volume || verb == resize_volume || verb == remove_volume;
}

bool is_of_image(Verb verb) {
  return verb == import || verb == remove_image;
}

bool is_of_vm(Verb verb) {
  return !is_of_volume(verb) && !is_of_image(verb);
}

bool lives(const ModelState::Vm& vm) {
  return vm.run == Run::running || vm.run == Run::paused;
}

bool is_used(const ModelState& state, unsigned volume, bool by_one_that_lives) {
  return std::any_of(state.vms.begin(), state.vms.end(), [&](const ModelState::Vm& vm) {
    return vm.run != Run::absent && vm.volume == volume && (!by_one_that_lives || lives(vm));
  });
}

bool is_allowed(const ModelState& state, const Command& command) {
  const auto vm = [&]() -> const ModelState::Vm& { return state.vms.at(command.object); };
  switch (command.verb) {
    case create:
      return vm().run == Run::absent && (!command.on || state.volumes.at(*command.on));
    case start:
      return vm().run == Run::stopped;
    case stop:
    case kill:
    case restart:
      return lives(vm());
    case pause:
      return vm().run == Run::running;
    case resume:
      return vm().run == Run::paused;
    case remove:
      return vm().run == Run::stopped;
    case remove_by_force:
    case mark:
      return vm().run != Run::absent;
    case crash:
      return true;
    case make_volume:
      return !state.volumes.at(command.object);
    case resize_volume:
      return state.volumes.at(command.object) && !is_used(state, command.object, true);
    case remove_volume:
      return state.volumes.at(command.object) && !is_used(state, command.object, false);
    case import:
      return !state.images.at(command.object);
    case remove_image:
      return state.images.at(command.object);
  }
  return false;
}

void do_it(ModelState& state, const Command& command) {
  ModelState::Vm* const vm = is_of_vm(command.verb) ? &state.vms.at(command.object) : nullptr;
  switch (command.verb) {
    case create:
      *vm = {.run = Run::stopped, .mark = 0, .volume = command.on};
      break;
    case start:
    case resume:
    case restart:
      vm->run = Run::running;
      break;
    case stop:
    case kill:
      vm->run = Run::stopped;
      break;
    case pause:
      vm->run = Run::paused;
      break;
    case remove:
    case remove_by_force:
      *vm = {};
      break;
    case mark:
      vm->mark = command.value;
      break;
    case crash:
      if (lives(*vm)) vm->run = Run::stopped;
      break;
    case make_volume:
    case resize_volume:
      state.volumes.at(command.object) = command.value;
      break;
    case remove_volume:
      state.volumes.at(command.object).reset();
      break;
    case import:
      state.images.at(command.object) = true;
      break;
    case remove_image:
      state.images.at(command.object) = false;
      break;
  }
}

// Whether one may find the other under way, or what it needs changed by it.
bool meet(const Command& a, const Command& b) {
  if (is_of_image(a.verb) != is_of_image(b.verb)) return false;
  if (is_of_image(a.verb)) return a.object == b.object;
  if (is_of_vm(a.verb) && is_of_vm(b.verb)) return a.object == b.object;
  if (is_of_volume(a.verb) && is_of_volume(b.verb)) return a.object == b.object;
  return true;  // a VM may have the volume
}

bool is_contested(const Batch& batch, unsigned client, const Command& command) {
  for (unsigned other = 0; other < most_clients; ++other)
    if (other != client && std::any_of(batch.clients[other].begin(), batch.clients[other].end(),
                                       [&](const Command& each) { return meet(command, each); }))
      return true;
  return false;
}

// What may have become of a VM whose operation was ended before its end.
void add_half_done(std::vector<ModelState>& found, const ModelState& state, const Command& command) {
  if (!is_of_vm(command.verb)) return;
  ModelState other = state;
  ModelState::Vm& vm = other.vms.at(command.object);
  if (!lives(vm)) return;
  const bool ends = command.verb == stop || command.verb == kill || command.verb == restart ||
                    command.verb == remove_by_force;
  if (!ends) return;
  for (const Run run : {Run::stopped, Run::running}) {
    vm.run = run;
    found.push_back(other);
  }
}

std::vector<ModelState> after_command(const ModelState& state, const Command& command, Outcome outcome,
                                      bool is_contested, const Twist& twist) {
  const bool allowed = is_allowed(state, command);
  std::vector<ModelState> found;
  const auto add_done = [&] {
    ModelState next = state;
    do_it(next, command);
    if (twist) twist(next, command);
    found.push_back(next);
  };
  // Begun while it ran, and ended when it had ended by itself.
  const bool again = is_contested &&
                     (command.verb == stop || command.verb == kill || command.verb == restart) &&
                     state.vms.at(command.object).run == Run::stopped;
  if (outcome == Outcome::done) {
    if (allowed || again) add_done();
    return found;
  }
  if (outcome == Outcome::unknown) {
    found.push_back(state);
    if (allowed) add_done();
    add_half_done(found, state, command);
    return found;
  }
  if (!allowed || is_contested) found.push_back(state);
  if (is_contested) add_half_done(found, state, command);
  return found;
}

std::string name_of(const Command& command) {
  return (is_of_volume(command.verb)  ? "volume"
          : is_of_image(command.verb) ? "image"
                                      : "vm") +
         std::to_string(command.object);
}

}  // namespace

std::set<ModelState> states_after(const ModelState& before, const Batch& batch, const Outcomes& outcomes,
                                  const Twist& twist) {
  using Place = std::tuple<std::array<std::size_t, most_clients>, ModelState>;
  std::set<Place> seen;
  std::vector<Place> open;
  open.emplace_back(std::array<std::size_t, most_clients>{}, before);
  std::set<ModelState> found;
  while (!open.empty()) {
    const Place place = open.back();
    open.pop_back();
    if (!seen.insert(place).second) continue;
    const auto& [at, state] = place;
    bool is_end = true;
    for (unsigned client = 0; client < most_clients; ++client) {
      const std::size_t index = at[client];
      if (index == outcomes[client].size() || outcomes[client][index] == Outcome::not_begun) continue;
      is_end = false;
      const Command& command = batch.clients[client][index];
      for (const ModelState& next : after_command(state, command, outcomes[client][index],
                                                  is_contested(batch, client, command), twist)) {
        auto then = at;
        ++then[client];
        open.emplace_back(then, next);
      }
    }
    if (is_end) found.insert(state);
  }
  return found;
}

// --- scripts ---

Script random_script(std::uint64_t seed, unsigned commands) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t limit) { return static_cast<unsigned>(random() % limit); };
  unsigned total = 0;
  for (const Word& word : words) total += word.weight;
  const auto any_command = [&] {
    unsigned left = below(total);
    const Word* word = words;
    for (; left >= word->weight; ++word) left -= word->weight;
    Command command{.verb = word->verb};
    command.object = below(is_of_volume(command.verb)  ? volume_count
                           : is_of_image(command.verb) ? image_count
                                                       : vm_count);
    if (command.verb == create && below(3) == 0) command.on = below(volume_count);
    if (command.verb == mark) command.value = 1 + below(9);
    if (is_of_volume(command.verb)) command.value = 1 + below(4);
    return command;
  };
  Script script;
  for (unsigned made = 0; made < commands;) {
    Batch batch;
    // Half of the time one client is alone, and is held to all rules.
    const unsigned clients = below(2) == 0 ? 1 : most_clients;
    for (unsigned client = 0; client < clients; ++client)
      for (unsigned count = 1 + below(clients == 1 ? 6 : 3); count > 0 && made < commands; --count, ++made)
        batch.clients[client].push_back(any_command());
    if (below(3) == 0) batch.kill_at = 1 + below(30);
    if (batch.kill_at != 0 && below(3) == 0) batch.kill_again = 1 + below(6);
    script.push_back(std::move(batch));
  }
  return script;
}

unsigned commands_in(const Script& script) {
  std::size_t count = 0;
  for (const Batch& batch : script)
    for (const auto& client : batch.clients) count += client.size();
  return static_cast<unsigned>(count);
}

std::string text_of(const Script& script) {
  std::ostringstream text;
  for (const Batch& batch : script) {
    text << "batch " << batch.kill_at << ' ' << batch.kill_again << '\n';
    for (unsigned client = 0; client < most_clients; ++client)
      for (const Command& each : batch.clients[client]) {
        const auto word = std::find_if(std::begin(words), std::end(words),
                                       [&](const Word& known) { return known.verb == each.verb; });
        text << "  " << client << ' ' << word->text << ' ' << each.object << ' ' << each.value;
        if (each.on) text << ' ' << *each.on;
        text << "  # " << name_of(each) << '\n';
      }
  }
  return text.str();
}

Script script_of(const std::string& text) {
  Script script;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line.substr(0, line.find('#')));
    std::string first;
    if (!(fields >> first)) continue;
    if (first == "batch") {
      Batch& batch = script.emplace_back();
      if (fields >> batch.kill_at >> batch.kill_again) continue;
      throw std::runtime_error("no batch: " + line);
    }
    std::string verb;
    Command command;
    fields >> verb >> command.object >> command.value;
    const auto word = std::find_if(std::begin(words), std::end(words),
                                   [&](const Word& known) { return known.text == verb; });
    if (!fields || word == std::end(words) || first.size() != 1 || first[0] < '0' ||
        first[0] >= '0' + static_cast<char>(most_clients) || script.empty())
      throw std::runtime_error("no command: " + line);
    command.verb = word->verb;
    if (unsigned on = 0; fields >> on) command.on = on;
    script.back().clients.at(static_cast<std::size_t>(first[0] - '0')).push_back(command);
  }
  return script;
}

std::string text_of(const ModelState& state) {
  constexpr const char* runs[] = {"absent", "stopped", "running", "paused"};
  std::ostringstream text;
  for (unsigned i = 0; i < vm_count; ++i) {
    const ModelState::Vm& vm = state.vms[i];
    if (vm.run == Run::absent) continue;
    text << "vm" << i << ' ' << runs[static_cast<std::size_t>(vm.run)] << " mark " << vm.mark;
    if (vm.volume) text << " volume" << *vm.volume;
    text << "; ";
  }
  for (unsigned i = 0; i < volume_count; ++i)
    if (state.volumes[i]) text << "volume" << i << ' ' << *state.volumes[i] << "M; ";
  for (unsigned i = 0; i < image_count; ++i)
    if (state.images[i]) text << "image" << i << "; ";
  return text.str();
}

}  // namespace hum::testing
