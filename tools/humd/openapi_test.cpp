// SPDX-License-Identifier: Apache-2.0
//
// The daemon's API against its description.
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/hum-vmm/openapi_testing.h"
#include "tools/humd/api.h"
#include "tools/humd/body_table.h"
#include "tools/humd/daemon_testing.h"
#include "tools/humd/image_testing.h"
#include "tools/humd/network_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;

const ApiDescription& description() {
  static const ApiDescription read(HUM_API_FILE);
  return read;
}

const json& schemas() {
  return description().document()["components"]["schemas"];
}

constexpr const char* methods[] = {"GET", "PUT", "POST", "PATCH", "DELETE"};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// One of the description: its request with a star in place of each name, as the daemon has it.
struct Described {
  std::string request;
  const json* path;
  const json* operation;
};

std::vector<Described> all_described() {
  std::vector<Described> all;
  for (const auto& [path, item] : description().document()["paths"].items()) {
    std::string starred = path;
    for (std::size_t open = 0; (open = starred.find('{')) != std::string::npos;)
      starred.replace(open, starred.find('}') - open + 1, "*");
    for (const char* const method : methods)
      if (item.contains(lower(method)))
        all.push_back({std::string(method) + " " + starred, &item, &item[lower(method)]});
  }
  return all;
}

bool is_for(const std::string& starred, const std::string& request) {
  const std::size_t star = starred.find('*');
  if (star == std::string::npos) return request == starred;
  const std::string behind = starred.substr(star + 1);
  if (request.size() <= star + behind.size() || !request.starts_with(starred.substr(0, star)) ||
      !request.ends_with(behind))
    return false;
  return request.substr(star, request.size() - star - behind.size()).find('/') == std::string::npos;
}

std::set<std::string> names_of(const json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) names.insert(name);
  return names;
}

std::string listed(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// What one has and the other has not, in words.
std::string differences(const std::set<std::string>& code, const std::set<std::string>& file) {
  std::set<std::string> only_code;
  std::set<std::string> only_file;
  std::set_difference(code.begin(), code.end(), file.begin(), file.end(),
                      std::inserter(only_code, only_code.end()));
  std::set_difference(file.begin(), file.end(), code.begin(), code.end(),
                      std::inserter(only_file, only_file.end()));
  std::string text;
  if (!only_code.empty()) text += "missing in openapi.json: " + listed(only_code) + ". ";
  if (!only_file.empty()) text += "in openapi.json, but not in the daemon: " + listed(only_file) + ".";
  return text;
}

// A daemon's API, without its socket; every answer is held against the description.
class Tour {
 public:
  Tour() : manager_(context_, place_.settings()), api_(context_, manager_) {
    run_coroutine(context_, manager_.recover());
  }

  const DaemonPlace& place() const { return place_; }
  // How the answers that have come fall short of the description, each with its request.
  const std::set<std::string>& wrong() const { return wrong_; }
  // The requests that have been answered with success.
  const std::set<std::string>& done() const { return done_; }
  unsigned answers() const { return answers_; }

  ApiAnswer ask(
      const std::string& method, const std::string& target, const std::string& body = {},
      const std::function<void(ApiRequest&)>& change = [](ApiRequest&) {}) {
    ApiRequest request;
    const std::size_t mark = std::min(target.find('?'), target.size());
    request.method = method;
    request.path = target.substr(0, mark);
    request.query = target.substr(std::min(mark + 1, target.size()));
    request.body = body;
    request.peer = ::geteuid();
    change(request);
    std::optional<ApiAnswer> answer;
    api_.handle(std::move(request), [&](std::optional<ApiAnswer> given) { answer = std::move(given); });
    context_.restart();
    while (!answer) context_.run_one();
    ++answers_;
    const std::string problem = problem_with(method + " " + target.substr(0, mark), body, *answer);
    if (!problem.empty())
      wrong_.insert(method + " " + target + " " + body + ": " + problem +
                    ". The answer: " + std::to_string(answer->status) + " " + answer->body.substr(0, 400));
    return *answer;
  }

 private:
  std::string problem_with(const std::string& request, const std::string& body, const ApiAnswer& answer) {
    const std::vector<Described> all = all_described();
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Described& each) { return is_for(each.request, request); });
    if (found == all.end()) {
      if (answer.status != 404 && answer.status != 405) return "the request is not described";
      return description().misfit(schemas()["Error"], json::parse(answer.body));
    }
    const json& responses = (*found->operation)["responses"];
    const std::string status = std::to_string(answer.status);
    if (!responses.contains(status)) return "the status is not described";
    const json& response = description().resolved(responses[status]);
    const std::string type = answer.content_type.substr(0, answer.content_type.find(';'));
    if (!response["content"].contains(type)) return "the content's type is not described";
    std::set<std::string> headers;
    for (const auto& [name, value] : answer.headers) headers.insert(name);
    const json described = response.value("headers", json::object());
    std::set<std::string> known;
    for (const auto& [name, header] : described.items())
      if (headers.contains(name) || description().resolved(header).value("required", false))
        known.insert(name);
    if (headers != known) return "headers: " + differences(headers, known);
    if (answer.status < 300) {
      done_.insert(found->request);
      const std::string trouble = problem_with_body(*found->operation, body);
      if (!trouble.empty()) return "the request was taken, but: " + trouble;
    }
    if (answer.stream) return {};
    const json value = type == "application/json" ? json::parse(answer.body) : json(answer.body);
    return description().misfit(response["content"][type]["schema"], value);
  }

  static std::string problem_with_body(const json& operation, const std::string& body) {
    if (!operation.contains("requestBody")) return body.empty() || body == "{}" ? "" : "no body is described";
    const json& wanted = operation["requestBody"];
    if (body.empty()) return wanted["required"] == true ? "a body is described as required" : "";
    return description().misfit(wanted["content"]["application/json"]["schema"], json::parse(body));
  }

  DaemonPlace place_;
  boost::asio::io_context context_{1};
  Manager manager_;
  Api api_;
  std::set<std::string> wrong_;
  std::set<std::string> done_;
  unsigned answers_ = 0;
};

