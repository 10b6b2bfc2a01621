// SPDX-License-Identifier: Apache-2.0
#include "vmm/acpi/aml.h"

#include <cassert>
#include <string>

namespace hum::acpi {
namespace {

// Opcodes (ACPI 6.5, 20.2).
enum Op : std::uint8_t {
  op_zero = 0x00,
  op_one = 0x01,
  op_name = 0x08,
  op_byte = 0x0a,
  op_word = 0x0b,
  op_dword = 0x0c,
  op_string = 0x0d,
  op_qword = 0x0e,
  op_scope = 0x10,
  op_buffer = 0x11,
  op_package = 0x12,
  op_method = 0x14,
  op_dual_name = 0x2e,
  op_multi_name = 0x2f,
  op_extended = 0x5b,
  op_local0 = 0x60,
  op_argument0 = 0x68,
  op_store = 0x70,
  op_and = 0x7b,
  op_notify = 0x86,
  op_equal = 0x93,
  op_if = 0xa0,
  op_return = 0xa4,
  op_ones = 0xff,
};
// Second bytes after op_extended.
enum ExtendedOp : std::uint8_t { op_operation_region = 0x80, op_field = 0x81, op_device = 0x82 };

void append(Aml& to, const Aml& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void append_integer(Aml& to, std::uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

// A PkgLength field that says value (20.2.4).
Aml encode_length(std::uint64_t value) {
  if (value < 0x40) return {static_cast<std::uint8_t>(value)};
  unsigned more = 1;
  while (value >> (4 + 8 * more) != 0) ++more;
  assert(more <= 3);
  Aml out{static_cast<std::uint8_t>(more << 6 | (value & 0xf))};
  append_integer(out, value >> 4, more);
  return out;
}

// opcode, the length of the rest including the length's own bytes, body.
Aml with_length(const Aml& opcode, const Aml& body) {
  std::size_t own = 1;
  while (encode_length(body.size() + own).size() != own) ++own;
  return join({opcode, encode_length(body.size() + own), body});
}

Aml segment(std::string_view name) {
  assert(!name.empty() && name.size() <= 4);
  Aml out(name.begin(), name.end());
  out.resize(4, '_');
  return out;
}

// A NameString (20.2.2).
Aml path_name(std::string_view path) {
  Aml out;
  while (path.starts_with('\\') || path.starts_with('^')) {
    out.push_back(static_cast<std::uint8_t>(path.front()));
    path.remove_prefix(1);
  }
  Aml segments;
  while (!path.empty()) {
    const std::string_view name = path.substr(0, path.find('.'));
    append(segments, segment(name));
    path.remove_prefix(name.size() == path.size() ? name.size() : name.size() + 1);
  }
  const std::size_t count = segments.size() / 4;
  if (count == 0) {
    out.push_back(op_zero);
  } else if (count == 2) {
    out.push_back(op_dual_name);
  } else if (count > 2) {
    out.push_back(op_multi_name);
    out.push_back(static_cast<std::uint8_t>(count));
  }
  append(out, segments);
  return out;
}

enum class Space : std::uint8_t { memory = 0, io = 1 };

Aml operation_region(std::string_view path, Space space, std::uint64_t base, std::uint64_t length) {
  return join({{op_extended, op_operation_region},
               path_name(path),
               {static_cast<std::uint8_t>(space)},
               integer(base),
               integer(length)});
}

enum class Access : std::uint8_t { byte = 1, dword = 3 };

// Not locked; what a narrow write leaves is preserved (20.2.5.2).
Aml field_list(std::string_view region, Access access, std::initializer_list<Field> fields) {
  Aml body = join({path_name(region), {static_cast<std::uint8_t>(access)}});
  for (const Field& field : fields) {
    append(body, field.name.empty() ? Aml{0} : segment(field.name));
    append(body, encode_length(field.bits));
  }
  return with_length({op_extended, op_field}, body);
}

// An address space descriptor (6.4.3.5) with addresses of `bytes` bytes: a window that a bridge produces,
// both ends fixed.
struct Window {
  std::uint8_t tag;
  std::uint8_t type;
  std::uint8_t type_flags;
  unsigned bytes;
};
constexpr std::uint8_t type_memory = 0;
constexpr std::uint8_t type_io = 1;
constexpr std::uint8_t type_bus = 2;
constexpr std::uint8_t both_ends_fixed = 0x0c;
constexpr std::uint8_t read_write = 0x01;
constexpr std::uint8_t entire_range = 0x03;

Aml window_descriptor(const Window& window, std::uint64_t first, std::uint64_t last) {
  assert(first <= last);
  Aml out{window.tag};
  append_integer(out, 3 + 5 * window.bytes, 2);
  append(out, {window.type, both_ends_fixed, window.type_flags});
  for (const std::uint64_t field : {std::uint64_t{0}, first, last, std::uint64_t{0}, last - first + 1})
    append_integer(out, field, window.bytes);
  return out;
}

}  // namespace

Aml join(AmlList terms) {
  Aml out;
  for (const Aml& term : terms) append(out, term);
  return out;
}

Aml join(std::initializer_list<Aml> terms) {
  return join(AmlList(terms.begin(), terms.size()));
}

Aml integer(std::uint64_t value) {
  if (value == 0) return {op_zero};
  if (value == 1) return {op_one};
  if (value == UINT64_MAX) return {op_ones};
  Aml out;
  const auto encode = [&](Op op, unsigned bytes) {
    out.push_back(op);
    append_integer(out, value, bytes);
  };
  if (value <= UINT8_MAX) {
    encode(op_byte, 1);
  } else if (value <= UINT16_MAX) {
    encode(op_word, 2);
  } else if (value <= UINT32_MAX) {
    encode(op_dword, 4);
  } else {
    encode(op_qword, 8);
  }
  return out;
}

Aml string(std::string_view text) {
  Aml out{op_string};
  out.insert(out.end(), text.begin(), text.end());
  out.push_back(0);
  return out;
}

Aml buffer(std::span<const std::uint8_t> bytes) {
  return with_length({op_buffer}, join({integer(bytes.size()), Aml(bytes.begin(), bytes.end())}));
}

Aml package(std::initializer_list<Aml> elements) {
  assert(elements.size() <= UINT8_MAX);
  return with_length({op_package}, join({{static_cast<std::uint8_t>(elements.size())}, join(elements)}));
}

Aml eisa_id(std::string_view id) {
  assert(id.size() == 7);
  // Three letters of five bits and four hexadecimal digits, most significant byte first (19.6.38).
  std::uint32_t code = 0;
  for (const char letter : id.substr(0, 3)) code = code << 5 | static_cast<std::uint32_t>(letter - 'A' + 1);
  code = code << 16 | static_cast<std::uint32_t>(std::stoul(std::string(id.substr(3)), nullptr, 16));
  Aml out{op_dword};
  append_integer(out, __builtin_bswap32(code), 4);
  return out;
}

Aml name(std::string_view path, const Aml& value) {
  return join({{op_name}, path_name(path), value});
}

Aml scope(std::string_view path, std::initializer_list<Aml> terms) {
  return with_length({op_scope}, join({path_name(path), join(terms)}));
}

Aml device(std::string_view path, std::initializer_list<Aml> terms) {
  return with_length({op_extended, op_device}, join({path_name(path), join(terms)}));
}

Aml method(std::string_view path, unsigned arguments, bool serialized, std::initializer_list<Aml> terms) {
  assert(arguments <= 7);
  const auto flags = static_cast<std::uint8_t>(arguments | (serialized ? 0x08u : 0u));
  return with_length({op_method}, join({path_name(path), {flags}, join(terms)}));
}

Aml name_reference(std::string_view path) {
  return path_name(path);
}

Aml argument(unsigned number) {
  assert(number <= 6);
  return {static_cast<std::uint8_t>(op_argument0 + number)};
}

Aml local(unsigned number) {
  assert(number <= 7);
  return {static_cast<std::uint8_t>(op_local0 + number)};
}

Aml bit_and(const Aml& left, const Aml& right) {
  const Aml no_target{op_zero};
  return join({{op_and}, left, right, no_target});
}

Aml return_value(const Aml& value) {
  return join({{op_return}, value});
}

Aml notify(std::string_view path, std::uint8_t value) {
  return join({{op_notify}, path_name(path), integer(value)});
}

Aml if_true(const Aml& condition, std::initializer_list<Aml> then) {
  return with_length({op_if}, join({condition, join(then)}));
}

Aml if_equal(const Aml& left, const Aml& right, std::initializer_list<Aml> then) {
  return if_true(join({{op_equal}, left, right}), then);
}

Aml operation_region_io(std::string_view path, std::uint16_t port, std::uint8_t length) {
  return operation_region(path, Space::io, port, length);
}

Aml operation_region_memory(std::string_view path, std::uint64_t address, std::uint64_t length) {
  return operation_region(path, Space::memory, address, length);
}

Aml byte_field(std::string_view region, std::initializer_list<Field> fields) {
  return field_list(region, Access::byte, fields);
}

Aml dword_field(std::string_view region, std::initializer_list<Field> fields) {
  return field_list(region, Access::dword, fields);
}

Aml store(const Aml& value, const Aml& target) {
  return join({{op_store}, value, target});
}

Aml store(const Aml& value, std::string_view path) {
  return store(value, path_name(path));
}

Aml resources(std::initializer_list<Aml> descriptors) {
  // The end tag; a checksum of 0 means none (6.4.2.9).
  return buffer(join({join(descriptors), {0x79, 0x00}}));
}

Aml io_port(std::uint16_t base, std::uint8_t length) {
  constexpr std::uint8_t decodes_16_bits = 1;
  Aml out{0x47, decodes_16_bits};
  append_integer(out, base, 2);
  append_integer(out, base, 2);
  append(out, {1, length});
  return out;
}

Aml interrupt_edge(std::uint32_t gsi) {
  constexpr std::uint8_t consumer_edge_high_exclusive = 0x03;
  Aml out{0x89, 6, 0, consumer_edge_high_exclusive, 1};
  append_integer(out, gsi, 4);
  return out;
}

Aml memory32(std::uint32_t base, std::uint32_t length) {
  Aml out{0x86, 9, 0, read_write};
  append_integer(out, base, 4);
  append_integer(out, length, 4);
  return out;
}

Aml bus_range(std::uint16_t first, std::uint16_t last) {
  return window_descriptor({0x88, type_bus, 0, 2}, first, last);
}

Aml io_window(std::uint16_t first, std::uint16_t last) {
  assert(last - first != UINT16_MAX);
  return window_descriptor({0x88, type_io, entire_range, 2}, first, last);
}

Aml memory_window32(std::uint32_t first, std::uint32_t last) {
  return window_descriptor({0x87, type_memory, read_write, 4}, first, last);
}

Aml memory_window64(std::uint64_t first, std::uint64_t last) {
  return window_descriptor({0x8a, type_memory, read_write, 8}, first, last);
}

}  // namespace hum::acpi
