// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/outcome.h"

#include <csignal>

#include "vmm/base/testing.h"

namespace hum {
namespace {

std::string record(const std::string& cause, const std::string& more = {}) {
  return "{\"cause\": \"" + cause + "\"" + more + "}";
}

std::string exit_record(unsigned code) {
  return record("debug-exit", ", \"guest_exit_code\": " + std::to_string(code));
}

Outcome after_exit(int code, const std::string& text, const std::string& messages = {}) {
  return judge({ProcessEnd::By::exit, code}, text, messages);
}

}  // namespace

TEST_CASE("an image's exit code is a pass, a skip or a failure") {
  CHECK(after_exit(0, exit_record(0)).ending == Ending::pass);
  CHECK(after_exit(77, exit_record(77)).ending == Ending::skip);
  CHECK(after_exit(3, exit_record(3)).ending == Ending::fail);
  CHECK(after_exit(3, exit_record(3)).exit_code == 3u);
  CHECK(after_exit(1, exit_record(256)).ending == Ending::fail);
  CHECK(after_exit(77, exit_record(256 + 77)).ending == Ending::fail);
}

TEST_CASE("each way that a VM ends is told apart") {
  CHECK(after_exit(124, record("killed")).ending == Ending::timeout);
  CHECK(after_exit(0, record("poweroff")).ending == Ending::power_off);
  CHECK(after_exit(0, record("reboot")).ending == Ending::reboot);
  CHECK(after_exit(120, record("panic")).ending == Ending::panic);
  const Outcome fault =
      after_exit(121, record("triple-fault", R"(, "vcpu": {"id": 3, "instruction_pointer": "0x10"})"));
  CHECK(fault.ending == Ending::triple_fault);
  CHECK(fault.detail == "vCPU 3 at rip 0x10");
  const Outcome kvm = after_exit(122, record("internal-error", R"(, "detail": "suberror 1")"));
  CHECK(kvm.ending == Ending::kvm_error);
  CHECK(kvm.detail == "suberror 1");
}

TEST_CASE("a refusal before the guest ran is the image's, a failure of hum is hum's") {
  const Outcome refused = after_exit(2, "", "x\nhum: kernel 'a': is no kernel\n");
  CHECK(refused.ending == Ending::invalid);
  CHECK(refused.detail == "kernel 'a': is no kernel");
  CHECK(after_exit(2, record("running"), "hum: lost\n").ending == Ending::vmm_error);
  CHECK(after_exit(123, record("host-error", R"(, "detail": "disk")")).detail == "disk");
  CHECK(after_exit(123, record("host-error")).ending == Ending::vmm_error);
  CHECK(after_exit(1, "").detail == "exit code 1 without a record of the VM");
  CHECK(after_exit(0, "no json").ending == Ending::vmm_error);
  CHECK(after_exit(0, record("bogus")).ending == Ending::vmm_error);
  const Outcome crash = judge({ProcessEnd::By::signal, SIGSEGV}, record("running"), "");
  CHECK(crash.ending == Ending::vmm_error);
  CHECK(crash.detail == "hum was ended by SIGSEGV");
  CHECK(judge({ProcessEnd::By::overdue, SIGKILL}, record("running"), "").ending == Ending::vmm_error);
  CHECK(judge({ProcessEnd::By::interrupt, SIGKILL}, record("running"), "").ending == Ending::interrupted);
}

TEST_CASE("an exit code that contradicts the record is a failure of hum") {
  const Outcome outcome = after_exit(1, exit_record(0));
  CHECK(outcome.ending == Ending::vmm_error);
  CHECK(outcome.detail == "the record says debug-exit, but the exit code is 1");
  CHECK(after_exit(0, record("panic")).ending == Ending::vmm_error);
}

TEST_CASE("what is expected passes, a skip stays one, and what is no failure by itself becomes one") {
  const Outcome passed{Ending::pass, "debug-exit", 0, {}};
  const Outcome failed{Ending::fail, "debug-exit", 3, {}};
  CHECK(status_of(passed, {}) == Ending::pass);
  CHECK(status_of(failed, {}) == Ending::fail);
  CHECK(status_of(failed, {Ending::fail, std::nullopt}) == Ending::pass);
  CHECK(status_of(failed, {Ending::fail, 3}) == Ending::pass);
  CHECK(status_of(failed, {Ending::fail, 4}) == Ending::fail);
  CHECK(status_of(passed, {Ending::timeout, std::nullopt}) == Ending::fail);
  CHECK(status_of({Ending::skip, {}, 77, {}}, {}) == Ending::skip);
  CHECK(status_of({Ending::fail, {}, 38, {}}, {Ending::pass, std::nullopt, 38}) == Ending::skip);
  CHECK(status_of({Ending::fail, {}, 38, {}}, {}) == Ending::fail);
  CHECK(status_of({Ending::fail, {}, 39, {}}, {Ending::pass, std::nullopt, 38}) == Ending::fail);
  CHECK(status_of({Ending::skip, {}, 77, {}}, {Ending::skip, std::nullopt}) == Ending::pass);
  CHECK(status_of({Ending::power_off, {}, {}, {}}, {}) == Ending::fail);
  CHECK(status_of({Ending::timeout, {}, {}, {}}, {}) == Ending::timeout);
  CHECK(status_of({Ending::timeout, {}, {}, {}}, {Ending::timeout, std::nullopt}) == Ending::pass);
}

TEST_CASE("the reason of a failure says what was seen and what was expected") {
  TestResult result;
  CHECK(result.reason().empty());
  result.status = Ending::fail;
  result.outcome = {Ending::fail, "debug-exit", 3, {}};
  CHECK(result.reason() == "exit code 3, expected pass");
  result.outcome = {Ending::pass, "debug-exit", 0, {}};
  result.test.expect = {Ending::timeout, std::nullopt};
  CHECK(result.reason() == "pass, expected timeout");
  result.test.expect = {};
  result.outcome = {Ending::triple_fault, "triple-fault", {}, "vCPU 0 at rip 0x10"};
  result.status = Ending::triple_fault;
  CHECK(result.reason() == "vCPU 0 at rip 0x10");
  result.status = Ending::skip;
  CHECK(result.reason() == "the image says so (exit code 77)");
  result.test.skip = "no such device";
  CHECK(result.reason() == "no such device");
}

}  // namespace hum