// The parameters of a query are those that an error names. of: the requests that have it in them; names: what
// is put in a star's place behind each word.
void check_parameters(Tour& tour, const std::function<bool(const std::string&)>& of,
                      const std::vector<std::pair<std::string, std::string>>& names) {
  for (const Described& each : all_described()) {
    if (!of(each.request)) continue;
    std::string request = each.request;
    for (const auto& [word, name] : names)
      if (const std::size_t at = request.find("/" + word + "/*"); at != std::string::npos)
        request.replace(at + word.size() + 2, 1, name);
    std::set<std::string> described;
    for (const json& given : each.operation->value("parameters", json::array()))
      if (const json& parameter = description().resolved(given); parameter["in"] == "query")
        described.insert(parameter["name"].get<std::string>());
    std::string body;
    if (each.operation->contains("requestBody")) {
      const json& content = (*each.operation)["requestBody"]["content"]["application/json"];
      const json& schema = description().resolved(content["schema"]);
      if (schema.contains("examples")) body = schema["examples"][0].dump();
    }
    const std::size_t space = request.find(' ');
    const ApiAnswer answer =
        tour.ask(request.substr(0, space), request.substr(space + 1) + "?no_such_parameter=1", body);
    INFO(request << ": " << answer.body);
    CHECK(answer.status == 400);
    constexpr std::string_view mark = "accepted: ";
    std::set<std::string> accepted;
    const std::string text = json::parse(answer.body)["error"]["message"];
    std::string_view left = text;
    left.remove_prefix(std::min(left.size(), text.find(mark)));
    left.remove_prefix(std::min(left.size(), mark.size()));
    while (!left.empty()) {
      const std::string_view name = left.substr(0, left.find_first_of(",)"));
      accepted.emplace(name);
      left.remove_prefix(std::min(left.size(), name.size() + 2));
    }
    CHECK(differences(accepted, described) == "");
  }
}

