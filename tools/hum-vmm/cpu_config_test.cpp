// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/cpu_config.h"

#include <nlohmann/json.hpp>
#include <string>

#include "tools/hum-vmm/fields.h"
#include "tools/hum-vmm/sections.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;

// As text that came in, whose numbers have no sign.
CpuTemplate parsed(const json& body) {
  return cpu_template_of(checked_fields("cpu-config", sections::cpu_config.fields, parse_json(body.dump())));
}

std::string key_of_fault(const json& body) {
  try {
    parsed(body);
  } catch (const ConfigError& error) {
    return error.key();
  }
  return {};
}

json cpuid(const json& changes) {
  json leaf = {{"leaf", "0x1"}, {"subleaf", "0x0"}, {"flags", 0}, {"modifiers", json::array()}};
  leaf.update(changes);
  return {{"cpuid_modifiers", {leaf}}};
}

json bitmap(const std::string& text, const std::string& name = "eax") {
  return cpuid({{"modifiers", {{{"register", name}, {"bitmap", text}}}}});
}

json msr(const std::string& address, const std::string& text) {
  return {{"msr_modifiers", {{{"addr", address}, {"bitmap", text}}}}};
}

}  // namespace

TEST_CASE("a CPU configuration says what KVM must have and which bits are others") {
  const CpuTemplate none = parsed(json::object());
  CHECK(none.capabilities.empty());
  CHECK(none.cpuid.empty());
  CHECK(none.msrs.empty());
  const CpuTemplate all =
      parsed({{"kvm_capabilities", {"171", "!56", "0"}},
              {"cpuid_modifiers",
               {{{"leaf", "0x80000001"},
                 {"subleaf", "0b11"},
                 {"flags", 1},
                 {"modifiers",
                  {{{"register", "ebx"}, {"bitmap", "0b01x"}}, {{"register", "edx"}, {"bitmap", "1"}}}}}}},
              {"msr_modifiers", {{{"addr", "0x10a"}, {"bitmap", "0b1" + std::string(62, 'x') + "0"}}}}});
  CHECK(all.capabilities == std::vector<std::uint32_t>{171, 0});
  REQUIRE(all.cpuid.size() == 1);
  CpuTemplate::Cpuid leaf{.function = 0x80000001, .index = 3, .flags = 1};
  leaf.registers[1] = {.mask = 6, .value = 2};
  leaf.registers[3] = {.mask = 1, .value = 1};
  CHECK(all.cpuid[0] == leaf);
  CHECK(all.msrs ==
        std::vector<CpuTemplate::Msr>{{0x10a, {.mask = 0x8000000000000001, .value = 0x8000000000000000}}});
}

TEST_CASE("a bitmap's digits count from the last, and what is not said of a bit leaves it") {
  const auto bits = [](const std::string& text) { return parsed(bitmap(text)).cpuid[0].registers[0]; };
  CHECK(bits("0b") == CpuTemplate::Bits{});
  CHECK(bits("0bx") == CpuTemplate::Bits{});
  CHECK(bits("0b1_0x_") == CpuTemplate::Bits{.mask = 6, .value = 4});
  CHECK(bits("0b" + std::string(32, '1')) == CpuTemplate::Bits{.mask = 0xffffffff, .value = 0xffffffff});
  CHECK(bits("0b" + std::string(32, '0')) == CpuTemplate::Bits{.mask = 0xffffffff, .value = 0});
  CHECK(CpuTemplate::Bits{.mask = 6, .value = 4}.applied_to(0xff03) == 0xff05);
  // Of two for one register the later counts where both speak.
  const json twice =
      cpuid({{"modifiers",
              {{{"register", "ecx"}, {"bitmap", "0b11"}}, {{"register", "ecx"}, {"bitmap", "0b0x"}}}}});
  CHECK(parsed(twice).cpuid[0].registers[2] == CpuTemplate::Bits{.mask = 3, .value = 1});
}

TEST_CASE("what a CPU configuration cannot say is refused by name") {
  for (const std::string& text : {std::string(33, 'x'), std::string("0b2"), std::string("0x1"),
                                  std::string(" 1"), std::string("0b0b1"), std::string("X")})
    CHECK(key_of_fault(bitmap(text)) == "cpu-config.cpuid_modifiers.modifiers.bitmap");
  CHECK(key_of_fault(bitmap("0b1", "rax")) == "cpu-config.cpuid_modifiers.modifiers.register");
  CHECK(key_of_fault(msr("0x10", std::string(64, '1'))).empty());
  CHECK(key_of_fault(msr("0x10", std::string(65, '1'))) == "cpu-config.msr_modifiers.bitmap");
  for (const char* const text : {"1", "", "0x", "0b", "0b2", "0xg", "0x100000000", "-0x1", "0x-1", "0x 1"}) {
    CHECK(key_of_fault(cpuid({{"leaf", text}})) == "cpu-config.cpuid_modifiers.leaf");
    CHECK(key_of_fault(cpuid({{"subleaf", text}})) == "cpu-config.cpuid_modifiers.subleaf");
    CHECK(key_of_fault(msr(text, "1")) == "cpu-config.msr_modifiers.addr");
  }
  CHECK(key_of_fault(cpuid({{"leaf", "0xffffffff"}})).empty());
  CHECK(key_of_fault(cpuid({{"flags", "1"}})) == "cpu-config.cpuid_modifiers.flags");
  CHECK(key_of_fault(cpuid({{"leaf", nullptr}})) == "cpu-config.cpuid_modifiers.leaf");
  CHECK(key_of_fault(cpuid({{"modifiers", {1}}})) == "cpu-config.cpuid_modifiers.modifiers");
  CHECK(key_of_fault(cpuid({{"more", 1}})) == "cpu-config.cpuid_modifiers.more");
  for (const char* const text : {"", "!", "x", "!!1", "-1", "2147483648"})
    CHECK(key_of_fault({{"kvm_capabilities", {text}}}) == "cpu-config.kvm_capabilities");
  CHECK(key_of_fault({{"kvm_capabilities", {1}}}) == "cpu-config.kvm_capabilities");
  // Of other processors.
  for (const char* const name : {"reg_modifiers", "vcpu_features"})
    CHECK(key_of_fault({{name, json::array()}}) == "cpu-config." + std::string(name));
}

}  // namespace hum
