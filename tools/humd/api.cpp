// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/api.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <charconv>
#include <nlohmann/json.hpp>

#include "tools/http/http_client.h"
#include "tools/hum-vmm/fields.h"
#include "tools/humd/api_call.h"
#include "tools/humd/api_error.h"
#include "tools/humd/api_text.h"
#include "tools/humd/body_table.h"
#include "tools/humd/files.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;
using std::chrono::steady_clock;

constexpr std::string_view prefix = "/v1/";
constexpr std::size_t most_log = 1024UL * 1024;
constexpr std::size_t largest_vmm_reply = 4UL * 1024 * 1024;
constexpr std::string_view vm_actions[] = {"start", "stop", "kill", "pause", "resume", "restart"};

std::string etag_of(const VmRow& vm) {
  return '"' + std::to_string(vm.generation) + '"';
}

ApiAnswer vm_answer(unsigned status, const VmRow& vm) {
  ApiAnswer answer{.status = status, .body = vm_text(vm)};
  answer.headers = {{"ETag", etag_of(vm)}};
  return answer;
}

ApiAnswer error_answer(unsigned status, std::string_view code, std::string_view text) {
  return {.status = status, .body = api_error_body(code, text)};
}

unsigned status_of(const StoreError& error) {
  return error.reason() == StoreError::Reason::full ? 507 : 500;
}

void expect_same_disk(const VmSpec& before, const VmSpec& after) {
  const bool is_other_image = after.image() != before.image();
  if (is_other_image || after.disk_size() != before.disk_size())
    throw ConfigError(is_other_image ? "image" : "disk_mib", "", "a VM's own disk stays as it was made",
                      "make another VM");
}

// What an action may be given.
constexpr Field stop_fields[] = {{.name = "timeout_s", .type = FieldType::integer, .maximum = 86400}};

}  // namespace

std::vector<BodyTable> action_tables() {
  return {{"Stop", stop_fields}};
}

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json body_of(const ApiRequest& request) {
  return request.body.empty() ? json::object() : parse_json(request.body);
}

std::string api_error_body(std::string_view code, std::string_view text) {
  return dumped({{"error", {{"code", code}, {"message", text}}}});
}

struct Api::Route {
  std::string_view method;
  std::string_view path;  // a star stands for a name
  Task<ApiAnswer> (Api::*answer)(Call& call);
};

const Api::Route Api::routes[] = {
    {"GET", "version", &Api::get_version},
    {"GET", "events", &Api::get_events},
    {"GET", "metrics", &Api::get_metrics},
    {"GET", "vms", &Api::list_vms},
    {"POST", "vms", &Api::create_vm},
    {"GET", "vms/*", &Api::get_vm},
    {"PATCH", "vms/*", &Api::patch_vm},
    {"DELETE", "vms/*", &Api::delete_vm},
    {"GET", "vms/*/wait", &Api::wait_for_vm},
    {"GET", "vms/*/logs", &Api::get_logs},
    {"GET", "vms/*/statistics", &Api::get_statistics},
    {"GET", "vms/*/console", &Api::get_console},
    {"POST", "vms/*/*", &Api::act_on_vm},
    {"GET", "images", &Api::list_images},
    {"POST", "images", &Api::import_image},
    {"GET", "images/*", &Api::get_image},
    {"DELETE", "images/*", &Api::delete_image},
    {"GET", "volumes", &Api::list_volumes},
    {"POST", "volumes", &Api::create_volume},
    {"GET", "volumes/*", &Api::get_volume},
    {"PATCH", "volumes/*", &Api::resize_volume},
    {"DELETE", "volumes/*", &Api::delete_volume},
    {"GET", "networks", &Api::list_networks},
    {"POST", "networks", &Api::create_network},
    {"GET", "networks/*", &Api::get_network},
    {"DELETE", "networks/*", &Api::delete_network},
    {"GET", "projects", &Api::list_projects},
    {"GET", "projects/*", &Api::get_project},
    {"PUT", "projects/*", &Api::put_project},
    {"DELETE", "projects/*", &Api::delete_project},
    {"GET", "capacity", &Api::get_capacity},
    {"GET", "operations", &Api::list_operations},
    {"GET", "operations/*", &Api::get_operation},
    {"DELETE", "operations/*", &Api::cancel_operation},
};

