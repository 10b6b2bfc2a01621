// SPDX-License-Identifier: Apache-2.0
//
// Requests that are wrong in each of their parts: refused with a code, and nothing is changed by them.
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tools/humd/body_table.h"
#include "tools/humd/served_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using nlohmann::json;

#ifdef HUM_SANITIZED
constexpr unsigned mutations = 1800;
#else
constexpr unsigned mutations = 9000;
#endif

// JSON texts.
using Tokens = std::vector<std::string>;

const Tokens bad_names = {R"("")",       R"(".")",        R"("..")",       R"("../x")",    R"("/etc/passwd")",
                          R"("a/b")",    "\"$(reboot)\"", R"("`reboot`")", R"("x; rm y")", R"("a b")",
                          R"("a\nb")",   R"("a\u0001")",  R"("a\u0000b")", R"("Web")",     R"("ä")",
                          R"("-x")",     R"("_x")",       R"("7")",        R"("a%2fb")",   R"("a|b&c>d<e")",
                          R"("--help")", R"("x\u202e")"};

Tokens operator+(Tokens left, const Tokens& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

std::string quoted(const std::string& text) {
  return '"' + text + '"';
}

// What no field of that type takes.
Tokens wrong_type(const Field& field) {
  const Tokens numbers = {
      "-1", "1.5", "1e999",    "-1e999", "18446744073709551616", "-9223372036854775809", R"("1")", "0x10",
      "01", "NaN", "Infinity", "1e400"};
  const Tokens no_list = {"5", "true", R"("x")", "{}", "[1]", "[null]", "[[]]", "[true]"};
  switch (field.type) {
    case FieldType::text:
      return {"5", "true", "[]", "{}", R"(["x"])", R"("a\u0000b")", "\"\xff\xfe\"", "'x'", "\"a\nb\"", "x"};
    case FieldType::choice:
      return bad_names + Tokens{"5", "true", "[]", "{}"};
    case FieldType::boolean:
      return {"0", "1", R"("true")", "[]", "{}", "True", "-1"};
    case FieldType::integer: {
      Tokens all = numbers + Tokens{"true", "[]", "{}", R"("x")", std::to_string(field.maximum + 1)};
      if (field.minimum > 0) all.push_back(std::to_string(field.minimum - 1));
      return all;
    }
    case FieldType::texts:
      return no_list + Tokens{R"([{"a": "b"}])"};
    case FieldType::objects:
      return no_list + Tokens{R"(["x"])"};
    case FieldType::texts_by_name:
      return {"5", "true", R"("x")", "[]", R"({"a": 1})", R"({"a": null})", R"({"a": {}})", R"(["a"])"};
    default:
      return {"5", "true", R"("x")", "[]", R"({"a": []})", R"({"a": -1})", R"({"a": 1.5})", R"({"a": null})"};
  }
}

// By the name of a field, what it takes by its type and not by its sense.
const std::map<std::string, Tokens, std::less<>> wrong_sense = {
    {"VmSpec.name", bad_names + Tokens{quoted(std::string(64, 'x')), "null"}},
    {"VmSpec.project", bad_names},
    {"VmSpec.image", bad_names + Tokens{R"("none")"}},
    {"VmSpec.kernel", {R"("")", R"("x")", R"("../x")", "\"$(reboot)\"", R"("http://host/x")"}},
    {"VmSpec.initrd", {R"("")", R"("x")", R"("../x")", R"("; rm x")"}},
    {"VmSpec.disk_mib", {"1"}},  // there is no image
    {"VmSpec.volumes",
     {R"(["none"])", R"([""])", R"(["../x"])", R"(["/dev/sda"])", "[\"$(x)\"]", R"(["data", "data"])"}},
    {"VmNetwork.network", bad_names + Tokens{R"("none")", "null"}},
    {"VmNetwork.ports",
     {R"(["x"])", R"(["0:80"])", R"(["70000:80"])", R"(["80:0"])", R"(["../x:80"])", R"(["80:80;rm"])",
      "[\"$(x):80\"]", R"(["-1:80"])", R"(["80:80", "80:80"])", R"(["300.1.1.1:80:80"])"}},
    {"VmDevice.name", bad_names + Tokens{"null"}},
    {"VmDevice.kind", {"null"}},
    {"VmLimits.memory_mib", {"1"}},
    {"VmLimits.pids", {"1"}},
    {"NewImage.name", bad_names + Tokens{"null"}},
    {"NewImage.kernel",
     {R"("")", R"("x")", R"("../x")", R"("https://x/y")", R"("ftp://x/y")", R"("http://")"}},
    {"NewImage.initrd", {R"("")", R"("x")", R"("../x")", "\"$(x)\"", R"("http://[/y")"}},
    {"NewImage.disk", {R"("")", R"("x")", R"("../x")", R"("file:///x")", R"("http://a b/y")"}},
    {"NewImage.kernel_digest", {R"("")", R"("x")", R"("../x")", R"("sha256:")", R"("md5:00")"}},
    {"NewImage.initrd_digest", {R"("")", R"("x")"}},
    {"NewImage.disk_digest", {R"("")", R"("x")"}},
    {"NewImage.format", {R"("raw")"}},  // there is no disk
    {"NewVolume.name", bad_names + Tokens{"null"}},
    {"NewVolume.image", bad_names + Tokens{R"("none")"}},
    {"NewVolume.from", bad_names + Tokens{R"("none")", R"("data")"}},
    {"VolumeSize.size_mib", {"null"}},
    {"NewNetwork.name", bad_names + Tokens{"null", R"("user")"}},
    {"NewNetwork.subnet",
     {R"("")", R"("x")", R"("10.1.0.0")", R"("10.1.0.0/33")", R"("10.1.0.1/24")", R"("0.0.0.0/0")",
      R"("::/64")", R"("10.1.0.0/-1")", R"("10.1.0.0/24; x")", R"("256.1.0.0/24")", R"("../x")"}},
    {"NewNetwork.dns_domain",
     {R"("")", R"("..")", R"("a b")", "\"$(x)\"", R"("-a")", R"("a\nb")", R"("a/b")"}},
};

// A request whose body is checked by a table: the fields that it has otherwise, and what stands around them.
struct Place {
  const char* schema;
  const char* method;
  const char* target;
  std::map<std::string, std::string> fields;
  const char* before = "";
  const char* behind = "";
};

const std::vector<Place> places = {
    {"VmSpec", "POST", "/v1/vms", {{"name", R"("new")"}, {"kernel", R"("/k")"}}},
    {"VmSpec", "PATCH", "/v1/vms/web", {}},
    {"VmNetwork",
     "POST",
     "/v1/vms",
     {{"network", R"("user")"}},
     R"({"name": "new", "kernel": "/k", "networks": [)",
     "]}"},
    {"VmDevice",
     "POST",
     "/v1/vms",
     {{"name", R"("d")"}, {"kind", R"("rng")"}},
     R"({"name": "new", "kernel": "/k", "devices": [)",
     "]}"},
    {"VmLimits", "POST", "/v1/vms", {}, R"({"name": "new", "kernel": "/k", "limits": )", "}"},
    {"Stop", "POST", "/v1/vms/web/stop", {}},
    {"Stop", "POST", "/v1/vms/web/restart", {}},
    {"NewImage", "POST", "/v1/images", {{"name", R"("new")"}, {"kernel", R"("/k")"}}},
    {"NewVolume", "POST", "/v1/volumes", {{"name", R"("new")"}, {"size_mib", "1"}}},
    {"VolumeSize", "PATCH", "/v1/volumes/data", {{"size_mib", "2"}}},
    {"NewNetwork", "POST", "/v1/networks", {{"name", R"("new")"}}},
    {"Quota", "PUT", "/v1/projects/lab", {}},
};

std::string body_of(const Place& place, std::map<std::string, std::string> fields) {
  std::string body;
  for (const auto& [name, token] : fields) body += (body.empty() ? "" : ", ") + quoted(name) + ": " + token;
  return place.before + ("{" + body + "}") + place.behind;
}

std::span<const Field> table_of(std::string_view schema) {
  for (const auto& tables : {vm_tables(), action_tables(), object_tables(), project_tables()})
    for (const BodyTable& table : tables)
      if (table.schema == schema) return table.fields;
  throw std::runtime_error("there is no table " + std::string(schema));
}

// A daemon with a little of each, which is looked at after each request.
class Asked {
 public:
  Asked() : daemon_(place_.settings()) { fill(); }

  // Of a request that is wrong: it is refused by a 4xx with a code, and nothing is changed.
  void refuse(const ApiRequest& request) {
    const ApiAnswer answer = daemon_.ask(request);
    ++count_;
    const std::string wrong =
        answer.status < 400 ? "status " + std::to_string(answer.status) : misfit(answer);
    if (!wrong.empty()) report(request, wrong);
    if (state() == state_) return;
    report(request, "changes the state");
    settle();
  }
  void refuse(const std::string& method, const std::string& target, const std::string& body = {}) {
    refuse(api_request(method, target, body));
  }
  // Of one that may be wrong or not.
  void survive(const ApiRequest& request) {
    const ApiAnswer answer = daemon_.ask(request);
    ++count_;
    if (answer.status < 400) {
      ++accepted_;
      if (request.method != "GET") settle();
      return;
    }
    if (const std::string wrong = misfit(answer); !wrong.empty()) report(request, wrong);
    if (state() == state_) return;
    report(request, "is refused and changes the state");
    settle();
  }
  // As it was at first.
  void fill() {
    empty();
    expect("POST", "/v1/vms", R"({"name": "web", "kernel": "/k", "labels": {"a": "b"}})");
    expect("POST", "/v1/volumes", R"({"name": "data", "size_mib": 1})");
    daemon_.ask("PUT", "/v1/projects/lab", R"({"vms": 3})");
    settle();
  }
  void empty() {
    for (const VmRow& vm : daemon_.manager().vms().list({}))
      expect("DELETE", "/v1/vms/" + vm.name + "?force=true");
    for (const VolumeRow& volume : daemon_.manager().volumes().list({}))
      expect("DELETE", "/v1/volumes/" + volume.name);
    for (const ImageRow& image : daemon_.manager().images().list({}))
      expect("DELETE", "/v1/images/" + image.name);
    for (const ProjectRow& project : daemon_.manager().projects().list())
      daemon_.ask("DELETE", "/v1/projects/" + project.name);
  }

  Served& daemon() { return daemon_; }
  const DaemonPlace& place() const { return place_; }
  unsigned count() const { return count_; }
  unsigned accepted() const { return accepted_; }

 private:
  // Empty: it is an error as they all are.
  static std::string misfit(const ApiAnswer& answer) {
    if (answer.status < 400 || answer.status >= 500) return "status " + std::to_string(answer.status);
    if (error_code(answer).empty()) return "no error with a code";
    if (answer.body.size() > 8192) return "an error of " + std::to_string(answer.body.size()) + " bytes";
    return {};
  }

  void report(const ApiRequest& request, const std::string& wrong) {
    INFO(request.method << ' ' << request.path.substr(0, 200) << '?' << request.query.substr(0, 200) << ' '
                        << request.body.substr(0, 400));
    CHECK(wrong == "");
  }

  void expect(const std::string& method, const std::string& target, const std::string& body = {}) {
    INFO(method << ' ' << target);
    CHECK(daemon_.outcome(method, target, body) == "done");
  }

  std::string state() {
    std::string all;
    for (const char* const list : {"vms", "volumes", "images", "networks", "projects", "operations?limit=3"})
      all += daemon_.ask("GET", std::string("/v1/") + list).body + "\n";
    return all;
  }

  void settle() {
    CHECK(daemon_.until([&] { return daemon_.manager().journal().open().empty(); }));
    state_ = state();
  }

  DaemonPlace place_;
  Served daemon_;
  std::string state_;
  unsigned count_ = 0;
  unsigned accepted_ = 0;
};

void refuse_values(Asked& asked, const Place& place) {
  const bool changes = std::string_view(place.method) == "PATCH" && place.fields.empty();
  for (const Field& field : table_of(place.schema)) {
    const std::string name(field.name);
    Tokens tokens = wrong_type(field);
    if (field.required && !changes) tokens.push_back("null");
    if (const auto sense = wrong_sense.find(place.schema + ("." + name)); sense != wrong_sense.end())
      tokens = tokens + sense->second;
    for (const std::string& token : tokens) {
      std::map<std::string, std::string> fields = place.fields;
      fields[name] = token;
      asked.refuse(place.method, place.target, body_of(place, std::move(fields)));
    }
    if (!field.required || changes) continue;
    std::map<std::string, std::string> fields = place.fields;
    fields.erase(name);
    asked.refuse(place.method, place.target, body_of(place, std::move(fields)));
  }
  for (const char* const name : {"x", "Name", "", "__proto__", "../x", "$(reboot)", "name ", "name\\u0000"}) {
    std::map<std::string, std::string> fields = place.fields;
    fields[name] = "1";
    asked.refuse(place.method, place.target, body_of(place, std::move(fields)));
  }
}

std::string repeated(const std::string& text, std::size_t times) {
  std::string all;
  for (; times > 0; --times) all += text;
  return all;
}

void refuse_bodies(Asked& asked, const Place& place) {
  constexpr std::size_t deep = 100'000;
  constexpr std::size_t large = 1'000'000;  // as much as the server takes
  Tokens bodies = {"x",
                   "[]",
                   "5",
                   "null",
                   "true",
                   R"("x")",
                   "{",
                   "}",
                   "{}{}",
                   R"({"name"})",
                   R"({"name": })",
                   R"({"name": "a", "name": "b"})",
                   R"({"size_mib": 1, "size_mib": 2})",
                   "\xff\xfe{}",
                   "{\"name\": \"\xc3\x28\"}",
                   std::string("{}\0x", 4),
                   "{\"x\": 1,}",
                   "// {}",
                   "<xml/>"};
  bodies.push_back(repeated("[", deep));
  bodies.push_back(repeated("[", deep) + repeated("]", deep));
  bodies.push_back(repeated(R"({"a":)", deep));
  bodies.push_back(R"({"name": ")" + std::string(large, 'x') + "\"}");
  bodies.push_back(R"({")" + std::string(large, 'x') + "\": 1}");
  bodies.push_back("{\"x\": [" + repeated("1,", large / 2) + "1]}");
  for (const std::string& body : bodies) asked.refuse(place.method, place.target, body);
}

const std::vector<std::string> bad_parts = {"..",
                                            ".",
                                            "%2e%2e",
                                            "a%2fb",
                                            "none",
                                            "$(reboot)",
                                            "`x`",
                                            "; rm x",
                                            "WEB",
                                            "web%00",
                                            "web\n",
                                            "\xff\xfe",
                                            "0",
                                            "-1",
                                            "99999999999999999",
                                            "18446744073709551616",
                                            "1e999",
                                            std::string(100'000, 'x')};

// Numbers in a query up to some bound.
const std::vector<std::string> bad_numbers = {"-1",
                                              "1.5",
                                              "x",
                                              "",
                                              "1e3",
                                              "0x1",
                                              "%31%00",
                                              " 1",
                                              "+1",
                                              "1 ",
                                              "NULL",
                                              "1,000",
                                              "1;1",
                                              "$(x)",
                                              "18446744073709551616",
                                              "999999999999999999999999"};

ApiRequest with_header(ApiRequest request, const std::string& if_match, const std::string& key = {}) {
  request.if_match = if_match;
  request.idempotency_key = key;
  return request;
}

// Requests that are answered well.
struct Valid {
  const char* method;
  const char* target;
  const char* body = "";
};
constexpr Valid valid[] = {
    {"GET", "/v1/vms?project=lab&state=stopped&name=w&after=a&limit=10"},
    {"GET", "/v1/vms/web"},
    {"GET", "/v1/vms/web/logs?of=vmm"},
    {"GET", "/v1/operations?vm=web&before=10&limit=5"},
    {"GET", "/v1/capacity?cpus=2&memory_mib=512&project=lab"},
    {"GET", "/v1/volumes?after=a&limit=3"},
    {"GET", "/v1/projects/lab"},
    {"PATCH", "/v1/vms/web?dry_run=true", R"({"cpus": 2, "restart": "always", "labels": {"a": "b"}})"},
    {"PATCH", "/v1/vms/web",
     R"({"memory_mib": 512, "volumes": ["data"], "lifetime_s": 86400, "most_restarts": 3, "cmdline": "quiet"})"},
    {"POST", "/v1/vms",
     R"({"name": "new", "kernel": "/k", "cpus": 1, "networks": [{"network": "user", "ports": ["8080:80"]}],)"
     R"( "devices": [{"name": "d", "kind": "rng", "options": {"x": 1}}], "limits": {"cpu_percent": 50}})"},
    {"POST", "/v1/volumes", R"({"name": "disk", "size_mib": 1, "format": "qcow2"})"},
    {"POST", "/v1/images", R"({"name": "base", "kernel": "/no/kernel", "cmdline": "quiet"})"},
    {"PATCH", "/v1/volumes/data", R"({"size_mib": 2, "shrink": false})"},
    {"PUT", "/v1/projects/lab", R"({"vms": 1, "cpus": 2, "memory_mib": 1024})"},
    {"POST", "/v1/vms/web/stop", R"({"timeout_s": 1})"},
    {"DELETE", "/v1/vms/web?force=false"},
    {"DELETE", "/v1/volumes/data"},
};

// Something is wrong in a text: bytes, pieces or numbers of it.
void mutate(std::string& text, std::mt19937& random) {
  static const std::vector<std::string> words = {"null",
                                                 "-1",
                                                 "1e999",
                                                 "18446744073709551616",
                                                 "{}",
                                                 "[]",
                                                 "\"",
                                                 "\\",
                                                 "\\u0000",
                                                 "../",
                                                 "/etc/passwd",
                                                 "$(reboot)",
                                                 "`x`",
                                                 "; rm x",
                                                 "%00",
                                                 "%2f",
                                                 "&",
                                                 "=",
                                                 "?",
                                                 "/",
                                                 std::string("\0", 1),
                                                 "\xff",
                                                 "\n",
                                                 R"("name": "x", )",
                                                 "true",
                                                 "4294967296",
                                                 "{\"a\":",
                                                 "[[[[",
                                                 ",",
                                                 ":"};
  const auto below = [&](std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random);
  };
  const std::size_t at = below(text.size() + 1);
  switch (below(5)) {
    case 0:
      text.insert(at, words[below(words.size())]);
      break;
    case 1:
      if (at < text.size()) text[at] = static_cast<char>(below(256));
      break;
    case 2:
      text.erase(at, below(8) + 1);
      break;
    case 3:
      text.insert(at, text.substr(below(text.size() + 1), below(12) + 1));
      break;
    default: {  // the number that is next
      const std::size_t begin = text.find_first_of("0123456789", at);
      if (begin == std::string::npos) break;
      const std::size_t end = std::min(text.find_first_not_of("0123456789", begin), text.size());
      text.replace(begin, end - begin, words[below(4)]);
    }
  }
}

}  // namespace

TEST_CASE("every field of every body is refused out of its range, of another type and without sense") {
  Asked asked;
  for (const Place& place : places) refuse_values(asked, place);
  std::printf("count: %u requests with a wrong field, each refused\n", asked.count());
  asked.empty();
  CHECK(asked.place().untidy({}, {}) == "");
}

TEST_CASE("bodies that are no JSON, too deep, too large, or have a field twice are refused") {
  Asked asked;
  for (const Place& place : places)
    if (place.before[0] == '\0') refuse_bodies(asked, place);
  for (const char* const action : {"start", "kill", "pause", "resume"})
    for (const char* const body : {"x", "[]", R"({"x": 1})", R"({"timeout_s": 1})"})
      asked.refuse("POST", std::string("/v1/vms/web/") + action, body);
  asked.refuse("POST", "/v1/vms", "");
}

TEST_CASE("unknown paths, methods and names are refused, whatever they look like") {
  Asked asked;
  for (const char* const path : {"",
                                 "/",
                                 "/v1",
                                 "/v1/",
                                 "/v2/vms",
                                 "/v1//vms",
                                 "/v1/vms/",
                                 "/v1/vms//",
                                 "/v1/vms/web/",
                                 "/v1/vms/web/x",
                                 "/v1/vms/web/start/x",
                                 "/v1/vms%2fweb",
                                 "/v1/vms/web%2fstart",
                                 "//v1/vms",
                                 "/v1/../etc/passwd",
                                 "*",
                                 "/v1/vms/web/../web",
                                 "/v1/VMS",
                                 "/v1/vms\n",
                                 "v1/vms",
                                 "/v1/version/x",
                                 "\xff",
                                 "/v1/operations/1/x"})
    for (const char* const method : {"GET", "POST", "PUT", "PATCH", "DELETE"})
      asked.refuse(method, path, "{}");
  for (const char* const method : {"HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "", "GET ", "\xff", "BREW"})
    for (const char* const path : {"/v1/vms", "/v1/vms/web", "/v1/version", "/v1/vms/web/start"})
      asked.refuse(method, path);
  for (const std::string& part : bad_parts) {
    for (const char* const kind : {"vms", "images", "volumes", "networks", "projects", "operations"})
      for (const char* const method : {"GET", "DELETE"}) asked.refuse(method, "/v1/" + (kind + ("/" + part)));
    for (const char* const action : {"start", "stop", "kill", "pause", "resume", "restart", "x"})
      asked.refuse("POST", "/v1/vms/" + part + "/" + action);
    for (const char* const what : {"wait", "logs", "statistics", "console"})
      asked.refuse("GET", "/v1/vms/" + part + "/" + what);
    asked.refuse("PATCH", "/v1/vms/" + part, "{}");
    asked.refuse("PATCH", "/v1/volumes/" + part, R"({"size_mib": 1})");
    if (part != "none" && part != "1e999") asked.refuse("PUT", "/v1/projects/" + part, "{}");
    asked.refuse("POST", "/v1/vms/web/" + part);
  }
}

TEST_CASE("parameters of a query out of their range are refused") {
  Asked asked;
  for (const std::string& number : bad_numbers) {
    for (const char* const list : {"vms", "images", "volumes", "networks", "operations"})
      asked.refuse("GET", "/v1/" + (list + ("?limit=" + number)));
    asked.refuse("GET", "/v1/operations?before=" + number);
    asked.refuse("GET", "/v1/operations/1?wait_s=" + number);
    asked.refuse("GET", "/v1/capacity?cpus=" + number);
    asked.refuse("GET", "/v1/capacity?memory_mib=" + number);
    asked.refuse("GET", "/v1/vms/web/wait?timeout_s=" + number);
    asked.refuse("POST", "/v1/vms?wait_s=" + number, R"({"name": "new", "kernel": "/k"})");
    asked.refuse("POST", "/v1/vms/web/start?wait_s=" + number);
    asked.refuse("DELETE", "/v1/vms/web?wait_s=" + number);
    asked.refuse("POST", "/v1/volumes?wait_s=" + number, R"({"name": "new", "size_mib": 1})");
    asked.refuse("PATCH", "/v1/volumes/data?wait_s=" + number, R"({"size_mib": 2})");
    asked.refuse("DELETE", "/v1/volumes/data?wait_s=" + number);
    asked.refuse("POST", "/v1/images?wait_s=" + number, R"({"name": "new", "kernel": "/k"})");
  }
  for (const char* const flag : {"maybe", "1", "TRUE", "true%00", "tru", "true,true", "..", "$(x)"}) {
    asked.refuse("POST", std::string("/v1/vms?start=") + flag, R"({"name": "new", "kernel": "/k"})");
    asked.refuse("DELETE", std::string("/v1/vms/web?force=") + flag);
    asked.refuse("PATCH", std::string("/v1/vms/web?dry_run=") + flag, R"({"cpus": 2})");
    asked.refuse("GET", std::string("/v1/vms/web/wait?for=") + flag);
    asked.refuse("GET", std::string("/v1/vms/web/logs?of=") + flag);
  }
  for (const char* const query :
       {"x=1", "limit=1&limit=2", "%", "%4", "%zz=1", "limit=%", "limit=%1", "%00=1", "=", "=1", "..=1", "&x",
        "limit=1&&x", "vm=none", "vm=../x", "\xff=1", "limit=1?limit=2", "wait_s=1"})
    asked.refuse("GET", std::string("/v1/operations?") + query);
  for (const Valid& each : valid)
    asked.refuse(each.method, std::string(each.target).substr(0, std::string(each.target).find('?')) + "?x=1",
                 each.body);
  asked.refuse("GET", "/v1/vms/web/wait?timeout_s=3601");
  asked.refuse("GET", "/v1/operations/1?wait_s=3601");
  asked.refuse("GET", "/v1/vms?limit=1001");
}

TEST_CASE("headers that do not fit are refused") {
  Asked asked;
  for (const std::string& tag : {std::string("\"999\""), std::string("1"), std::string("W/\"1\""),
                                 std::string("\"1"), std::string("x"), std::string("../x"),
                                 std::string("\xff"), std::string(100'000, 'x'), std::string("\"1\", \"2\"")})
    asked.refuse(with_header(api_request("PATCH", "/v1/vms/web", R"({"cpus": 2})"), tag));
  for (const std::string& key : {std::string(256, 'k'), std::string(100'000, '\xff')}) {
    asked.refuse(with_header(api_request("POST", "/v1/vms", R"({"name": "new", "kernel": "/k"})"), "", key));
    asked.refuse(with_header(api_request("POST", "/v1/vms/web/start"), "", key));
    asked.refuse(with_header(api_request("DELETE", "/v1/volumes/data"), "", key));
  }
  ApiRequest events = api_request("GET", "/v1/events");
  for (const char* const id : {"x", "-1", "1.5", "18446744073709551616", "../x"}) {
    events.last_event_id = id;
    asked.refuse(events);
  }
}

TEST_CASE("valid requests with something wrong in them are carried out or refused, and nothing in between") {
  Asked asked;
  std::mt19937 random(20261123);
  for (unsigned i = 0; i < mutations; ++i) {
    const Valid& picked = valid[random() % std::size(valid)];
    std::string target = picked.target;
    std::string body = picked.body;
    for (auto changes = 1 + random() % 3; changes > 0; --changes)
      mutate(body.empty() || random() % 4 == 0 ? target : body, random);
    asked.survive(api_request(picked.method, target, body));
    if (i % 100 == 99) asked.fill();
  }
  CHECK(asked.accepted() > mutations / 100);
  std::printf("count: %u requests with random faults, %u of them carried out\n", asked.count(),
              asked.accepted());
  asked.empty();
  CHECK(asked.place().untidy({}, {}) == "");
}

}  // namespace hum
