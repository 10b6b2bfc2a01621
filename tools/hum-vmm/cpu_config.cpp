// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/cpu_config.h"

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tools/hum-vmm/fields.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;
using enum FieldType;

constexpr std::string_view cpuid_name = "cpu-config.cpuid_modifiers";
constexpr std::string_view register_name = "cpu-config.cpuid_modifiers.modifiers";
constexpr std::string_view msr_name = "cpu-config.msr_modifiers";

constexpr Field cpuid_fields[] = {
    {.name = "leaf", .required = true},
    {.name = "subleaf", .required = true},
    {.name = "flags", .type = integer, .required = true},
    {.name = "modifiers", .type = objects, .required = true},
};
constexpr Field register_fields[] = {
    {.name = "register", .type = choice, .required = true, .choices = "eax|ebx|ecx|edx"},
    {.name = "bitmap", .required = true},
};
constexpr Field msr_fields[] = {
    {.name = "addr", .required = true},
    {.name = "bitmap", .required = true},
};
constexpr std::string_view registers[] = {"eax", "ebx", "ecx", "edx"};

const std::string& text_of(const json& object, const char* name) {
  return object[name].get_ref<const std::string&>();
}

[[noreturn]] void refuse(std::string_view what, const char* name, const std::string& value,
                         const std::string& accepted) {
  throw ConfigError(std::string(what) + (*name == 0 ? "" : ".") + name, value, "not accepted",
                    "give " + accepted);
}

std::optional<std::uint32_t> number_in(std::string_view digits, int base) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  if (error != std::errc() || end != digits.data() + digits.size()) return {};
  return number;
}

// "0x1f" or "0b11111".
std::uint32_t number_of(std::string_view what, const char* name, const json& object) {
  const std::string& text = text_of(object, name);
  std::optional<std::uint32_t> number;
  if (text.starts_with("0x")) number = number_in(std::string_view(text).substr(2), 16);
  if (text.starts_with("0b")) number = number_in(std::string_view(text).substr(2), 2);
  if (!number) refuse(what, name, text, "a number of 32 bits like 0x1f or 0b11111");
  return *number;
}

// "0b01x": the last digit is bit 0, x a bit that stays, and so are those in front.
CpuTemplate::Bits bits_of(std::string_view what, unsigned width, const json& object) {
  const std::string& text = text_of(object, "bitmap");
  const auto wrong = [&] {
    refuse(what, "bitmap", text.substr(0, 80),
           "at most " + std::to_string(width) + " digits 0, 1 or x, like 0b01xx_xxxx");
  };
  std::string_view digits = text;
  if (text.starts_with("0x")) wrong();  // meant as another number, and would be taken
  if (digits.starts_with("0b")) digits.remove_prefix(2);
  CpuTemplate::Bits bits;
  unsigned at = 0;
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) {
    if (*digit == '_') continue;
    if (at == width || (*digit != '0' && *digit != '1' && *digit != 'x')) wrong();
    const std::uint64_t bit = std::uint64_t{1} << at++;
    if (*digit != 'x') bits.mask |= bit;
    if (*digit == '1') bits.value |= bit;
  }
  return bits;
}

CpuTemplate::Cpuid cpuid_of(const json& given) {
  const json checked = checked_fields(cpuid_name, cpuid_fields, given);
  CpuTemplate::Cpuid leaf;
  leaf.function = number_of(cpuid_name, "leaf", checked);
  leaf.index = number_of(cpuid_name, "subleaf", checked);
  leaf.flags = checked["flags"].get<std::uint32_t>();
  for (const json& each : checked["modifiers"]) {
    const json modifier = checked_fields(register_name, register_fields, each);
    for (std::size_t i = 0; i < leaf.registers.size(); ++i) {
      if (text_of(modifier, "register") != registers[i]) continue;
      const CpuTemplate::Bits bits = bits_of(register_name, 32, modifier);
      CpuTemplate::Bits& all = leaf.registers[i];  // a later bit counts
      all = {all.mask | bits.mask, bits.applied_to(all.value)};
    }
  }
  return leaf;
}

}  // namespace

CpuTemplate cpu_template_of(const json& checked) {
  CpuTemplate result;
  for (const json& each : checked.value("kvm_capabilities", json::array())) {
    const std::string& text = each.get_ref<const std::string&>();
    // "!56": one that is not asked for; none is but these.
    const bool is_dropped = text.starts_with('!');
    const std::optional<std::uint32_t> number =
        number_in(std::string_view(text).substr(is_dropped ? 1 : 0), 10);
    if (!number || *number > std::numeric_limits<int>::max())
      refuse("cpu-config.kvm_capabilities", "", text, "the number of a capability, like 171 or !56");
    if (!is_dropped) result.capabilities.push_back(*number);
  }
  for (const json& each : checked.value("cpuid_modifiers", json::array()))
    result.cpuid.push_back(cpuid_of(each));
  for (const json& each : checked.value("msr_modifiers", json::array())) {
    const json msr = checked_fields(msr_name, msr_fields, each);
    result.msrs.push_back({number_of(msr_name, "addr", msr), bits_of(msr_name, 64, msr)});
  }
  return result;
}

}  // namespace hum
