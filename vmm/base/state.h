// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/endian.h"

namespace hum {

// What a class with state shows its fields to, in its one function fields(StateVisitor&): the same visit
// writes the state and reads it back. A field is known by its name and those of the sections around it
// ("disk0.queue0.size"), so their order does not matter.
//
// Reading back is all or nothing: the visit only checks, and each value lands in its field when the whole
// state was found sound (StateReader::finish). What a check across fields needs is therefore taken from what
// the functions here return: the value that the field has, or is going to have. A state is untrusted:
// whatever is wrong with it throws ConfigError with the field's full name; writing checks the same. Belongs
// to one thread.
class StateVisitor {
 public:
  virtual ~StateVisitor() = default;

  virtual bool reading() const = 0;

  // Runs visit with the fields it shows under this name.
  template <class Visit>
  void section(std::string_view name, Visit&& visit) {
    const std::size_t outer = path_.size();
    path_.append(name).push_back('.');
    visit();
    path_.resize(outer);
  }
  template <class Visit>
  void section(std::string_view name, std::size_t number, Visit&& visit) {
    section(std::string(name) + std::to_string(number), visit);
  }

  // A number of at most `most`.
  template <std::unsigned_integral T>
  T number(std::string_view name, T& value, std::type_identity_t<T> most = std::numeric_limits<T>::max()) {
    const T then = checked(name, value, most);
    afterwards([&value, then] { value = then; });
    return then;
  }
  template <std::unsigned_integral T>
  T number(std::string_view name, std::atomic<T>& value,
           std::type_identity_t<T> most = std::numeric_limits<T>::max()) {
    const T then = checked(name, value.load(), most);
    afterwards([&value, then] { value.store(then); });
    return then;
  }
  // The same for what is kept elsewhere: the caller sees to it that it becomes what is returned.
  bool flag_of(std::string_view name, bool now);
  bool flag(std::string_view name, bool& value);
  bool flag(std::string_view name, std::atomic<bool>& value);

  // So many bytes, no more and no less.
  std::span<const std::byte> bytes(std::string_view name, std::span<std::byte> value);
  // Up to `most` entries without pointers.
  template <class T>
  std::vector<T> list(std::string_view name, std::vector<T>& value, std::size_t most) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::span<const std::byte> found = visit(name, std::as_bytes(std::span(value)), Size::any);
    require(found.size() % sizeof(T) == 0 && found.size() / sizeof(T) <= most, name,
            "is no list of this kind");
    std::vector<T> then(found.size() / sizeof(T));
    if (!then.empty()) std::memcpy(then.data(), found.data(), found.size());
    afterwards([&value, then] { value = then; });
    return then;
  }
  // What is the same in the machine that is written and in the one that reads: its configuration.
  void same(std::string_view name, std::uint64_t value);
  void same(std::string_view name, std::string_view value);

  // Refuses the state unless this holds.
  void require(bool holds, std::string_view name, std::string_view problem) const {
    if (!holds) refuse(name, problem);
  }
  [[noreturn]] void refuse(std::string_view name, std::string_view problem) const;

  // When a state is read back: runs after all of it was found sound, in the order of these calls and of the
  // fields. Nothing otherwise. May throw only where the host refuses.
  virtual void afterwards(std::function<void()> work) = 0;

 protected:
  enum class Size : std::uint8_t { fixed, any };
  // Shows a field's bytes and returns those that it shall have, which stay valid as long as the visitor.
  virtual std::span<const std::byte> visit(std::string_view name, std::span<const std::byte> now,
                                           Size size) = 0;
  std::string full_name(std::string_view name) const { return path_ + std::string(name); }

 private:
  template <class T>
  T checked(std::string_view name, T now, T most) {
    T then;
    std::memcpy(&then, visit(name, bytes_of(now), Size::fixed).data(), sizeof then);
    if (then > most) refuse(name, "is " + std::to_string(then) + ", more than " + std::to_string(most));
    return then;
  }

  std::string path_;  // of the sections around, with a dot behind each
};

// Writes a state: a header with a version, the fields (name and bytes, little-endian), and an end.
class StateWriter final : public StateVisitor {
 public:
  StateWriter();

  bool reading() const override { return false; }
  void afterwards(std::function<void()> /*work*/) override {}
  // The whole of it, once.
  std::vector<std::byte> finish() &&;

 protected:
  std::span<const std::byte> visit(std::string_view name, std::span<const std::byte> now, Size size) override;

 private:
  std::vector<std::byte> state_;
};

// Reads back what a StateWriter wrote, or anything else that pretends to be that.
class StateReader final : public StateVisitor {
 public:
  // Takes the state apart; it stays unchanged as long as this lives. Throws ConfigError where it is no whole
  // state of this version.
  explicit StateReader(std::span<const std::byte> state);

  bool reading() const override { return true; }
  void afterwards(std::function<void()> work) override { work_.push_back(std::move(work)); }
  // To be called when all was visited: throws ConfigError if the state has fields that nobody knows, and then
  // gives every field its value.
  void finish();

 protected:
  std::span<const std::byte> visit(std::string_view name, std::span<const std::byte> now, Size size) override;

 private:
  std::map<std::string, std::span<const std::byte>, std::less<>> fields_;  // not yet visited
  std::vector<std::function<void()>> work_;
};

// For tests, and for whole classes of which one is to continue where another stopped.
template <class Source>
std::vector<std::byte> state_of(Source& source) {
  StateWriter writer;
  source.fields(writer);
  return std::move(writer).finish();
}
template <class Target>
void restore(Target& target, std::span<const std::byte> state) {
  StateReader reader(state);
  target.fields(reader);
  reader.finish();
}

}  // namespace hum
