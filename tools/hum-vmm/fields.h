// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/errors.h"

namespace hum {

enum class FieldType : std::uint8_t {
  text,
  boolean,
  integer,
  choice,
  texts,    // a list
  objects,  // a list of objects, whose fields are not checked here
  limiter,  // {"bandwidth": BUCKET, "ops": BUCKET}, a BUCKET {"size", "refill_time", "one_time_burst"}
  bucket,
  texts_by_name,  // an object
  values,         // an object whose values are texts, whole numbers or booleans
};

// One field of an object in the dialect, and the option of ours that it stands for. Such tables are read in
// both directions, and nothing else knows the names; the option's own table checks the value.
struct Field {
  std::string_view name;
  FieldType type = FieldType::text;
  bool required = false;
  std::string_view key = {};      // of our option; of a limiter: what stands before bandwidth and ops
  std::string_view choices = {};  // of a choice: "Unsafe=unsafe|Writeback", with our word where it is another
  std::string_view unit = {};     // behind an integer in our words: "M"
  std::uint64_t minimum = 0;
  std::uint64_t maximum = UINT32_MAX;
  std::string_view alias = {};  // another spelling that clients use
  bool deprecated = false;
};

// A request's or a file's text as JSON. Throws ConfigError: no JSON, or a name twice in an object.
nlohmann::json parse_json(std::string_view text);

// The object in the names of the table, without what is null. Throws ConfigError with the field's name: the
// value is no object; a field is unknown, missing, given twice by two spellings, of another type or out of
// range.
nlohmann::json checked_fields(std::string_view what, std::span<const Field> table,
                              const nlohmann::json& value);

bool has_deprecated(std::span<const Field> table, const nlohmann::json& checked);

// An error of an option of ours, whose name is behind the key's last point, by the name of the field that
// stands for it: "drives.path_on_host" for "disk0.path". As it is where no field does.
ConfigError in_fields(std::string_view what, std::span<const Field> table, const ConfigError& error);

// A value as it stands in option text: a comma is written twice.
std::string escaped_option(std::string_view value);

// What a checked object says in our words: "path=root.img,readonly=on".
std::string option_text(std::span<const Field> table, const nlohmann::json& checked);

}  // namespace hum
