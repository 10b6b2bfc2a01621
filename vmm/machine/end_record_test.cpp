// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/end_record.h"

#include <nlohmann/json.hpp>

#include "vmm/base/testing.h"

namespace hum {
namespace {

EndRecord ended(EndCause cause) {
  EndRecord record;
  record.cause = cause;
  return record;
}

nlohmann::json json_of(const EndRecord& record) {
  return nlohmann::json::parse(record.to_json());
}

}  // namespace

TEST_CASE("only the ends that a guest chooses are orderly") {
  for (const EndCause cause : {EndCause::power_off, EndCause::reboot, EndCause::debug_exit})
    CHECK(is_orderly(cause));
  for (const EndCause cause :
       {EndCause::running, EndCause::panic, EndCause::triple_fault, EndCause::internal_error,
        EndCause::signal, EndCause::killed, EndCause::host_error})
    CHECK_FALSE(is_orderly(cause));
}

TEST_CASE("a record that is still running has neither counts nor registers") {
  const nlohmann::json json = json_of(ended(EndCause::running));
  CHECK(json["cause"] == "running");
  for (const char* later : {"exits", "windows", "devices", "vcpus", "vcpu", "console"})
    CHECK_FALSE(json.contains(later));
}

TEST_CASE("a failed vCPU is named with the place and its symbol, all vCPUs with their registers") {
  EndRecord record = ended(EndCause::triple_fault);
  record.ended_vcpu = 1;
  record.instruction_pointer = 0xffffffff81000010;
  record.symbol = "start+0x10";
  CpuRegisters registers{};
  registers.general[17] = {"rflags", 0x202};
  registers.control[5] = {"efer", 0xd01};
  registers.segments[0] = {"cs", 0x10, 0, 0xffffffff, 0xa09b};
  registers.tables[1] = {"idt", 0xfffffe0000000000, 0xfff};
  record.vcpus.push_back({1, registers, "start+0x10"});
  const nlohmann::json json = json_of(record);
  CHECK(json["vcpu"]["id"] == 1);
  CHECK(json["vcpu"]["instruction_pointer"] == "0xffffffff81000010");
  CHECK(json["vcpu"]["symbol"] == "start+0x10");
  const nlohmann::json& vcpu = json["vcpus"][0];
  CHECK(vcpu["id"] == 1);
  CHECK(vcpu["symbol"] == "start+0x10");
  CHECK(vcpu["registers"]["rflags"] == "0x202");
  CHECK(vcpu["control"]["efer"] == "0xd01");
  CHECK(vcpu["segments"]["cs"]["selector"] == "0x10");
  CHECK(vcpu["segments"]["cs"]["attributes"] == "0xa09b");
  CHECK(vcpu["tables"]["idt"]["base"] == "0xfffffe0000000000");
}

TEST_CASE("a device is reported with its queues and what it counts itself") {
  EndRecord record = ended(EndCause::power_off);
  record.devices.push_back({.name = "disk",
                            .broken_rings = 2,
                            .queues = {{.index = 0,
                                        .requests = 3,
                                        .bytes_from_guest = 4,
                                        .bytes_to_guest = 5,
                                        .notifications = 6,
                                        .interrupts = 7}},
                            .counters = {{"bytes_read", 8}}});
  record.devices.push_back({.name = "rng", .broken_rings = 0, .queues = {}, .counters = {}});
  const nlohmann::json devices = json_of(record)["devices"];
  CHECK(devices[0]["name"] == "disk");
  CHECK(devices[0]["broken_rings"] == 2);
  const nlohmann::json expected = {{"index", 0},          {"requests", 3},      {"bytes_from_guest", 4},
                                   {"bytes_to_guest", 5}, {"notifications", 6}, {"interrupts", 7}};
  CHECK(devices[0]["queues"][0] == expected);
  CHECK(devices[0]["counters"]["bytes_read"] == 8);
  CHECK(devices[1]["queues"].empty());
  CHECK_FALSE(devices[1].contains("counters"));
}

}  // namespace hum