std::vector<std::string> Api::known_requests() {
  constexpr std::string_view actions = "vms/*/*";
  std::vector<std::string> all;
  for (const Route& route : routes) {
    const std::string request = std::string(route.method) + ' ' + std::string(prefix);
    if (route.path != actions) all.push_back(request + std::string(route.path));
    for (const std::string_view action : vm_actions)
      if (route.path == actions) all.push_back(request + "vms/*/" + std::string(action));
  }
  return all;
}

namespace {

std::vector<std::string> parts_of(std::string_view path) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    parts.emplace_back(path.substr(0, slash));
    if (slash == path.size()) return parts;
    path.remove_prefix(slash + 1);
  }
}

bool matches(std::string_view pattern, const std::vector<std::string>& parts) {
  const std::vector<std::string> wanted = parts_of(pattern);
  return std::equal(wanted.begin(), wanted.end(), parts.begin(), parts.end(),
                    [](const std::string& want, const std::string& part) {
                      return want == part || (want == "*" && !part.empty());
                    });
}

}  // namespace

Api::Api(boost::asio::io_context& context, Manager& manager) : context_(context), manager_(manager) {
  manager_.listen([this](std::string_view type, const json& data) { events_.publish(type, data); });
}

Api::~Api() {
  manager_.listen({});
}

void Api::handle(ApiRequest request, HttpServer::Respond respond) {
  boost::asio::co_spawn(context_, answer(std::move(request)),
                        [respond = std::move(respond)](const std::exception_ptr& error, ApiAnswer given) {
                          if (error)
                            respond(error_answer(500, "internal", failure_of(error).text));
                          else
                            respond(std::move(given));
                        });
}

Task<ApiAnswer> Api::answer(ApiRequest request) {
  try {
    if (!request.path.starts_with(prefix))
      co_return error_answer(404, "no-such-path", "there is no such path; they begin with /v1/");
    Call call{.request = std::move(request), .parts = {}};
    call.parts = parts_of(std::string_view(call.request.path).substr(prefix.size()));
    std::string allowed;
    for (const Route& route : routes) {
      if (!matches(route.path, call.parts)) continue;
      if (route.method == call.request.method) co_return co_await (this->*route.answer)(call);
      if (allowed.find(route.method) == std::string::npos)
        allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
    }
    if (allowed.empty()) co_return error_answer(404, "no-such-path", "there is no such path");
    ApiAnswer refused = error_answer(405, "no-such-method", "this path takes " + allowed);
    refused.headers = {{"Allow", allowed}};
    co_return refused;
  } catch (const ApiError& error) {
    co_return error_answer(error.status(), error.code(), error.what());
  } catch (const ConfigError& error) {
    co_return ApiAnswer{.status = 400,
                        .body = dumped({{"error",
                                         {{"code", "bad-request"},
                                          {"message", error.what()},
                                          {"field", error.key()},
                                          {"value", error.value().substr(0, 64)}}}})};
  } catch (const StoreError& error) {
    co_return error_answer(status_of(error), "store-failed", error.what());
  } catch (const HostError& error) {
    co_return error_answer(502, "host-refused", error.what());
  }
}

bool Api::may(const Call& call, uid_t owner) const {
  return manager_.may(call.request.peer, owner);
}

// What is another's is as if it were not there.
VmRow Api::find_vm(const Call& call) {
  auto row = manager_.vms().find(call.parts[1]);
  if (!row || !may(call, row->owner))
    throw ApiError(404, "vm-not-found", "there is no VM '" + call.parts[1].substr(0, 64) + "'");
  return std::move(*row);
}

Operation Api::find_operation(const Call& call) {
  const std::string& text = call.parts[1];
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  auto operation =
      error == std::errc() && end == text.data() + text.size() ? manager_.journal().find(id) : std::nullopt;
  if (!operation || !may(call, operation->owner))
    throw ApiError(404, "operation-not-found", "there is no operation '" + text.substr(0, 64) + "'");
  return std::move(*operation);
}

Task<ApiAnswer> Api::get_version(Call& call) {
  const QueryFields fields(call.request.query, {});
  co_return ok(dumped({{"name", "humd"}, {"version", HUM_VERSION}, {"api", 1}}));
}