void tour_vms(Tour& tour) {
  const std::string web =
      R"({"name": "web", "kernel": "/no/kernel", "labels": {"tier": "front"}, "volumes": ["data"], "restart": "always",
          "devices": [{"name": "tokens", "kind": "entropy", "options": {}}], "stop_timeout_s": 0})";
  CHECK(tour.ask("POST", "/v1/vms?start=true&wait_s=20&dry_run=true", web).status == 200);
  CHECK(tour.ask("GET", "/v1/vms/web").status == 404);
  CHECK(tour.ask("POST", "/v1/vms?start=true&wait_s=20", web).status == 200);
  CHECK(tour.ask("POST", "/v1/vms", web).status == 409);
  CHECK(tour.ask("POST", "/v1/vms", R"({"name": "Web"})").status == 400);
  CHECK(tour.ask("POST", "/v1/vms", R"({"name": "a", "image": "none"})").status == 404);
  CHECK(tour.ask("POST", "/v1/vms?wait_s=20", R"({"name": "base-vm", "image": "base", "disk_mib": 2})")
            .status == 200);
  for (const char* const word : {"again", "with-key"}) {
    const auto keyed = [](ApiRequest& request) { request.idempotency_key = "one"; };
    const std::string spec = std::string(R"({"kernel": "/k", "name": ")") + word + R"("})";
    CHECK(tour.ask("POST", "/v1/vms", spec, keyed).status == (word == std::string("again") ? 202 : 422));
  }
  const json plain = json::parse(tour.ask("GET", "/v1/vms/again").body)["spec"];
  for (const auto& [name, field] : schemas()["VmFields"]["properties"].items()) {
    INFO(name);
    if (field.contains("default")) CHECK(plain.value(name, json()) == field["default"]);
  }
  CHECK(tour.ask("GET", "/v1/vms?project=default&state=running&name=we&after=a&limit=1").status == 200);
  CHECK(tour.ask("GET", "/v1/vms/web").status == 200);
  CHECK(tour.ask("GET", "/v1/vms/none").status == 404);
  CHECK(tour.ask("GET", "/v1/vms/web/wait?for=running").status == 200);
  CHECK(tour.ask("GET", "/v1/vms/web/wait?timeout_s=0").status == 202);
  CHECK(tour.ask("GET", "/v1/vms/web/logs?of=vmm").status == 200);
  CHECK(tour.ask("GET", "/v1/vms/web/statistics").status == 200);
  CHECK(tour.ask("GET", "/v1/vms/web/console").status == 200);
  CHECK(tour.ask("GET", "/v1/vms/base-vm/statistics").status == 409);
  CHECK(tour.ask("PATCH", "/v1/vms/web?dry_run=true", R"({"cpus": 2})").status == 200);
  const auto matching = [](ApiRequest& request) { request.if_match = "\"1\""; };
  CHECK(tour.ask("PATCH", "/v1/vms/web", R"({"cpus": 2})", matching).status == 200);
  CHECK(tour.ask("PATCH", "/v1/vms/web", R"({"cpus": 3})", matching).status == 412);
  CHECK(tour.ask("POST", "/v1/vms/web/start").status == 409);
  for (const char* const kind : {"pause", "resume", "restart", "stop", "start", "kill"})
    CHECK(tour.ask("POST", std::string("/v1/vms/web/") + kind + "?wait_s=20", "{}").status == 200);
  CHECK(tour.ask("POST", "/v1/vms/web/stop", R"({"timeout_s": 1})").status == 409);
  CHECK(tour.ask("POST", "/v1/vms/web/fly").status == 404);
  CHECK(tour.ask("GET", "/v1/vms").status == 200);
}

