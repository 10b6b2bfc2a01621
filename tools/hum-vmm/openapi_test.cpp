// SPDX-License-Identifier: Apache-2.0
// The running process against the description of its API.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tools/hum-vmm/openapi_testing.h"
#include "tools/hum-vmm/sections.h"
#include "tools/hum-vmm/testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using testing::ApiClient;
using testing::ApiDescription;
using testing::VmmProcess;

const ApiDescription& api_description() {
  static const ApiDescription read(HUM_API_FILE);
  return read;
}

const json& description() {
  return api_description().document();
}

const json& resolved(const json& schema) {
  return api_description().resolved(schema);
}

struct Operation {
  std::string method;
  std::string path;  // with the id of the example
  json schema;
  json example;
};

// The example with a file that there is in place of its paths.
json with_files(json example, const std::string& file) {
  for (json& each : example)
    if (each.is_string() && each.get<std::string>().starts_with("/path/to/")) each = file;
  return example;
}

std::vector<Operation> operations(const std::string& file) {
  std::vector<Operation> all;
  for (const auto& [path, methods] : description()["paths"].items())
    for (const char* const method : {"put", "patch"}) {
      if (!methods.contains(method) || !methods[method].contains("requestBody")) continue;
      const json& schema = resolved(methods[method]["requestBody"]["content"]["application/json"]["schema"]);
      if (!schema.contains("properties")) continue;  // anything may be metadata
      const json example = with_files(schema["examples"][0], file);
      std::string place = path;
      if (const std::size_t brace = place.find('{'); brace != std::string::npos)
        place = place.substr(0, brace) +
                example[place.substr(brace + 1, place.size() - brace - 2)].get<std::string>();
      all.push_back({method == std::string("put") ? "PUT" : "PATCH", place, schema, example});
    }
  return all;
}

// A value that fits.
json sample(const json& given) {
  const json& schema = resolved(given);
  if (schema.contains("const")) return schema["const"];
  if (schema.contains("enum")) return schema["enum"][0];
  if (schema["type"] == "string") return "x";
  if (schema["type"] == "boolean") return true;
  if (schema["type"] == "integer") return schema["minimum"];
  if (schema["type"] == "array") return json::array();
  json object = json::object();
  for (const auto& [name, each] : schema["properties"].items()) object[name] = sample(each);
  return object;
}

// Values that do not.
std::vector<json> wrong_values(const json& given) {
  const json& schema = resolved(given);
  const std::string type = schema["type"];
  std::vector<json> wrong = {type == "array" ? json::array({1}) : json::array()};
  if (type != "string") wrong.emplace_back("1");
  if (type != "boolean") wrong.emplace_back(true);
  if (type != "object") wrong.push_back({{"size", 1}});
  if (type != "integer") wrong.emplace_back(1);
  if (type == "integer") {
    wrong.emplace_back(1.5);
    wrong.emplace_back(schema["minimum"].get<std::int64_t>() - 1);
    if (const auto most = schema["maximum"].get<std::uint64_t>(); most != UINT64_MAX)
      wrong.emplace_back(most + 1);
    else
      wrong.emplace_back(18446744073709551616.0);
  }
  if (schema.contains("enum")) wrong.emplace_back("No such word");
  if (schema.contains("const")) wrong.emplace_back(type == "boolean" ? json(true) : json("T2"));
  return wrong;
}

// Calls act with the object at every depth: its schema, its place in the body, and a body that has it.
void each_object(const json& given, const json::json_pointer& place, const json& body,
                 const std::function<void(const json&, const json::json_pointer&, const json&)>& act) {
  const json& schema = resolved(given);
  act(schema, place, body);
  for (const auto& [name, each] : schema["properties"].items()) {
    if (resolved(each)["type"] != "object" || resolved(each)["additionalProperties"] != false) continue;
    json with_it = body;
    if (!with_it.contains(place / name)) with_it[place / name] = sample(each);
    each_object(each, place / name, with_it, act);
  }
}

class Api {
 public:
  Api() : process_(HUM_VMM_PROGRAM), client_(process_.client()), file_(process_.folder() / "file") {
    std::ofstream{file_};
  }

  const std::string& file() const { return file_; }
  ApiClient client() const { return process_.client(); }
  ApiAnswer call(const Operation& operation, const json& body) {
    const auto answer = client_.call(operation.method, operation.path, body.dump());
    REQUIRE(answer);
    return *answer;
  }
  json config() { return json::parse(client_.call("GET", "/vm/config")->body); }
  json get(const std::string& path) { return json::parse(client_.call("GET", path)->body); }

  // An error of one field, which changes nothing.
  void refuses(const Operation& operation, const json& body, const std::string& field) {
    const json before = config();
    const ApiAnswer answer = call(operation, body);
    INFO(operation.method << " " << operation.path << " " << body << ": " << answer.status << " "
                          << answer.body);
    REQUIRE(answer.status == 400);
    CHECK(json::parse(answer.body)["fault_message"].get<std::string>().find(field) != std::string::npos);
    CHECK(config() == before);
  }

 private:
  VmmProcess process_;
  ApiClient client_;
  std::string file_;
};

constexpr const char* too_early = "The requested operation is not supported before starting the microVM.";

// As the example is answered before the start.
bool is_accepted(const ApiAnswer& answer) {
  return answer.status == 204 || json::parse(answer.body)["fault_message"] == too_early;
}

}  // namespace

TEST_CASE("every request of the description is known, and its example taken") {
  Api api;
  for (const Operation& operation : operations(api.file())) {
    if (operation.path == "/actions") continue;  // the last thing before the start
    const ApiAnswer answer = api.call(operation, operation.example);
    INFO(operation.method << " " << operation.path << ": " << answer.body);
    CHECK(is_accepted(answer));
  }
}

