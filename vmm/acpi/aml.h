// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

// Builders for the ACPI Machine Language (ACPI 6.5, chapter 20). Each function returns encoded bytes, so a
// node is written as an expression; terms are concatenated by the functions that take lists.
namespace hum::acpi {

using Aml = std::vector<std::uint8_t>;
using AmlList = std::span<const Aml>;

Aml join(std::initializer_list<Aml> terms);
Aml join(AmlList terms);

// Data objects. Integers use the shortest encoding.
Aml integer(std::uint64_t value);
Aml string(std::string_view text);
Aml buffer(std::span<const std::uint8_t> bytes);
Aml package(std::initializer_list<Aml> elements);
// "PNP0501" as a compressed EISA identifier integer.
Aml eisa_id(std::string_view id);

// Named objects. A name is one to four characters (padded with '_') or a path: "\\_SB_.PCI0".
Aml name(std::string_view path, const Aml& value);
Aml scope(std::string_view path, std::initializer_list<Aml> terms);
Aml device(std::string_view path, std::initializer_list<Aml> terms);
Aml method(std::string_view path, unsigned arguments, bool serialized, std::initializer_list<Aml> terms);

// Statements and expressions.
Aml name_reference(std::string_view path);
Aml argument(unsigned number);  // Arg0 to Arg6
Aml local(unsigned number);     // Local0 to Local7
Aml bit_and(const Aml& left, const Aml& right);
Aml return_value(const Aml& value);
Aml notify(std::string_view path, std::uint8_t value);
Aml if_true(const Aml& condition, std::initializer_list<Aml> then);
Aml if_equal(const Aml& left, const Aml& right, std::initializer_list<Aml> then);
Aml operation_region_io(std::string_view path, std::uint16_t port, std::uint8_t length);
Aml operation_region_memory(std::string_view path, std::uint64_t address, std::uint64_t length);
struct Field {
  std::string_view name;  // empty: reserved bits
  unsigned bits;
};
// Fields that follow each other, reached by accesses of one byte or of four.
Aml byte_field(std::string_view region, std::initializer_list<Field> fields);
Aml dword_field(std::string_view region, std::initializer_list<Field> fields);
Aml store(const Aml& value, const Aml& target);
Aml store(const Aml& value, std::string_view path);

// Resource descriptors, to be wrapped by resources() into a buffer with an end tag (ACPI 6.5, 6.4).
Aml resources(std::initializer_list<Aml> descriptors);
Aml io_port(std::uint16_t base, std::uint8_t length);
Aml interrupt_edge(std::uint32_t gsi);  // extended, edge, active high, exclusive
Aml memory32(std::uint32_t base, std::uint32_t length);
Aml bus_range(std::uint16_t first, std::uint16_t last);
Aml io_window(std::uint16_t first, std::uint16_t last);  // not all 64 KiB: the length has 16 bits
Aml memory_window32(std::uint32_t first, std::uint32_t last);
Aml memory_window64(std::uint64_t first, std::uint64_t last);

}  // namespace hum::acpi
