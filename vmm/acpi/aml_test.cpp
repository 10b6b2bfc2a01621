// SPDX-License-Identifier: Apache-2.0
#include "vmm/acpi/aml.h"

#include <algorithm>
#include <array>
#include <string>

#include "vmm/base/testing.h"

namespace hum::acpi {
namespace {

Aml repeat(std::size_t count, std::uint8_t byte) {
  return Aml(count, byte);
}

// The bytes of the PkgLength of a scope whose body, name included, has `size` bytes.
Aml length_of_scope(std::size_t size) {
  const Aml encoded = scope("ZZZZ", {repeat(size - 4, 0)});
  return Aml(encoded.begin() + 1, std::find(encoded.begin() + 1, encoded.end(), 'Z'));
}

}  // namespace

TEST_CASE("integers have the shortest encoding on both sides of each limit") {
  CHECK(integer(0) == Aml{0x00});
  CHECK(integer(1) == Aml{0x01});
  CHECK(integer(2) == Aml{0x0a, 0x02});
  CHECK(integer(0xff) == Aml{0x0a, 0xff});
  CHECK(integer(0x100) == Aml{0x0b, 0x00, 0x01});
  CHECK(integer(0xffff) == Aml{0x0b, 0xff, 0xff});
  CHECK(integer(0x10000) == Aml{0x0c, 0x00, 0x00, 0x01, 0x00});
  CHECK(integer(0xffffffff) == Aml{0x0c, 0xff, 0xff, 0xff, 0xff});
  CHECK(integer(0x100000000) == Aml{0x0e, 0, 0, 0, 0, 1, 0, 0, 0});
  CHECK(integer(UINT64_MAX - 1) == Aml{0x0e, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
  CHECK(integer(UINT64_MAX) == Aml{0xff});
}

TEST_CASE("strings end in a zero") {
  CHECK(string("QE1") == Aml{0x0d, 'Q', 'E', '1', 0x00});
  CHECK(string("") == Aml{0x0d, 0x00});
}

TEST_CASE("hardware identifiers are compressed") {
  CHECK(eisa_id("PNP0501") == Aml{0x0c, 0x41, 0xd0, 0x05, 0x01});
  CHECK(eisa_id("PNP0A08") == Aml{0x0c, 0x41, 0xd0, 0x0a, 0x08});
  CHECK(eisa_id("PNP0C0C") == Aml{0x0c, 0x41, 0xd0, 0x0c, 0x0c});
}

TEST_CASE("a length counts its own bytes and grows at 63, 4095 and 1048575") {
  CHECK(length_of_scope(62) == Aml{63});
  CHECK(length_of_scope(63) == Aml{0x41, 0x04});
  CHECK(length_of_scope(4093) == Aml{0x4f, 0xff});
  CHECK(length_of_scope(4094) == Aml{0x81, 0x00, 0x01});
  CHECK(length_of_scope(1048572) == Aml{0x8f, 0xff, 0xff});
  CHECK(length_of_scope(1048573) == Aml{0xc1, 0x00, 0x00, 0x01});
}

TEST_CASE("names are padded and paths have the prefix for their number of segments") {
  CHECK(name_reference("A") == Aml{'A', '_', '_', '_'});
  CHECK(name_reference("_SB_") == Aml{'_', 'S', 'B', '_'});
  CHECK(name_reference("\\") == Aml{'\\', 0x00});
  CHECK(name_reference("\\_SB") == Aml{'\\', '_', 'S', 'B', '_'});
  CHECK(name_reference("^^AB") == Aml{'^', '^', 'A', 'B', '_', '_'});
  CHECK(name_reference("\\_SB.PCI0") == Aml{'\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0'});
  CHECK(name_reference("A.B.C") == Aml{0x2f, 3, 'A', '_', '_', '_', 'B', '_', '_', '_', 'C', '_', '_', '_'});
}

TEST_CASE("buffers and packages carry their sizes") {
  CHECK(buffer(std::array<std::uint8_t, 2>{0xaa, 0xbb}) == Aml{0x11, 0x05, 0x0a, 0x02, 0xaa, 0xbb});
  CHECK(buffer({}) == Aml{0x11, 0x02, 0x00});
  CHECK(package({integer(5), integer(0)}) == Aml{0x12, 0x05, 0x02, 0x0a, 0x05, 0x00});
  CHECK(package({}) == Aml{0x12, 0x02, 0x00});
}

TEST_CASE("named objects") {
  CHECK(name("_UID", integer(1)) == Aml{0x08, '_', 'U', 'I', 'D', 0x01});
  CHECK(scope("\\_SB", {}) == Aml{0x10, 0x06, '\\', '_', 'S', 'B', '_'});
  CHECK(device("COM1", {integer(1)}) == Aml{0x5b, 0x82, 0x06, 'C', 'O', 'M', '1', 0x01});
  CHECK(method("_STA", 0, false, {return_value(integer(15))}) ==
        Aml{0x14, 0x09, '_', 'S', 'T', 'A', 0x00, 0xa4, 0x0a, 0x0f});
  CHECK(method("_EVT", 1, true, {}) == Aml{0x14, 0x06, '_', 'E', 'V', 'T', 0x09});
  CHECK(method("M", 7, false, {})[6] == 0x07);
}

TEST_CASE("statements") {
  CHECK(argument(0) == Aml{0x68});
  CHECK(argument(6) == Aml{0x6e});
  CHECK(local(0) == Aml{0x60});
  CHECK(local(7) == Aml{0x67});
  CHECK(bit_and(local(1), integer(4)) == Aml{0x7b, 0x61, 0x0a, 0x04, 0x00});
  CHECK(if_true(local(0), {return_value(integer(1))}) == Aml{0xa0, 0x04, 0x60, 0xa4, 0x01});
  CHECK(store(integer(1), local(2)) == Aml{0x70, 0x01, 0x62});
  CHECK(notify("PWRB", 0x80) == Aml{0x86, 'P', 'W', 'R', 'B', 0x0a, 0x80});
  CHECK(store(integer(1), "FLAG") == Aml{0x70, 0x01, 'F', 'L', 'A', 'G'});
  CHECK(if_equal(argument(0), integer(5), {return_value(integer(0))}) ==
        Aml{0xa0, 0x07, 0x93, 0x68, 0x0a, 0x05, 0xa4, 0x00});
}

TEST_CASE("operation regions and their fields") {
  CHECK(operation_region_io("REGN", 0x600, 4) ==
        Aml{0x5b, 0x80, 'R', 'E', 'G', 'N', 0x01, 0x0b, 0x00, 0x06, 0x0a, 0x04});
  CHECK(operation_region_memory("REGN", 0xfee00000, 0x1000) ==
        Aml{0x5b, 0x80, 'R', 'E', 'G', 'N', 0x00, 0x0c, 0x00, 0x00, 0xe0, 0xfe, 0x0b, 0x00, 0x10});
  CHECK(byte_field("REGN", {{"BIT0", 1}, {"", 63}, {"WIDE", 64}}) ==
        Aml{0x5b, 0x81, 0x13, 'R',  'E', 'G', 'N', 0x01, 'B',  'I', 'T',
            '0',  0x01, 0x00, 0x3f, 'W', 'I', 'D', 'E',  0x40, 0x04});
  CHECK(dword_field("REGN", {{"WORD", 32}}) ==
        Aml{0x5b, 0x81, 0x0b, 'R', 'E', 'G', 'N', 0x03, 'W', 'O', 'R', 'D', 0x20});
}

TEST_CASE("small and fixed resources") {
  CHECK(resources({}) == Aml{0x11, 0x05, 0x0a, 0x02, 0x79, 0x00});
  CHECK(io_port(0x3f8, 8) == Aml{0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08});
  CHECK(interrupt_edge(0x104) == Aml{0x89, 0x06, 0x00, 0x03, 0x01, 0x04, 0x01, 0x00, 0x00});
  CHECK(memory32(0xd0000000, 0x200) ==
        Aml{0x86, 0x09, 0x00, 0x01, 0x00, 0x00, 0x00, 0xd0, 0x00, 0x02, 0x00, 0x00});
  CHECK(resources({io_port(0x70, 2)}) ==
        Aml{0x11, 0x0d, 0x0a, 0x0a, 0x47, 0x01, 0x70, 0x00, 0x70, 0x00, 0x01, 0x02, 0x79, 0x00});
}

TEST_CASE("windows of a bridge") {
  CHECK(bus_range(0, 255) ==
        Aml{0x88, 0x0d, 0x00, 0x02, 0x0c, 0x00, 0, 0, 0, 0, 0xff, 0x00, 0, 0, 0x00, 0x01});
  CHECK(io_window(0x1000, 0xffff) ==
        Aml{0x88, 0x0d, 0x00, 0x01, 0x0c, 0x03, 0, 0, 0x00, 0x10, 0xff, 0xff, 0, 0, 0x00, 0xf0});
  CHECK(memory_window32(0xc0000000, 0xdfffffff) == Aml{0x87, 0x17, 0x00, 0x00, 0x0c, 0x01, 0,    0,    0,
                                                       0,    0,    0,    0,    0xc0, 0xff, 0xff, 0xff, 0xdf,
                                                       0,    0,    0,    0,    0,    0,    0,    0x20});
  CHECK(memory_window64(0x4000000000, 0x7fffffffff) ==
        Aml{0x8a, 0x2b, 0x00, 0x00, 0x0c, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0,    0, 0, 0xff,
            0xff, 0xff, 0xff, 0x7f, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0x40, 0, 0, 0});
}

TEST_CASE("terms are joined in order") {
  const std::array<Aml, 3> list{Aml{1}, Aml{}, Aml{2, 3}};
  CHECK(join(list) == Aml{1, 2, 3});
  CHECK(join({{1}, {2, 3}}) == Aml{1, 2, 3});
  CHECK(join({}) == Aml{});
}

}  // namespace hum::acpi