void tour_disks(Tour& tour) {
  const std::filesystem::path folder = tour.place().folders().state.parent_path();
  std::ofstream(folder / "kernel", std::ios::binary) << some_kernel();
  std::ofstream(folder / "disk", std::ios::binary) << some_bytes(64UL * 1024);
  const json base = {{"name", "base"},
                     {"kernel", (folder / "kernel").string()},
                     {"disk", (folder / "disk").string()},
                     {"format", "raw"},
                     {"cmdline", "quiet"}};
  CHECK(tour.ask("POST", "/v1/images?wait_s=20&dry_run=true", base.dump()).status == 200);
  CHECK(tour.ask("GET", "/v1/images/base").status == 404);
  CHECK(tour.ask("POST", "/v1/images?wait_s=20", base.dump()).status == 200);
  CHECK(tour.ask("POST", "/v1/images?wait_s=20", R"({"name": "bad", "disk": "/no/disk"})").status == 200);
  CHECK(tour.ask("POST", "/v1/images", R"({"name": "worse"})").status == 400);
  CHECK(tour.ask("GET", "/v1/images?limit=1").status == 200);
  CHECK(tour.ask("GET", "/v1/images/base").status == 200);
  CHECK(tour.ask("POST", "/v1/volumes?wait_s=20", R"({"name": "data", "size_mib": 1})").status == 200);
  CHECK(tour.ask("POST", "/v1/volumes?wait_s=20", R"({"name": "top", "image": "base"})").status == 200);
  CHECK(tour.ask("POST", "/v1/volumes", R"({"name": "copy", "from": "none"})").status == 404);
  CHECK(tour.ask("PATCH", "/v1/volumes/data?wait_s=20", R"({"size_mib": 2, "shrink": false})").status == 200);
  CHECK(tour.ask("GET", "/v1/volumes").status == 200);
}

void tour_projects(Tour& tour) {
  CHECK(tour.ask("GET", "/v1/projects/lab").status == 404);
  CHECK(tour.ask("PUT", "/v1/projects/lab", R"({"vms": 1, "memory_mib": 900})").status == 200);
  CHECK(tour.ask("PUT", "/v1/projects/LAB", "{}").status == 400);
  CHECK(tour.ask("GET", "/v1/projects/lab").status == 200);
  CHECK(tour.ask("GET", "/v1/projects").status == 200);
  const char* const limited =
      R"({"name": "held", "kernel": "/k", "project": "lab", "limits": {"cpu_percent": 50, "read_ops": 9}})";
  CHECK(tour.ask("POST", "/v1/vms?wait_s=20", limited).status == 200);
  CHECK(tour.ask("GET", "/v1/vms/held").status == 200);
  CHECK(tour.ask("POST", "/v1/vms", R"({"name": "more", "kernel": "/k", "project": "lab"})").status == 409);
  CHECK(tour.ask("GET", "/v1/capacity?cpus=2&memory_mib=64&project=lab").status == 200);
  CHECK(tour.ask("GET", "/v1/capacity?cpus=-1").status == 400);
  CHECK(tour.ask("DELETE", "/v1/vms/held?wait_s=20").status == 200);
  CHECK(tour.ask("DELETE", "/v1/projects/lab").status == 200);
  CHECK(tour.ask("DELETE", "/v1/projects/lab").status == 404);
}

void tour_rest(Tour& tour) {
  CHECK(tour.ask("DELETE", "/v1/volumes/data").status == 409);
  CHECK(tour.ask("GET", "/v1/volumes/data").status == 200);
  const json latest = json::parse(tour.ask("GET", "/v1/operations?vm=web&limit=1").body)["operations"][0];
  const std::string number = std::to_string(latest["id"].get<std::int64_t>());
  const std::string operation = "/v1/operations/" + number;
  check_parameters(tour,
                   [](const std::string& request) { return request.find("networks/*") == std::string::npos; },
                   {{"vms", "web"}, {"images", "base"}, {"volumes", "data"}, {"operations", number}});
  CHECK(tour.ask("GET", operation + "?wait_s=1").status == 200);
  CHECK(tour.ask("DELETE", operation).status == 409);
  CHECK(tour.ask("DELETE", "/v1/operations/x").status == 404);
  tour.ask("POST", "/v1/vms?wait_s=20", R"({"name": "slow", "kernel": "/k", "cmdline": "fake=no-socket"})");
  const json start = json::parse(tour.ask("POST", "/v1/vms/slow/start").body);
  CHECK(tour.ask("POST", "/v1/vms/slow/stop").status == 409);
  const std::string begun = "/v1/operations/" + std::to_string(start["id"].get<std::int64_t>());
  CHECK(tour.ask("DELETE", begun + "?wait_s=20").status == 200);
  CHECK(tour.ask("GET", "/v1/operations?before=5").status == 200);
  for (const char* const path :
       {"vms/slow?force=true&", "vms/web?force=true&", "volumes/top?", "images/base?"})
    CHECK(tour.ask("DELETE", std::string("/v1/") + path + "wait_s=20").status == 200);
  for (const char* const path : {"version", "metrics", "networks"})
    CHECK(tour.ask("GET", std::string("/v1/") + path).status == 200);
  CHECK(tour.ask("GET", "/v2").status == 404);
  CHECK(tour.ask("PUT", "/v1/vms").status == 405);
  const auto stranger = [](ApiRequest& request) { request.peer = 12345; };
  CHECK(tour.ask("GET", "/v1/metrics", {}, stranger).status == 403);
}

