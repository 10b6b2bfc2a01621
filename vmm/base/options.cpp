// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/options.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <stdexcept>
#include <vector>

#include "vmm/base/errors.h"

namespace hum {
namespace {

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    text.remove_prefix(2);
    base = 16;
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_size_text(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto count = parse_number(text.substr(0, digits));
  if (!count) return std::nullopt;
  std::string_view unit = text.substr(digits);
  unsigned shift = 0;
  if (!unit.empty()) {
    const std::size_t step = std::string_view("KMGT").find(static_cast<char>(unit[0] & ~0x20));
    if (step == std::string_view::npos) return std::nullopt;
    unit.remove_prefix(1);
    if (!unit.empty() && unit != "B" && unit != "iB") return std::nullopt;
    shift = 10 * (static_cast<unsigned>(step) + 1);
  }
  if (shift != 0 && *count > (UINT64_MAX >> shift)) return std::nullopt;
  return *count << shift;
}

std::optional<TokenBucketLimit> parse_limit(std::string_view text) {
  if (text == "off") return TokenBucketLimit{};
  const std::size_t plus = std::min(text.find('+'), text.size());
  const std::size_t slash = std::min(text.find('/'), plus);
  const auto size = parse_size_text(text.substr(0, slash));
  const auto time = slash == plus ? TokenBucketLimit{}.refill_milliseconds
                                  : parse_number(text.substr(slash + 1, plus - slash - 1));
  const auto burst = plus == text.size() ? 0 : parse_size_text(text.substr(plus + 1));
  if (!size || *size == 0 || !time || *time == 0 || !burst) return std::nullopt;
  return TokenBucketLimit{*size, *time, *burst};
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      words.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      words.back() += ',';
      ++i;
    } else {
      words.emplace_back();
    }
  }
  return words;
}

std::string list_choices(std::string_view choices) {
  std::string text;
  while (!choices.empty()) {
    const std::size_t bar = std::min(choices.find('|'), choices.size());
    const bool last = bar == choices.size();
    if (!text.empty()) text += last ? " or " : ", ";
    text += choices.substr(0, bar);
    choices.remove_prefix(last ? bar : bar + 1);
  }
  return text;
}

bool is_choice(std::string_view choices, std::string_view text) {
  while (!choices.empty()) {
    const std::size_t bar = std::min(choices.find('|'), choices.size());
    if (choices.substr(0, bar) == text) return true;
    choices.remove_prefix(bar == choices.size() ? bar : bar + 1);
  }
  return false;
}

template <class T>
const T& value_of(const std::map<std::string, OptionValue, std::less<>>& values, std::string_view key) {
  const auto found = values.find(key);
  if (found == values.end()) throw std::logic_error("no value for option " + std::string(key));
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr) throw std::logic_error("option " + std::string(key) + " has another type");
  return *value;
}

}  // namespace

std::uint64_t parse_size(std::string_view what, std::string_view text) {
  const auto size = parse_size_text(text);
  if (!size)
    throw ConfigError(std::string(what), std::string(text), "not a size",
                      "give bytes or a number with K, M, G or T, like 512M");
  return *size;
}

std::string format_size(std::uint64_t bytes) {
  static constexpr std::string_view units = "KMGT";
  std::string suffix;
  for (std::size_t i = 0; i < units.size() && bytes != 0 && bytes % 1024 == 0; ++i) {
    bytes /= 1024;
    suffix = units[i];
  }
  return std::to_string(bytes) + suffix;
}

std::string describe_accepted(const OptionSpec& spec) {
  switch (spec.type) {
    case OptionType::text:
      return "text";
    case OptionType::boolean:
      return "on or off";
    case OptionType::choice:
      return list_choices(spec.choices);
    case OptionType::limit:
      return "off or SIZE[/MILLISECONDS][+BURST], like 100M (in each second) or 10M/100+1G";
    case OptionType::integer:
    case OptionType::size: {
      const bool size = spec.type == OptionType::size;
      const auto show = [&](std::uint64_t value) {
        return size ? format_size(value) : std::to_string(value);
      };
      std::string text = size ? "a size" : "a whole number";
      if (spec.maximum != UINT64_MAX)
        return text + " from " + show(spec.minimum) + " to " + show(spec.maximum);
      if (spec.minimum != 0) return text + " of at least " + show(spec.minimum);
      return text;
    }
  }
  return "text";
}

OptionValue parse_option(std::string_view what, const OptionSpec& spec, std::string_view text) {
  const auto refuse = [&]() -> ConfigError {
    return {std::string(what), std::string(text), "not accepted", "give " + describe_accepted(spec)};
  };
  switch (spec.type) {
    case OptionType::text:
      return std::string(text);
    case OptionType::boolean:
      if (text == "on" || text == "true" || text == "yes") return true;
      if (text == "off" || text == "false" || text == "no") return false;
      throw refuse();
    case OptionType::choice:
      if (!is_choice(spec.choices, text)) throw refuse();
      return std::string(text);
    case OptionType::integer:
    case OptionType::size: {
      const auto value = spec.type == OptionType::size ? parse_size_text(text) : parse_number(text);
      if (!value || *value < spec.minimum || *value > spec.maximum) throw refuse();
      return *value;
    }
    case OptionType::limit: {
      const auto limit = parse_limit(text);
      if (!limit) throw refuse();
      return *limit;
    }
  }
  throw refuse();
}

