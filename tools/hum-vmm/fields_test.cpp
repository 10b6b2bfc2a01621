// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/fields.h"

#include <nlohmann/json.hpp>
#include <string>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr Field table[] = {
    {.name = "name", .required = true, .key = "path"},
    {.name = "count", .type = FieldType::integer, .key = "cpus", .minimum = 2, .maximum = 5},
    {.name = "read_only", .type = FieldType::boolean, .key = "readonly"},
    {.name = "cache", .type = FieldType::choice, .key = "cache", .choices = "Unsafe=unsafe|Same"},
    {.name = "limiter", .type = FieldType::limiter, .key = "rx-"},
    {.name = "smt", .type = FieldType::boolean, .alias = "ht_enabled", .deprecated = true},
    {.name = "list", .type = FieldType::texts},
    {.name = "labels", .type = FieldType::texts_by_name},
};

json checked(const std::string& text) {
  return checked_fields("thing", table, parse_json(text));
}

std::string error_of(const std::string& text) {
  try {
    checked(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

std::string options(const std::string& text) {
  return option_text(table, checked(text));
}

}  // namespace

TEST_CASE("an object is what its fields say, without what is null") {
  CHECK(checked(R"({"name": "a", "count": null})") == json{{"name", "a"}});
  CHECK(checked(R"({"name": "a", "list": ["b", "c"]})") == json{{"name", "a"}, {"list", {"b", "c"}}});
}

TEST_CASE("texts by name are taken as they are, and nothing else among them") {
  CHECK(checked(R"({"name": "a", "labels": {"x": "1", "": ""}})")["labels"] == json{{"x", "1"}, {"", ""}});
  CHECK(checked(R"({"name": "a", "labels": {}})")["labels"] == json::object());
  for (const char* const wrong : {R"({"x": 1})", R"({"x": null})", "[]", "\"x\"", R"(["x"])"})
    CHECK(error_of(R"({"name": "a", "labels": )" + std::string(wrong) + "}").find("thing.labels '") == 0);
}

TEST_CASE("an option's error is told by the field that stands for it") {
  const auto renamed = [](const std::string& key) {
    const ConfigError error = in_fields("things", table, ConfigError(key, "val:ue", "bad: so", "fix it"));
    CHECK(error.value() == "val:ue");
    return std::string(error.what());
  };
  CHECK(renamed("thing0.path") == "things.name 'val:ue': bad: so; fix it");
  CHECK(renamed("thing.rx-ops") == "things.limiter.ops 'val:ue': bad: so; fix it");
  CHECK(renamed("thing.readonly") == "things.read_only 'val:ue': bad: so; fix it");
  CHECK(renamed("thing.other") == "thing.other 'val:ue': bad: so; fix it");
  CHECK(renamed("path") == "path 'val:ue': bad: so; fix it");
  const ConfigError plain = in_fields("things", table, ConfigError("thing.cpus", "", "missing"));
  CHECK(std::string(plain.what()) == "things.count: missing");
}

TEST_CASE("another spelling is taken for the field, but not beside it") {
  CHECK(checked(R"({"name": "a", "ht_enabled": true})") == json{{"name", "a"}, {"smt", true}});
  CHECK(error_of(R"({"name": "a", "ht_enabled": true, "smt": true})")
            .find("thing.smt 'true': is there twice") != std::string::npos);
}

TEST_CASE("what is unknown, missing, of another type or out of range is named") {
  CHECK(error_of(R"({"name": "a", "nam": 1})").find("thing.nam: unknown field; known are: name, count") !=
        std::string::npos);
  CHECK(error_of("{}").find("thing.name: missing field") != std::string::npos);
  CHECK(error_of(R"({"name": null})").find("thing.name: missing field") != std::string::npos);
  CHECK(error_of("[]").find("thing '[]': not accepted; give an object") != std::string::npos);
  for (const char* const wrong :
       {R"("name": 1)", R"("name": "a\u0000b")", R"("name": "a", "count": "3")",
        R"("name": "a", "count": 3.0)", R"("name": "a", "count": -3)", R"("name": "a", "count": 1)",
        R"("name": "a", "count": 6)", R"("name": "a", "read_only": 1)", R"("name": "a", "cache": "unsafe")",
        R"("name": "a", "cache": true)", R"("name": "a", "limiter": {"ops": {"size": 1}})",
        R"("name": "a", "limiter": {"oops": null})", R"("name": "a", "list": "b")",
        R"("name": "a", "list": [1])"})
    CHECK(error_of("{" + std::string(wrong) + "}") != "");
  for (const char* const right : {R"("count": 2)", R"("count": 5)"})
    CHECK(error_of(R"({"name": "a", )" + std::string(right) + "}").empty());
}

TEST_CASE("an error shows only a little of a long value") {
  CHECK(error_of(R"({"name": "a", "count": ")" + std::string(5000, 'x') + "\"}").size() < 200);
}

TEST_CASE("no JSON is an error, and so is a field that is there twice") {
  for (const char* const text :
       {"", "{", "{\"name\": }", "{\"name\": \"a\"} x", "{\"name\": \"\xff\"}", "{\"count\": 1e999}"})
    CHECK_THROWS_AS(parse_json(text), ConfigError);
  CHECK_THROWS_AS(parse_json(R"({"name": "a", "name": "b"})"), ConfigError);
  CHECK_THROWS_AS(parse_json(R"([{"a": {"b": 1, "b": 1}}])"), ConfigError);
  CHECK(parse_json(R"([{"a": 1}, {"a": 1}])").size() == 2);
  CHECK(parse_json(R"({"a": {"a": 1}, "b": {"a": 1}})").size() == 2);
}

TEST_CASE("what stands behind a zero byte is looked at, too") {
  CHECK_THROWS_AS(parse_json(std::string_view("{}\0x", 4)), ConfigError);
  CHECK_THROWS_AS(parse_json(std::string_view("{}\0", 3)), ConfigError);
}

TEST_CASE("nesting is bounded, however long a body may be") {
  const auto nested = [](std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
  CHECK_NOTHROW(parse_json(nested(128)));
  CHECK_THROWS_AS(parse_json(nested(130)), ConfigError);
  CHECK_THROWS_AS(parse_json(nested(1'000'000)), ConfigError);
  CHECK_THROWS_AS(parse_json(std::string(51200, '[')), ConfigError);
  CHECK_THROWS_AS(
      checked_fields("thing", table, parse_json(std::string(25600, '[') + std::string(25600, ']'))),
      ConfigError);
}

TEST_CASE("fields become options of ours") {
  CHECK(options(R"({"name": "a,b", "count": 3, "read_only": true, "cache": "Unsafe", "smt": false})") ==
        "path=a,,b,cpus=3,readonly=on,cache=unsafe");
  CHECK(options(R"({"name": "a", "cache": "Same"})") == "path=a,cache=Same");
}

TEST_CASE("a bucket becomes a limit, one without size or time is none, and one that is absent says nothing") {
  const auto limit = [](const std::string& text) {
    return options(R"({"name": "", "limiter": )" + text + "}");
  };
  CHECK(limit("{}") == "path=");
  CHECK(limit(R"({"bandwidth": {"size": 1000, "refill_time": 100}})") == "path=,rx-bandwidth=1000/100");
  CHECK(limit(R"({"ops": {"size": 5, "refill_time": 1000, "one_time_burst": 7}})") ==
        "path=,rx-ops=5/1000+7");
  CHECK(limit(R"({"ops": {"size": 0, "refill_time": 1000}, "bandwidth": {"size": 1, "refill_time": 0}})") ==
        "path=,rx-bandwidth=off,rx-ops=off");
  CHECK(limit(R"({"ops": null})") == "path=");
}

TEST_CASE("deprecated fields are told of") {
  CHECK(has_deprecated(table, checked(R"({"name": "a", "smt": true})")));
  CHECK_FALSE(has_deprecated(table, checked(R"({"name": "a"})")));
}

}  // namespace hum
