// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/options.h"

#include <array>
#include <stdexcept>
#include <string>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

constexpr std::array table{
    OptionSpec{.key = "path", .type = OptionType::text, .help = "", .required = true},
    OptionSpec{.key = "readonly", .type = OptionType::boolean, .help = "", .default_value = "off"},
    OptionSpec{.key = "queues", .type = OptionType::integer, .help = "", .minimum = 1, .maximum = 8},
    OptionSpec{.key = "cache",
               .type = OptionType::size,
               .help = "",
               .default_value = "1M",
               .minimum = 4096,
               .maximum = 1 << 30},
    OptionSpec{.key = "bus",
               .type = OptionType::choice,
               .help = "",
               .default_value = "pci",
               .choices = "pci|mmio|none"},
    OptionSpec{.key = "ops", .type = OptionType::limit, .help = "", .default_value = "off", .live = true},
    OptionSpec{.key = "note", .type = OptionType::text, .help = "", .live = true},
};

OptionValues parse(std::string_view text) {
  return OptionValues::parse("disk", table, text);
}

// The message of the ConfigError that reading the text throws.
std::string refusal(std::string_view text) {
  try {
    parse(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

bool says(const std::string& message, std::string_view part) {
  return message.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the first word is the first option's value and defaults fill the rest") {
  const OptionValues values = parse("a.img");
  CHECK(values.text("path") == "a.img");
  CHECK_FALSE(values.flag("readonly"));
  CHECK(values.number("cache") == 1 << 20);
  CHECK(values.text("bus") == "pci");
  CHECK_FALSE(values.has("queues"));
  CHECK(values.what() == "disk");
}

TEST_CASE("the first word may be any key too, or a value with '=' in it") {
  CHECK(parse("queues=2,path=a.img").number("queues") == 2);
  CHECK(parse("readonly,path=a.img").flag("readonly"));
  CHECK(parse("/tmp/x=y.img").text("path") == "/tmp/x=y.img");
  CHECK(parse("path=x=y").text("path") == "x=y");
}

TEST_CASE("a bare boolean key means on, any other key needs a value") {
  CHECK(parse("a.img,readonly").flag("readonly"));
  CHECK(says(refusal("a.img,queues"), "disk.queues"));
  CHECK(says(refusal("a.img,bus"), "pci, mmio or none"));
  CHECK(says(refusal("readonly,path"), "disk.path"));
}

TEST_CASE("a doubled comma stands for a comma in a value") {
  CHECK(parse("a,,b.img,readonly").text("path") == "a,b.img");
  CHECK(parse("a.img,,").text("path") == "a.img,");
  CHECK(parse("a.img,,,readonly").flag("readonly"));
}

TEST_CASE("an unknown key is refused with the known ones, a key given twice too") {
  const std::string message = refusal("a.img,size=4");
  CHECK(says(message, "disk 'size'"));
  CHECK(says(message, "path, readonly, queues, cache, bus"));
  CHECK(says(refusal("a.img,"), "unknown"));
  CHECK(says(refusal("a.img,path=b.img"), "given twice"));
  CHECK(says(refusal("a.img,readonly=off,readonly"), "given twice"));
  CHECK_THROWS_AS(OptionValues::parse("rng", {}, "x"), ConfigError);
  CHECK_FALSE(OptionValues::parse("rng", {}, "").has("x"));
}

TEST_CASE("a missing required key is named") {
  CHECK(says(refusal("readonly"), "'path' is missing"));
  CHECK(says(refusal(""), "'path' is missing"));
}

TEST_CASE("numbers are accepted inside their limits only") {
  CHECK(parse("a,queues=1").number("queues") == 1);
  CHECK(parse("a,queues=8").number("queues") == 8);
  CHECK(parse("a,queues=0x8").number("queues") == 8);
  for (const char* bad : {"0", "9", "", "-1", "+1", " 1", "1 ", "1k", "0x", "99999999999999999999"}) {
    CAPTURE(bad);
    CHECK(says(refusal("a,queues=" + std::string(bad)), "a whole number from 1 to 8"));
  }
}

TEST_CASE("booleans take on, true, yes and their opposites and nothing else") {
  for (const char* yes : {"on", "true", "yes"})
    CHECK(parse("a,readonly=" + std::string(yes)).flag("readonly"));
  for (const char* no : {"off", "false", "no"})
    CHECK_FALSE(parse("a,readonly=" + std::string(no)).flag("readonly"));
  for (const char* bad : {"", "1", "ON", "onn"})
    CHECK(says(refusal("a,readonly=" + std::string(bad)), "on or off"));
}

TEST_CASE("a choice takes exactly what the row lists") {
  CHECK(parse("a,bus=pci").text("bus") == "pci");
  CHECK(parse("a,bus=none").text("bus") == "none");
  for (const char* bad : {"", "pc", "pci|mmio", "PCI"})
    CHECK(says(refusal("a,bus=" + std::string(bad)), "pci, mmio or none"));
}

TEST_CASE("sizes have binary units, in either case, with an optional iB or B") {
  CHECK(parse_size("m", "0") == 0);
  CHECK(parse_size("m", "4096") == 4096);
  CHECK(parse_size("m", "1024K") == 1 << 20);
  CHECK(parse_size("m", "256m") == 256u << 20);
  CHECK(parse_size("m", "5GiB") == 5ull << 30);
  CHECK(parse_size("m", "5GB") == 5ull << 30);
  CHECK(parse_size("m", "16777215T") == 16777215ull << 40);
  for (const char* bad : {"", "M", "1X", "1MM", "1Mi", "1iB", "1BiB", "1MiBB", "-1", "1.5G", " 1", "0x10",
                          "16777216T", "18446744073709551616"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(parse_size("m", bad), ConfigError);
  }
}

TEST_CASE("a size option is accepted inside its limits only") {
  CHECK(parse("a,cache=4K").number("cache") == 4096);
  CHECK(parse("a,cache=1G").number("cache") == 1 << 30);
  CHECK(says(refusal("a,cache=4095"), "a size from 4K to 1G"));
  CHECK(says(refusal("a,cache=1073741825"), "a size from 4K to 1G"));
}

TEST_CASE("a size is shown with the largest unit that divides it") {
  CHECK(format_size(0) == "0");
  CHECK(format_size(1023) == "1023");
  CHECK(format_size(1024) == "1K");
  CHECK(format_size(1536) == "1536");
  CHECK(format_size(1536u << 10) == "1536K");
  CHECK(format_size(256u << 20) == "256M");
  CHECK(format_size(1ull << 40) == "1T");
  CHECK(format_size(1ull << 50) == "1024T");
}

TEST_CASE("what a row accepts is described from the row") {
  CHECK(describe_accepted({.key = "a", .type = OptionType::text, .help = ""}) == "text");
  CHECK(describe_accepted({.key = "a", .type = OptionType::integer, .help = ""}) == "a whole number");
  CHECK(describe_accepted({.key = "a", .type = OptionType::integer, .help = "", .minimum = 3}) ==
        "a whole number of at least 3");
  CHECK(describe_accepted({.key = "a", .type = OptionType::choice, .help = "", .choices = "x"}) == "x");
  CHECK(describe_accepted({.key = "a", .type = OptionType::choice, .help = "", .choices = "x|y"}) ==
        "x or y");
}

TEST_CASE("a limit is a size, a time in milliseconds and a burst") {
  const auto limit = [](const std::string& text) { return parse("a,ops=" + text).limit("ops"); };
  CHECK(parse("a").limit("ops") == TokenBucketLimit{});
  CHECK(limit("off") == TokenBucketLimit{});
  CHECK(limit("5000") == TokenBucketLimit{5000, 1000, 0});
  CHECK(limit("10M/100") == TokenBucketLimit{10 << 20, 100, 0});
  CHECK(limit("10M+1G") == TokenBucketLimit{10 << 20, 1000, 1 << 30});
  CHECK(limit("1/1+0") == TokenBucketLimit{1, 1, 0});
  for (const char* bad : {"", "0", "on", "-1", "5/", "5/0", "/100", "5+", "+5", "5+1/100", "5/1M", "5 "})
    CHECK_THROWS_AS(limit(bad), ConfigError);
}

TEST_CASE("changes take the place of values, for keys that may change while the VM runs") {
  const OptionValues before = parse("a.img,queues=2,note=old");
  const OptionValues after = before.changed("disk1", "ops=7,note=a,,b");
  CHECK(after.limit("ops").size == 7);
  CHECK(after.text("note") == "a,b");
  CHECK(after.text("path") == "a.img");
  CHECK(after.number("queues") == 2);
  CHECK(before.limit("ops").size == 0);
  for (const char* bad : {"queues=2", "ops=7,queues=2", "b.img", "ops=x", "ops=1,ops=2", "unknown=1"})
    CHECK_THROWS_AS(before.changed("disk1", bad), ConfigError);
  try {
    before.changed("disk1", "queues=2");
  } catch (const ConfigError& error) {
    CHECK(std::string(error.what()).find("disk1") != std::string::npos);
    CHECK(std::string(error.what()).find("ops, note") != std::string::npos);
  }
}

TEST_CASE("set replaces a value with the checks of parse") {
  OptionValues values = parse("a.img");
  values.set("readonly", "on");
  CHECK(values.flag("readonly"));
  values.set("readonly", "off");
  CHECK_FALSE(values.flag("readonly"));
  CHECK_THROWS_AS(values.set("queues", "9"), ConfigError);
  CHECK_THROWS_AS(values.set("size", "9"), ConfigError);
  CHECK_FALSE(values.has("queues"));
}

TEST_CASE("a value is written as text that is taken again") {
  static constexpr OptionSpec rows[] = {
      {.key = "path", .help = ""},
      {.key = "count", .type = OptionType::integer, .help = ""},
      {.key = "fast", .type = OptionType::boolean, .help = ""},
      {.key = "ops", .type = OptionType::limit, .help = ""},
      {.key = "none", .help = ""},
  };
  for (const char* const limit : {"off", "1048576/1000", "7/20+9"}) {
    OptionValues values = OptionValues::parse("thing", rows, "path=a,,b,count=12,fast=off");
    values.set("ops", limit);
    CHECK(values.written("path") == "a,b");
    CHECK(values.written("count") == "12");
    CHECK(values.written("fast") == "off");
    CHECK(values.written("ops") == limit);
    CHECK_FALSE(values.written("none"));
    CHECK(values.written() == "path=a,,b,count=12,fast=off,ops=" + std::string(limit));
    CHECK(OptionValues::parse("thing", rows, values.written()).written() == values.written());
    values.set("path", ",a=,");
    CHECK(OptionValues::parse("thing", rows, values.written()).text("path") == ",a=,");
  }
  CHECK(OptionValues::parse("thing", rows, "").written().empty());
}

TEST_CASE("asking for a value that is not there, or as another type, is a logic error") {
  const OptionValues values = parse("a.img");
  CHECK_THROWS_AS(values.number("queues"), std::logic_error);
  CHECK_THROWS_AS(values.text("nothing"), std::logic_error);
  CHECK_THROWS_AS(values.number("path"), std::logic_error);
  CHECK_THROWS_AS(values.flag("cache"), std::logic_error);
}

}  // namespace hum