// Every type of event that there has been is in the description's text.
void check_events(Tour& tour) {
  const ApiAnswer events = tour.ask("GET", "/v1/events");
  REQUIRE(events.stream);
  const std::string come = *events.stream->output().take();
  const std::string text = description().document()["paths"]["/v1/events"]["get"]["description"];
  std::set<std::string> types;
  constexpr std::string_view mark = "event: ";
  for (std::size_t at = 0; (at = come.find(mark, at)) != std::string::npos; ++at)
    types.insert(come.substr(at + mark.size(), come.find('\n', at) - at - mark.size()));
  CHECK(types.size() > 8);
  for (const std::string& type : types) {
    INFO(type);
    CHECK(text.find(" " + type) != std::string::npos);
  }
}

void check_all(const Tour& tour, std::string_view except) {
  std::printf("count: %u answers of the daemon held against its description\n", tour.answers());
  for (const std::string& each : tour.wrong()) {
    INFO(each);
    CHECK(false);
  }
  for (const Described& each : all_described()) {
    INFO("not answered with success: " << each.request);
    if (except.empty() || each.request.find(except) == std::string::npos)
      CHECK(tour.done().contains(each.request));
  }
}

std::string field_type(const Field& field) {
  switch (field.type) {
    case FieldType::text:
    case FieldType::choice:
      return "string";
    case FieldType::boolean:
      return "boolean";
    case FieldType::integer:
      return "integer";
    case FieldType::texts:
    case FieldType::objects:
      return "array";
    default:
      return "object";
  }
}

std::set<std::string> choices_of(const Field& field) {
  std::set<std::string> words;
  for (std::string_view left = field.choices; !left.empty();) {
    const std::string_view word = left.substr(0, left.find('|'));
    words.emplace(word.substr(0, word.find('=')));
    left.remove_prefix(std::min(left.size(), word.size() + 1));
  }
  return words;
}

// How the description of one field says something else than the table; empty: it does not.
std::string field_misfit(const Field& field, const json& described) {
  if (described["type"] != field_type(field))
    return "type: " + field_type(field) + " in the daemon, " + described["type"].dump() + " in openapi.json";
  if (field.type == FieldType::integer && (described.value("minimum", json()) != field.minimum ||
                                           described.value("maximum", json()) != field.maximum))
    return "from " + std::to_string(field.minimum) + " to " + std::to_string(field.maximum) +
           " in the daemon, " + described.dump() + " in openapi.json";
  std::set<std::string> words;
  if (described.contains("enum"))
    for (const json& word : described["enum"]) words.insert(word.get<std::string>());
  if (words != choices_of(field)) return "choices: " + differences(choices_of(field), words);
  if (field.type == FieldType::texts && described["items"]["type"] != "string") return "not a list of texts";
  if (field.type == FieldType::objects && !description().resolved(described["items"]).contains("properties"))
    return "not a list of objects";
  if (field.type == FieldType::texts_by_name && described["additionalProperties"] != json{{"type", "string"}})
    return "not an object of texts";
  return {};
}