Task<ApiAnswer> Api::get_events(Call& call) {
  const QueryFields fields(call.request.query, {});
  expect_administrator(call, "sees all events");
  std::uint64_t last = 0;
  const std::string& text = call.request.last_event_id;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), last);
  if (!text.empty() && (error != std::errc() || end != text.data() + text.size()))
    throw ConfigError("Last-Event-ID", text.substr(0, 64), "not an event's number");
  ApiAnswer answer{.status = 200, .content_type = "text/event-stream"};
  answer.stream = events_.open(last);
  co_return answer;
}

// https://prometheus.io/docs/instrumenting/exposition_formats/
Task<ApiAnswer> Api::get_metrics(Call& call) {
  const QueryFields fields(call.request.query, {});
  expect_administrator(call, "sees its metrics");
  std::string text = "# HELP humd_vms VMs by state.\n# TYPE humd_vms gauge\n";
  for (const VmState state : {VmState::creating, VmState::stopped, VmState::starting, VmState::running,
                              VmState::paused, VmState::stopping, VmState::deleting})
    text += "humd_vms{state=\"" + std::string(to_string(state)) + "\"} " +
            std::to_string(manager_.vms().count_in(state)) + "\n";
  text += "# HELP humd_vmm_processes VMM processes that are watched.\n# TYPE humd_vmm_processes gauge\n";
  text += "humd_vmm_processes " + std::to_string(manager_.live().size()) + "\n";
  ApiAnswer answer{.status = 200, .body = text, .content_type = "text/plain; version=0.0.4; charset=utf-8"};
  co_return answer;
}

// --- VMs ---

Task<ApiAnswer> Api::list_vms(Call& call) {
  const QueryFields fields(call.request.query, {"project", "state", "name", "after", "limit"});
  VmFilter filter{.project = fields.text("project"),
                  .state = fields.text("state"),
                  .name_part = fields.text("name"),
                  .after = fields.text("after"),
                  .most = static_cast<int>(fields.number("limit", most_listed, most_listed))};
  if (!may(call, manager_.settings().administrator)) filter.owner = call.request.peer;
  const std::vector<VmRow> rows = manager_.vms().list(filter);
  std::string body = "{\"vms\":[";
  for (const VmRow& row : rows) (body += &row == rows.data() ? "" : ",") += vm_text(row);
  const bool more = filter.most > 0 && static_cast<int>(rows.size()) == filter.most;
  body += "],\"next\":" + (more ? '"' + rows.back().name + '"' : "null") + "}";
  co_return ok(std::move(body));
}

Task<ApiAnswer> Api::begun(Call& call, Operation operation) {
  const QueryFields fields(call.request.query, {"wait_s", "start", "force", "dry_run"});
  const std::uint64_t seconds = fields.number("wait_s", 0, longest_wait);
  if (seconds > 0) operation = co_await manager_.wait_for(operation.id, in_seconds(seconds));
  const bool ended = operation.state != Operation::State::running;
  ApiAnswer answer{.status = ended ? 200U : 202U,
                   .body = operation_text(operation, manager_.run_of(operation))};
  answer.headers = {{"Location", "/v1/operations/" + std::to_string(operation.id)}};
  co_return answer;
}

// What an image says of how its kernel wants to be started.
json Api::with_image_defaults(const Call& call, json given) {
  if (!given.is_object() || given.contains("cmdline")) return given;
  const auto name = given.find("image");
  if (name == given.end() || !name->is_string()) return given;
  const auto row = manager_.images().find(std::string_view(name->get_ref<const std::string&>()));
  if (!row || !may(call, row->owner)) return given;
  const json source = json::parse(row->source);
  if (source.contains("cmdline")) given["cmdline"] = source["cmdline"];
  return given;
}

Task<ApiAnswer> Api::create_vm(Call& call) {
  const QueryFields fields(call.request.query, {"wait_s", "start", "dry_run"});
  fields.number("wait_s", 0, longest_wait);
  VmSpec spec(with_image_defaults(call, parse_json(call.request.body)));
  const bool start = fields.flag("start");
  if (fields.flag("dry_run")) co_return ok(dumped({{"spec", spec.json()}, {"needs_restart", json::array()}}));
  Operation operation = co_await manager_.create(std::move(spec), caller_of(call.request), start);
  const std::uint64_t seconds = fields.number("wait_s", 0, longest_wait);
  if (start && seconds > 0) {
    // The start is an operation of its own, which begins when the creation ends.
    operation = co_await manager_.wait_for(operation.id, in_seconds(seconds));
    const std::vector<Operation> latest =
        manager_.journal().list(0, 1, ObjectRef{ObjectType::vm, operation.object});
    if (operation.state == Operation::State::done && !latest.empty()) operation = latest.front();
  }
  co_return co_await begun(call, std::move(operation));
}

