// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/state.h"

#include <cassert>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

// A field is two lengths, the name and the bytes; the end is a field without a name.
struct FieldHeader {
  le16 name_size;
  le16 reserved;
  le32 size;
};
static_assert(sizeof(FieldHeader) == 8);

struct Header {
  le64 magic;
  le32 version;
  le32 reserved;
};
static_assert(sizeof(Header) == 16);

constexpr std::uint64_t magic = 0x65746174736d7568;  // "humstate"
constexpr std::uint32_t version = 1;

ConfigError wrong(const std::string& what, const std::string& problem) {
  return {"state", what, problem, "use a state that this version wrote for a machine of this configuration"};
}

void append(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

std::span<const std::byte> take(std::span<const std::byte>& from, std::size_t size) {
  if (from.size() < size) throw wrong("", "is cut short");
  const std::span<const std::byte> taken = from.first(size);
  from = from.subspan(size);
  return taken;
}

template <class T>
T take(std::span<const std::byte>& from) {
  T object;
  std::memcpy(&object, take(from, sizeof object).data(), sizeof object);
  return object;
}

}  // namespace

bool StateVisitor::flag_of(std::string_view name, bool now) {
  return checked<std::uint8_t>(name, now ? 1 : 0, 1) != 0;
}

bool StateVisitor::flag(std::string_view name, bool& value) {
  const bool then = flag_of(name, value);
  afterwards([&value, then] { value = then; });
  return then;
}

bool StateVisitor::flag(std::string_view name, std::atomic<bool>& value) {
  const bool then = flag_of(name, value.load());
  afterwards([&value, then] { value.store(then); });
  return then;
}

std::span<const std::byte> StateVisitor::bytes(std::string_view name, std::span<std::byte> value) {
  const std::span<const std::byte> then = visit(name, value, Size::fixed);
  afterwards([value, then] {
    if (!value.empty()) std::memmove(value.data(), then.data(), value.size());
  });
  return then;
}

void StateVisitor::same(std::string_view name, std::uint64_t value) {
  const auto then = load_le(visit(name, bytes_of(value), Size::fixed));
  require(then == value, name,
          "is " + std::to_string(then) + " in the state and " + std::to_string(value) + " in this machine");
}

void StateVisitor::same(std::string_view name, std::string_view value) {
  const auto here = std::as_bytes(std::span(value));
  const std::span<const std::byte> then = visit(name, here, Size::any);
  require(std::equal(then.begin(), then.end(), here.begin(), here.end()), name,
          "is not '" + std::string(value) + "', as in this machine");
}

void StateVisitor::refuse(std::string_view name, std::string_view problem) const {
  throw wrong(full_name(name), std::string(problem));
}

StateWriter::StateWriter() {
  append(state_, bytes_of(Header{magic, version, 0}));
}

std::span<const std::byte> StateWriter::visit(std::string_view name, std::span<const std::byte> now,
                                              Size /*size*/) {
  const std::string full = full_name(name);
  assert(!full.empty() && full.size() <= UINT16_MAX && now.size() <= UINT32_MAX);
  append(state_, bytes_of(FieldHeader{static_cast<std::uint16_t>(full.size()), 0,
                                      static_cast<std::uint32_t>(now.size())}));
  append(state_, std::as_bytes(std::span(full)));
  append(state_, now);
  return now;
}

std::vector<std::byte> StateWriter::finish() && {
  append(state_, bytes_of(FieldHeader{0, 0, 0}));
  return std::move(state_);
}

StateReader::StateReader(std::span<const std::byte> state) {
  const auto header = take<Header>(state);
  if (header.magic != magic || header.reserved != 0) throw wrong("", "is not the state of a machine");
  if (header.version != version)
    throw wrong(
        "", "has the version " + std::to_string(header.version) + ", known is " + std::to_string(version));
  while (true) {
    const auto field = take<FieldHeader>(state);
    if (field.reserved != 0 || (field.name_size == 0 && field.size != 0)) throw wrong("", "is damaged");
    const std::span<const std::byte> name = take(state, field.name_size);
    const std::span<const std::byte> bytes = take(state, field.size);
    if (name.empty()) break;
    const std::string key(reinterpret_cast<const char*>(name.data()), name.size());
    if (!fields_.emplace(key, bytes).second) throw wrong(key, "is there twice");
  }
  if (!state.empty()) throw wrong("", "goes on after its end");
}

std::span<const std::byte> StateReader::visit(std::string_view name, std::span<const std::byte> now,
                                              Size size) {
  const auto found = fields_.find(full_name(name));
  if (found == fields_.end()) refuse(name, "is missing");
  const std::span<const std::byte> bytes = found->second;
  if (size == Size::fixed && bytes.size() != now.size())
    refuse(name,
           "has " + std::to_string(bytes.size()) + " bytes, expected are " + std::to_string(now.size()));
  fields_.erase(found);
  return bytes;
}

void StateReader::finish() {
  if (!fields_.empty()) throw wrong(fields_.begin()->first, "is unknown");
  for (const std::function<void()>& work : work_) work();
  work_.clear();
}

}  // namespace hum