OptionValues OptionValues::given(std::string_view what, std::span<const OptionSpec> table,
                                 std::string_view text) {
  OptionValues values(what, table);
  const auto set_once = [&](std::string_view key, std::string_view value) {
    if (values.has(key))
      throw ConfigError(values.what_ + "." + std::string(key), std::string(value), "given twice",
                        "give it once");
    values.set(key, value);
  };
  const std::vector<std::string> words = text.empty() ? std::vector<std::string>() : split_words(text);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const std::size_t equals = word.find('=');
    const std::string_view key = word.substr(0, equals);
    const auto spec =
        std::find_if(table.begin(), table.end(), [&](const OptionSpec& row) { return row.key == key; });
    if (i == 0 && !table.empty() && spec == table.end()) {
      // The first word is the first option's value, even if it has a '=' in it.
      set_once(table.front().key, word);
    } else if (equals != std::string_view::npos) {
      set_once(key, word.substr(equals + 1));
    } else if (spec != table.end() && spec->type != OptionType::boolean) {
      throw ConfigError(values.what_ + "." + std::string(key), "", "has no value",
                        "give " + std::string(key) + "=" + describe_accepted(*spec));
    } else {
      set_once(key, "on");
    }
  }
  return values;
}

OptionValues OptionValues::parse(std::string_view what, std::span<const OptionSpec> table,
                                 std::string_view text) {
  OptionValues values = given(what, table, text);
  for (const OptionSpec& spec : table) {
    if (values.has(spec.key)) continue;
    if (spec.required)
      throw ConfigError(std::string(what), std::string(text), "'" + std::string(spec.key) + "' is missing",
                        "give " + std::string(spec.key) + "=" + describe_accepted(spec));
    if (!spec.default_value.empty())
      values.values_.emplace(spec.key, parse_option(spec.key, spec, spec.default_value));
  }
  return values;
}

OptionValues OptionValues::changed(std::string_view what, std::string_view text) const {
  OptionValues values = *this;
  const OptionValues changes = given(what, table_, text);
  std::string live;
  for (const OptionSpec& row : table_)
    if (row.live) live += (live.empty() ? "" : ", ") + std::string(row.key);
  for (const OptionSpec& row : table_) {
    if (!changes.has(row.key)) continue;
    if (!row.live)
      throw ConfigError(std::string(what), std::string(row.key), "cannot be changed while the VM runs",
                        live.empty() ? "start the VM anew" : "what can is " + live);
    values.values_.insert_or_assign(std::string(row.key), changes.values_.find(row.key)->second);
  }
  return values;
}

void OptionValues::set(std::string_view key, std::string_view text) {
  const auto spec =
      std::find_if(table_.begin(), table_.end(), [&](const OptionSpec& row) { return row.key == key; });
  if (spec == table_.end()) {
    std::string known;
    for (const OptionSpec& row : table_) known += (known.empty() ? "" : ", ") + std::string(row.key);
    throw ConfigError(what_, std::string(key), "unknown option key",
                      known.empty() ? "it takes none" : "known are " + known);
  }
  values_.insert_or_assign(std::string(key), parse_option(what_ + "." + std::string(key), *spec, text));
}

std::optional<std::string> OptionValues::written(std::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return {};
  if (const auto* text = std::get_if<std::string>(&found->second)) return *text;
  if (const auto* number = std::get_if<std::uint64_t>(&found->second)) return std::to_string(*number);
  if (const auto* flag = std::get_if<bool>(&found->second)) return *flag ? "on" : "off";
  const auto& limit = std::get<TokenBucketLimit>(found->second);
  if (limit.size == 0) return "off";
  return std::to_string(limit.size) + "/" + std::to_string(limit.refill_milliseconds) +
         (limit.one_time_burst == 0 ? "" : "+" + std::to_string(limit.one_time_burst));
}

std::string OptionValues::written() const {
  std::string all;
  for (const OptionSpec& row : table_) {
    const auto value = written(row.key);
    if (!value) continue;
    all += (all.empty() ? "" : ",") + std::string(row.key) + "=";
    for (const char each : *value) all += each == ',' ? ",," : std::string(1, each);
  }
  return all;
}

const std::string& OptionValues::text(std::string_view key) const {
  return value_of<std::string>(values_, key);
}
std::uint64_t OptionValues::number(std::string_view key) const {
  return value_of<std::uint64_t>(values_, key);
}
bool OptionValues::flag(std::string_view key) const {
  return value_of<bool>(values_, key);
}
const TokenBucketLimit& OptionValues::limit(std::string_view key) const {
  return value_of<TokenBucketLimit>(values_, key);
}

}  // namespace hum