Task<ApiAnswer> Api::get_vm(Call& call) {
  const QueryFields fields(call.request.query, {});
  const VmRow row = find_vm(call);
  ApiAnswer answer = vm_answer(200, row);
  answer.body.pop_back();
  answer.body += ",\"addresses\":" + addresses_text(row.id);
  answer.body += ",\"limits_not_held\":" + dumped(manager_.cgroups().not_held(row.spec().limits())) + "}";
  co_return answer;
}

Task<ApiAnswer> Api::patch_vm(Call& call) {
  const QueryFields fields(call.request.query, {"dry_run"});
  const VmRow row = find_vm(call);
  const std::string& wanted = call.request.if_match;
  if (!wanted.empty() && wanted != "*" && wanted != etag_of(row))
    throw ApiError(412, "vm-changed", "the VM has been changed meanwhile; get it again");
  const VmSpec before = row.spec();
  const VmSpec after = before.with(parse_json(call.request.body));
  expect_same_disk(before, after);
  const bool lives = row.state != VmState::stopped;
  const json later = lives ? json(before.needs_restart(after)) : json::array();
  ApiAnswer answer = ok(dumped({{"spec", after.json()}, {"needs_restart", later}}));
  answer.headers = {{"ETag", etag_of(row)}};
  if (fields.flag("dry_run")) co_return answer;
  const VmRow changed = co_await manager_.update(row, after);
  answer.body = "{\"vm\":" + vm_text(changed) + ",\"needs_restart\":" + dumped(later) + "}";
  answer.headers = {{"ETag", etag_of(changed)}};
  co_return answer;
}

Task<ApiAnswer> Api::delete_vm(Call& call) {
  const QueryFields fields(call.request.query, {"wait_s", "force"});
  fields.number("wait_s", 0, longest_wait);
  const VmRow row = find_vm(call);
  json arguments = json::object();
  arguments["force"] = fields.flag("force");
  Operation operation = co_await manager_.begin("delete", row, caller_of(call.request), dumped(arguments));
  co_return co_await begun(call, std::move(operation));
}

Task<ApiAnswer> Api::act_on_vm(Call& call) {
  const QueryFields fields(call.request.query, {"wait_s"});
  fields.number("wait_s", 0, longest_wait);
  const std::string& kind = call.parts[2];
  if (std::find(std::begin(vm_actions), std::end(vm_actions), kind) == std::end(vm_actions))
    throw ApiError(404, "no-such-action",
                   "there is no such action; there are start, stop, kill, pause, resume, restart");
  const VmRow row = find_vm(call);
  const bool stops = kind == "stop" || kind == "restart";
  const json given = checked_fields(
      kind, stops ? std::span<const Field>(stop_fields) : std::span<const Field>(), body_of(call.request));
  json arguments = json::object();
  if (stops) {
    const auto usual = static_cast<std::uint64_t>(row.spec().stop_timeout().count());
    arguments["timeout_ms"] = given.value("timeout_s", usual) * 1000;
    arguments["again"] = kind == "restart";
  }
  Operation operation = co_await manager_.begin(kind, row, caller_of(call.request), dumped(arguments));
  co_return co_await begun(call, std::move(operation));
}

Task<ApiAnswer> Api::wait_for_vm(Call& call) {
  const QueryFields fields(call.request.query, {"for", "timeout_s"});
  const std::string wanted = fields.text("for").empty() ? "stopped" : fields.text("for");
  if (wanted != "stopped" && wanted != "running" && wanted != "paused")
    throw ConfigError("for", wanted.substr(0, 64), "not accepted", "give stopped, running or paused");
  const TimePoint deadline = in_seconds(fields.number("timeout_s", 60, longest_wait));
  for (;;) {
    const VmRow row = find_vm(call);
    // One that is about to be restarted has not stopped.
    if (to_string(row.state) == wanted && !(wanted == "stopped" && row.restart_at))
      co_return vm_answer(200, row);
    if (!co_await manager_.wait_for_change(deadline)) break;
  }
  co_return vm_answer(202, find_vm(call));
}

