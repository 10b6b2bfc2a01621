// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "vmm/base/token_bucket.h"

namespace hum {

enum class OptionType : std::uint8_t {
  text,
  integer,
  boolean,
  size,
  choice,
  limit,  // "off" or SIZE[/MILLISECONDS][+BURST]: a token bucket, of one second where no time is given
};

// One row of a table of options. The command line, help, completion and errors all come from such tables.
struct OptionSpec {
  std::string_view key;
  OptionType type = OptionType::text;
  std::string_view help;
  std::string_view default_value = {};  // as text; empty: no default
  bool required = false;
  std::uint64_t minimum = 0;  // integer and size (bytes)
  std::uint64_t maximum = UINT64_MAX;
  std::string_view choices = {};  // choice: "pci|mmio"
  bool live = false;              // may be changed while the VM runs
};

using OptionValue = std::variant<std::string, std::uint64_t, bool, TokenBucketLimit>;

// The checked values of one table: every key with a default has a value.
class OptionValues {
 public:
  // Reads "value,key=value,key,...": a first word that names no key is the value of the table's first option,
  // a bare boolean key means on, ",," stands for a comma in a value. `what` names the option in errors
  // ("disk" gives "disk.readonly"). Throws ConfigError: unknown key (lists the known), key given twice, bad
  // value (says what is accepted), required key missing.
  static OptionValues parse(std::string_view what, std::span<const OptionSpec> table, std::string_view text);

  // Sets one value from text, in place of the one it has, with the checks of parse.
  void set(std::string_view key, std::string_view text);

  // These values with those in the text in their place: "key=value,key,...". what names the device in errors.
  // Throws ConfigError as parse does, and for a key that cannot be changed while the VM runs.
  OptionValues changed(std::string_view what, std::string_view text) const;

  bool has(std::string_view key) const { return values_.contains(key); }
  // The value of a key that has one; asking for the wrong type or for a key without value is a
  // programmer's mistake (std::logic_error).
  const std::string& text(std::string_view key) const;
  std::uint64_t number(std::string_view key) const;
  bool flag(std::string_view key) const;
  const TokenBucketLimit& limit(std::string_view key) const;

  std::string_view what() const { return what_; }
  std::span<const OptionSpec> table() const { return table_; }
  // A value as text that set takes; of a key without one: nothing.
  std::optional<std::string> written(std::string_view key) const;
  // All of them, as text that parse takes.
  std::string written() const;

 private:
  OptionValues(std::string_view what, std::span<const OptionSpec> table) : what_(what), table_(table) {}

  // The values that the text gives, and no defaults.
  static OptionValues given(std::string_view what, std::span<const OptionSpec> table, std::string_view text);

  std::string what_;
  std::span<const OptionSpec> table_;
  std::map<std::string, OptionValue, std::less<>> values_;
};

// Checks one text against one row. `what` is the full name for errors. Throws ConfigError.
OptionValue parse_option(std::string_view what, const OptionSpec& spec, std::string_view text);

// "256M", "5G", "1024K", "4096" (bytes); binary units, suffixes K M G T with an optional iB or B. Throws
// ConfigError.
std::uint64_t parse_size(std::string_view what, std::string_view text);

// What a row accepts, for help and errors: "on or off", "pci or mmio", "a size from 128M to 1T".
std::string describe_accepted(const OptionSpec& spec);

// 268435456 -> "256M"; a count that is no whole K stays bytes.
std::string format_size(std::uint64_t bytes);

}  // namespace hum