void check_table(const BodyTable& table) {
  REQUIRE(schemas().contains(table.schema));
  const json& schema = schemas()[std::string(table.schema)];
  const json& object = schema.contains("allOf") ? description().resolved(schema["allOf"][0]) : schema;
  std::set<std::string> fields;
  std::set<std::string> required;
  for (const Field& field : table.fields) {
    fields.emplace(field.name);
    if (field.required) required.emplace(field.name);
  }
  CHECK(differences(fields, names_of(object["properties"])) == "");
  CHECK(differences(required, schema["required"].get<std::set<std::string>>()) == "");
  CHECK(object["additionalProperties"] == false);
  for (const Field& field : table.fields) {
    const std::string name(field.name);
    INFO(name);
    if (object["properties"].contains(name)) CHECK(field_misfit(field, object["properties"][name]) == "");
  }
}

}  // namespace

TEST_CASE("every request that the daemon answers is described, and no other") {
  const std::vector<std::string> known = Api::known_requests();
  std::set<std::string> described;
  for (const Described& each : all_described()) described.insert(each.request);
  CHECK(differences({known.begin(), known.end()}, described) == "");
}

TEST_CASE("every field of a request's body is described with its type, its bounds and its choices") {
  for (const auto& tables : {vm_tables(), action_tables(), object_tables(), project_tables()})
    for (const BodyTable& table : tables) {
      INFO(table.schema);
      check_table(table);
    }
}

TEST_CASE("every example of the description fits its schema, and every reference leads somewhere") {
  const std::string text = description().document().dump();
  constexpr std::string_view mark = R"({"$ref":")";
  for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos; ++at) {
    const std::size_t begin = at + mark.size();
    const json reference = {{"$ref", text.substr(begin, text.find('"', begin) - begin)}};
    INFO(reference);
    CHECK_NOTHROW(description().resolved(reference));
  }
  for (const auto& [name, schema] : schemas().items())
    for (const json& example : schema.value("examples", json::array())) {
      INFO(name);
      CHECK(description().misfit(schema, example) == "");
    }
}

TEST_CASE("what the daemon answers is what is described") {
  Tour tour;
  tour_disks(tour);
  tour_vms(tour);
  tour_projects(tour);
  tour_rest(tour);
  check_events(tour);
  check_all(tour, "/v1/networks");
}

TEST_CASE("what the daemon answers about networks is what is described") {
  with_network_host([](TestHost&) {
    Tour tour;
    CHECK(
        tour.ask("POST", "/v1/networks?wait_s=20", R"({"name": "blue", "subnet": "10.20.30.0/24"})").status ==
        200);
    CHECK(tour.ask("POST", "/v1/networks", R"({"name": "red", "subnet": "10.20.30.0/24"})").status == 400);
    CHECK(tour.ask("POST", "/v1/networks", R"({"name": "red", "subnet": "10.1.0.0/30"})").status == 400);
    const char* const web =
        R"({"name": "web", "kernel": "/k", "networks": [{"network": "blue", "ports": ["127.0.0.1:8080:80"]}]})";
    CHECK(tour.ask("POST", "/v1/vms?wait_s=20", web).status == 200);
    for (const char* const path : {"vms/web", "networks", "networks/blue"})
      CHECK(tour.ask("GET", std::string("/v1/") + path).body.find("10.20.30.2") != std::string::npos);
    check_parameters(
        tour, [](const std::string& request) { return request.find("networks/*") != std::string::npos; },
        {{"networks", "blue"}});
    CHECK(tour.ask("DELETE", "/v1/networks/blue").status == 409);
    for (const char* const path : {"vms/web", "networks/blue"})
      CHECK(tour.ask("DELETE", std::string("/v1/") + path + "?wait_s=20").status == 200);
    for (const std::string& each : tour.wrong()) {
      INFO(each);
      CHECK(false);
    }
    CHECK(tour.done().contains("POST /v1/networks"));
    CHECK(tour.done().contains("DELETE /v1/networks/*"));
  });
}

}  // namespace hum