Task<ApiAnswer> Api::get_logs(Call& call) {
  const QueryFields fields(call.request.query, {"of"});
  const VmRow row = find_vm(call);
  const std::string of = fields.text("of").empty() ? "console" : fields.text("of");
  if (of != "console" && of != "vmm")
    throw ConfigError("of", of.substr(0, 64), "not accepted", "give console or vmm");
  const Folders& folders = manager_.folders();
  ApiAnswer answer{.status = 200, .content_type = "text/plain; charset=utf-8"};
  const std::string path = of == "console" ? folders.vm_console(row.id) : folders.vm_log(row.id);
  answer.body = end_of_file(path + ".1", most_log) + end_of_file(path, most_log);
  co_return answer;
}

Task<ApiAnswer> Api::get_statistics(Call& call) {
  const QueryFields fields(call.request.query, {});
  const VmRow row = find_vm(call);
  if (manager_.live().find(row.id) == nullptr)
    throw ApiError(409, "vm-stopped", "the VM '" + row.name + "' does not run");
  HttpCall request;
  request.target = "/hum/v1/statistics";
  request.largest_reply = largest_vmm_reply;
  HttpReply reply;
  std::string trouble;
  try {
    reply = co_await http_call(manager_.folders().vm_socket(row.id), std::move(request),
                               manager_.settings().call_patience);
    if (reply.status != 200) trouble = "it answers with status " + std::to_string(reply.status);
    if (trouble.empty() && !json::accept(reply.body)) trouble = "what it answers is no JSON";
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  if (!trouble.empty())
    throw ApiError(502, "vmm-refused",
                   "the VM's process gives no statistics: " + trouble + "; try again, or kill the VM");
  const VmmProcess* const process = manager_.live().find(row.id);
  if (const auto use = process == nullptr ? std::nullopt : process->use())
    reply.body = with_process_use(std::move(reply.body), *use);
  co_return ok(std::move(reply.body));
}

// The VM's own process serves it, to this user alone.
Task<ApiAnswer> Api::get_console(Call& call) {
  const QueryFields fields(call.request.query, {});
  const VmRow row = find_vm(call);
  if (manager_.live().find(row.id) == nullptr)
    throw ApiError(409, "vm-stopped", "the VM '" + row.name + "' does not run");
  co_return ok(dumped({{"socket", manager_.folders().vm_socket(row.id)}, {"path", "/hum/v1/console"}}));
}

// --- operations ---

Task<ApiAnswer> Api::list_operations(Call& call) {
  const QueryFields fields(call.request.query, {"vm", "before", "limit"});
  std::optional<ObjectRef> object;
  if (const std::string name = fields.text("vm"); !name.empty()) {
    call.parts = {"vms", name};
    object = ObjectRef{ObjectType::vm, find_vm(call).id};
  }
  const auto before = static_cast<std::int64_t>(fields.number("before", 0, INT64_MAX));
  const auto limit = static_cast<int>(fields.number("limit", most_listed, most_listed));
  std::string body;
  std::int64_t last = 0;
  const std::vector<Operation> found = manager_.journal().list(before, limit, object);
  for (const Operation& each : found) {
    last = each.id;
    if (may(call, each.owner))
      (body += body.empty() ? "" : ",") += operation_text(each, manager_.run_of(each));
  }
  const bool more = limit > 0 && static_cast<int>(found.size()) == limit;
  co_return ok("{\"operations\":[" + body + "],\"next\":" + (more ? std::to_string(last) : "null") + "}");
}

Task<ApiAnswer> Api::get_operation(Call& call) {
  const QueryFields fields(call.request.query, {"wait_s"});
  const std::uint64_t seconds = fields.number("wait_s", 0, longest_wait);
  Operation operation = find_operation(call);
  if (seconds > 0) operation = co_await manager_.wait_for(operation.id, in_seconds(seconds));
  co_return ok(operation_text(operation, manager_.run_of(operation)));
}

Task<ApiAnswer> Api::cancel_operation(Call& call) {
  const QueryFields fields(call.request.query, {"wait_s"});
  fields.number("wait_s", 0, longest_wait);
  Operation operation = find_operation(call);
  manager_.cancel(operation.id);
  co_return co_await begun(call, std::move(operation));
}

}  // namespace hum