TEST_CASE("every section stands in the description with all its fields") {
  for (const Section* section : sections::all()) {
    std::string path = "/" + std::string(section->path);
    if (!section->id_field.empty()) path += "/{" + std::string(section->id_field) + "}";
    INFO(path);
    REQUIRE(description()["paths"].contains(path));
    const json& put = description()["paths"][path]["put"];
    const json& schema = resolved(put["requestBody"]["content"]["application/json"]["schema"]);
    std::set<std::string> described;
    for (const auto& [name, each] : schema["properties"].items()) described.insert(name);
    std::set<std::string> known;
    for (const Field& field : section->fields) known.emplace(field.name);
    CHECK(described == known);
  }
}

TEST_CASE("what is read has the fields of the description") {
  Api api;
  for (const char* const path : {"/", "/version", "/machine-config"}) {
    INFO(path);
    const json& get = description()["paths"][path]["get"];
    const json& schema = get["responses"]["200"]["content"]["application/json"]["schema"];
    CHECK(api_description().misfit(schema, api.get(path)) == "");
  }
}

TEST_CASE("each example of the description fits its schema") {
  for (const auto& [name, schema] : description()["components"]["schemas"].items())
    for (const json& example : schema.value("examples", json::array())) {
      INFO(name);
      CHECK(api_description().misfit(schema, example) == "");
    }
}

TEST_CASE("every request can be told that there are too many connections") {
  std::size_t requests = 0;
  for (const auto& [path, methods] : description()["paths"].items())
    for (const auto& [method, operation] : methods.items()) {
      if (method == "parameters") continue;  // of all methods
      INFO(method << " " << path);
      CHECK(operation["responses"].contains("503"));
      ++requests;
    }
  CHECK(requests > 20);
}

TEST_CASE("the own API answers with the status codes and the fields of the description") {
  Api api;
  for (const auto& [path, methods] : description()["paths"].items()) {
    if (!path.starts_with("/hum/v1/") || !methods.contains("get")) continue;
    INFO(path);
    const json& responses = methods["get"]["responses"];
    for (const char* const body : {"", "{}"}) {
      ApiClient client = api.client();
      client.send("GET", path, body);
      const auto answer = client.answer();
      REQUIRE(answer);
      REQUIRE(responses.contains(std::to_string(answer->status)));
      CHECK((answer->status == 400) == (body != std::string()));
      if (answer->status != 200) {
        CHECK(json::parse(answer->body).contains("fault_message"));
        continue;
      }
      const std::string type = client.headers.substr(client.headers.find("Content-Type: ") + 14);
      const json& content = responses["200"]["content"];
      const std::string known = type.substr(0, type.find_first_of(";\r"));
      REQUIRE(content.contains(known));
      if (known != "application/json") continue;
      const json& schema = resolved(content[known]["schema"]);
      const json value = json::parse(answer->body);
      CHECK(api_description().misfit(schema, value) == "");
      if (value.is_array()) continue;
      std::set<std::string> described;
      for (const auto& [name, each] : schema["properties"].items()) described.insert(name);
      std::set<std::string> told;
      for (const auto& [name, each] : value.items()) told.insert(name);
      CHECK(told == described);
    }
  }
}

TEST_CASE("each field is refused by name where it is missing, null, of a wrong type or out of range") {
  Api api;
  unsigned tried = 0;
  for (const Operation& operation : operations(api.file()))
    each_object(operation.schema, json::json_pointer(), operation.example,
                [&](const json& schema, const json::json_pointer& place, const json& body) {
                  const auto with = [&](const std::string& name, const json& value) {
                    json changed = body;
                    changed[place / name] = value;
                    ++tried;
                    return changed;
                  };
                  api.refuses(operation, with("no_such_field", 1), "no_such_field");
                  for (const json& name : schema["required"]) {
                    json without = body;
                    without[place].erase(name.get<std::string>());
                    api.refuses(operation, without, name);
                    api.refuses(operation, with(name, nullptr), name);
                  }
                  for (const auto& [name, each] : schema["properties"].items())
                    for (const json& value : wrong_values(each))
                      api.refuses(operation, with(name, value), name);
                });
  std::printf("count: %u requests with a wrong field\n", tried);
  CHECK(tried > 300);
}

TEST_CASE("null is as good as leaving an optional field out") {
  Api api;
  for (const Operation& operation : operations(api.file())) {
    if (operation.path == "/actions") continue;
    for (const auto& [name, each] : operation.schema["properties"].items()) {
      const json& required = operation.schema["required"];
      if (std::find(required.begin(), required.end(), name) != required.end()) continue;
      json with_null = operation.example;
      with_null[name] = nullptr;
      if (name == "path_on_host" && operation.method == "PUT") continue;  // this or a socket
      std::optional<Api> another;
      if (operation.path == "/metrics") another.emplace();  // which takes it once
      const ApiAnswer answer = (another ? *another : api).call(operation, with_null);
      INFO(operation.method << " " << operation.path << " " << with_null << ": " << answer.body);
      const bool nothing_left = operation.method == "PATCH" && operation.example.size() == 1 &&
                                operation.example.contains(name) && required.empty();
      CHECK(is_accepted(answer) != nothing_left);
    }
  }
}

TEST_CASE("a body that is no object, or none at all, is refused") {
  Api api;
  ApiAnswer answer;
  for (const Operation& operation : operations(api.file()))
    for (const json& body : {json(), json(1), json::array(), json("x")}) {
      INFO(operation.method << " " << operation.path << " " << body);
      CHECK(api.call(operation, body).status == 400);
    }
}

}  // namespace hum
