// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/outcome.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "tools/hum/exit_codes.h"
#include "tools/hum/test/text.h"

namespace hum {
namespace {

std::string last_message(const std::string& messages) {
  const std::vector<std::string> lines = last_lines(clean_text(messages), 1);
  constexpr std::string_view prefix = "hum: ";
  if (lines.empty()) return {};
  return lines.front().starts_with(prefix) ? lines.front().substr(prefix.size()) : lines.front();
}

std::string signal_name(int signal) {
  const char* const name = ::sigabbrev_np(signal);
  return name == nullptr ? "signal " + std::to_string(signal) : std::string("SIG") + name;
}

// The parts of a record that matter here.
struct Record {
  bool readable = false;
  EndRecord end;
  std::string cause;
  std::string instruction_pointer;

  explicit Record(const std::string& text) {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return;
    const auto text_of = [&](const char* key) {
      const auto found = json.find(key);
      return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    cause = text_of("cause");
    end.detail = clean_text(text_of("detail"));
    for (const EndCause each : {EndCause::running, EndCause::power_off, EndCause::reboot, EndCause::panic,
                                EndCause::debug_exit, EndCause::triple_fault, EndCause::internal_error,
                                EndCause::signal, EndCause::killed, EndCause::host_error}) {
      if (to_string(each) != cause) continue;
      end.cause = each;
      readable = true;
    }
    if (const auto code = json.find("guest_exit_code"); code != json.end() && code->is_number_unsigned())
      end.guest_exit_code = code->get<std::uint32_t>();
    if (const auto vcpu = json.find("vcpu"); vcpu != json.end() && vcpu->is_object()) {
      const auto pointer = vcpu->find("instruction_pointer");
      if (pointer == vcpu->end() || !pointer->is_string()) return;
      end.ended_vcpu = vcpu->value("id", 0u);
      instruction_pointer = clean_text(pointer->get<std::string>());
    }
  }

  std::string where() const {
    if (instruction_pointer.empty()) return end.detail;
    const std::string place = "vCPU " + std::to_string(end.ended_vcpu) + " at rip " + instruction_pointer;
    return end.detail.empty() ? place : end.detail + ", " + place;
  }
};

Outcome vmm_error(const Record& record, std::string detail) {
  return {Ending::vmm_error, record.cause, std::nullopt, std::move(detail)};
}

Outcome of_exit(int code, const Record& record, const std::string& messages) {
  if (!record.readable) {
    if (code == exit_bad_request) return {Ending::invalid, {}, std::nullopt, last_message(messages)};
    return vmm_error(record, "exit code " + std::to_string(code) + " without a record of the VM");
  }
  const EndCause cause = record.end.cause;
  const bool timeout = cause == EndCause::killed && code == exit_timeout;
  if (timeout) return {Ending::timeout, record.cause, std::nullopt, {}};
  if (cause == EndCause::running || cause == EndCause::signal || cause == EndCause::killed ||
      cause == EndCause::host_error)
    return vmm_error(record, record.end.detail.empty() ? last_message(messages) : record.end.detail);
  if (code != exit_code_of(record.end))
    return vmm_error(record,
                     "the record says " + record.cause + ", but the exit code is " + std::to_string(code));
  switch (cause) {
    case EndCause::power_off:
      return {Ending::power_off, record.cause, std::nullopt, {}};
    case EndCause::reboot:
      return {Ending::reboot, record.cause, std::nullopt, {}};
    case EndCause::panic:
      return {Ending::panic, record.cause, std::nullopt, {}};
    case EndCause::triple_fault:
      return {Ending::triple_fault, record.cause, std::nullopt, record.where()};
    case EndCause::internal_error:
      return {Ending::kvm_error, record.cause, std::nullopt, record.where()};
    default:
      break;
  }
  const std::uint32_t guest = record.end.guest_exit_code.value_or(0);
  const Ending ending = guest == 0 ? Ending::pass : guest == skip_exit_code ? Ending::skip : Ending::fail;
  return {ending, record.cause, guest, {}};
}

bool as_expected(const Outcome& outcome, const Expectation& expectation) {
  return outcome.ending == expectation.ending &&
         (!expectation.exit_code || outcome.exit_code == expectation.exit_code);
}

}  // namespace

Outcome judge(const ProcessEnd& end, const std::string& record_text, const std::string& messages) {
  const Record record(record_text);
  switch (end.by) {
    case ProcessEnd::By::interrupt:
      return {Ending::interrupted, record.cause, std::nullopt, {}};
    case ProcessEnd::By::overdue:
      return vmm_error(record, "hum went on after its time-out and was killed");
    case ProcessEnd::By::signal:
      return vmm_error(record, "hum was ended by " + signal_name(end.code));
    case ProcessEnd::By::exit:
      break;
  }
  return of_exit(end.code, record, messages);
}

Ending status_of(const Outcome& outcome, const Expectation& expectation) {
  if (as_expected(outcome, expectation)) return Ending::pass;
  switch (outcome.ending) {
    case Ending::skip:
      return Ending::skip;
    case Ending::fail:
      return expectation.also_skip && outcome.exit_code == expectation.also_skip ? Ending::skip
                                                                                 : Ending::fail;
    case Ending::pass:
    case Ending::power_off:
    case Ending::reboot:
    case Ending::panic:
      return Ending::fail;
    default:
      return outcome.ending;
  }
}

std::string TestResult::reason() const {
  if (status == Ending::pass) return {};
  if (status == Ending::interrupted) return "the run was interrupted";
  if (status == Ending::skip && !test.skip.empty()) return test.skip;
  if (status == Ending::skip)
    return "the image says so (exit code " + std::to_string(outcome.exit_code.value_or(skip_exit_code)) + ")";
  std::string text;
  const auto add = [&text](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (outcome.exit_code && outcome.ending != Ending::pass) {
    add("exit code " + std::to_string(*outcome.exit_code));
  } else if (outcome.ending != status) {
    add(std::string(to_string(outcome.ending)));
  }
  if (!outcome.detail.empty()) add(outcome.detail);
  if (status == Ending::fail || test.expect.ending != Ending::pass) add("expected " + to_string(test.expect));
  return text;
}

}  // namespace hum
