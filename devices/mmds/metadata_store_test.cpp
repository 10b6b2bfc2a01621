// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/metadata_store.h"

#include <atomic>
#include <string>
#include <thread>

#include "vmm/base/testing.h"

namespace hum {
namespace {

using Change = MetadataStore::Change;
using Format = MetadataStore::Format;
using Outcome = MetadataStore::Answer::Outcome;

constexpr std::string_view example = R"({"latest": {"meta-data": {
    "ami-id": "ami-1", "age": 43, "share": 12.12, "on": false, "no": null, "list": ["a", "b"], "a/b": "slash", "~": "tilde",
    "network": {"interfaces": {}}}, "user-data": "two\nlines"}})";

std::string found(const MetadataStore& store, std::string_view path, Format format) {
  const MetadataStore::Answer answer = store.look_up(path, format);
  return answer.outcome == Outcome::found    ? answer.text
         : answer.outcome == Outcome::absent ? "<absent>"
                                             : "<no text>";
}

std::string nested(int levels) {
  const auto count = static_cast<std::size_t>(levels);
  return std::string(count, '[') + std::string(count, ']');
}

TEST_CASE("a guest finds strings as they are and objects as lists of their keys") {
  MetadataStore store;
  REQUIRE(store.put(example) == Change::done);
  const auto imds = [&](std::string_view path) { return found(store, path, Format::imds); };
  CHECK(imds("/latest/meta-data/ami-id") == "ami-1");
  CHECK(imds("/latest/user-data") == "two\nlines");
  CHECK(imds("/") == "latest/");
  CHECK(imds("/latest") == "meta-data/\nuser-data");
  CHECK(imds("/latest/meta-data") == "a/b\nage\nami-id\nlist\nnetwork/\nno\non\nshare\n~");
  CHECK(imds("/latest/meta-data/network") == "interfaces/");
  CHECK(imds("/latest/meta-data/network/interfaces").empty());
  CHECK(imds("/latest/meta-data/list/1") == "b");
  for (const char* each : {"age", "share", "on", "no", "list"})
    CHECK(imds("/latest/meta-data/" + std::string(each)) == "<no text>");
}

TEST_CASE("every value has a form in JSON") {
  MetadataStore store;
  REQUIRE(store.put(example) == Change::done);
  const auto json = [&](std::string_view name) {
    return found(store, "/latest/meta-data/" + std::string(name), Format::json);
  };
  CHECK(json("ami-id") == R"("ami-1")");
  CHECK(json("age") == "43");
  CHECK(json("share") == "12.12");
  CHECK(json("on") == "false");
  CHECK(json("no") == "null");
  CHECK(json("list") == R"(["a","b"])");
  CHECK(json("network") == R"({"interfaces":{}})");
}

TEST_CASE("slashes count once, at the end not at all, and tildes escape") {
  MetadataStore store;
  REQUIRE(store.put(example) == Change::done);
  const auto imds = [&](std::string_view path) { return found(store, path, Format::imds); };
  for (const char* each :
       {"/latest/meta-data/ami-id/", "//latest///meta-data/ami-id", "/latest/meta-data/ami-id//"})
    CHECK(imds(each) == "ami-1");
  CHECK(imds("///") == "latest/");
  CHECK(imds("/latest/meta-data/a~1b") == "slash");
  CHECK(imds("/latest/meta-data/~0") == "tilde");
  CHECK(imds("/latest/meta-data/~") == "tilde");
}

TEST_CASE("what is not there is absent") {
  MetadataStore store;
  CHECK(found(store, "/", Format::imds) == "<absent>");
  CHECK(found(store, "/latest", Format::json) == "<absent>");
  REQUIRE(store.put(example) == Change::done);
  for (const char* each :
       {"", "latest", "/Latest", "/latest/meta-data/ami-id/more", "/latest/meta-data/list/2",
        "/latest/meta-data/list/00", "/latest/meta-data/list/-", "/latest/meta-data/list/1x",
        "/latest/meta-data/list/99999999999999999999", "/latest/meta-data/age/0"})
    CHECK(found(store, each, Format::json) == "<absent>");
}

TEST_CASE("a patch is merged: null removes, objects go into each other, all else takes the place") {
  MetadataStore store;
  const auto after = [&](std::string_view document, std::string_view patch) {
    REQUIRE(store.put(document) == Change::done);
    REQUIRE(store.patch(patch) == Change::done);
    return store.text();
  };
  CHECK(after(R"({"a":"b","c":"d"})", R"({"a":"z"})") == R"({"a":"z","c":"d"})");
  CHECK(after(R"({"a":"b","c":"d"})", R"({"a":null,"x":null})") == R"({"c":"d"})");
  CHECK(after(R"({"a":{"b":1,"c":2}})", R"({"a":{"b":null,"d":{"e":null,"f":3}}})") ==
        R"({"a":{"c":2,"d":{"f":3}}})");
  CHECK(after(R"({"a":[1,2]})", R"({"a":[3]})") == R"({"a":[3]})");
  CHECK(after(R"({"a":1})", R"(["c"])") == R"(["c"])");
  CHECK(after(R"([1])", R"({"a":1})") == R"({"a":1})");
}

TEST_CASE("a store without a document reads as an empty object and takes no patch") {
  MetadataStore store;
  CHECK(store.text() == "{}");
  CHECK(store.patch("{}") == Change::too_early);
  CHECK(store.put("null") == Change::done);
  CHECK(store.text() == "{}");
  CHECK(store.patch(R"({"a":1})") == Change::done);
  CHECK(store.text() == R"({"a":1})");
}

TEST_CASE("a text that is no JSON changes nothing") {
  MetadataStore store;
  REQUIRE(store.put("[1]") == Change::done);
  for (const std::string& each :
       {std::string(), std::string("{"), std::string("{} x"), std::string("\"\xff\""),
        nested(MetadataStore::most_levels + 1), nested(100000)}) {
    CHECK(store.put(each) == Change::malformed);
    CHECK(store.patch(each) == Change::malformed);
  }
  CHECK(store.text() == "[1]");
  CHECK(store.put(nested(MetadataStore::most_levels)) == Change::done);
}

TEST_CASE("the limit is of the document's shortest text, and a change beyond it is not made") {
  MetadataStore store(20);
  CHECK(store.put(R"( { "a" : "0123456789ab" } )") == Change::done);  // 20 bytes
  CHECK(store.put(R"({"a":"0123456789abc"})") == Change::too_large);
  CHECK(store.patch(R"({"b":1})") == Change::too_large);
  CHECK(store.text() == R"({"a":"0123456789ab"})");
  CHECK(store.patch(R"({"a":"0123456789xy"})") == Change::done);
  CHECK(store.patch(R"({"a":null,"b":"0123456789xyz"})") == Change::too_large);
  CHECK(store.text() == R"({"a":"0123456789xy"})");

  MetadataStore usual;
  CHECK(usual.put('"' + std::string(MetadataStore::default_limit - 2, 'x') + '"') == Change::done);
  CHECK(usual.put('"' + std::string(MetadataStore::default_limit - 1, 'x') + '"') == Change::too_large);
}

TEST_CASE("readers see a document of before or after a change, never one in between") {
  MetadataStore store;
  REQUIRE(store.put(R"({"a":"0","b":"0"})") == Change::done);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int i = 1; i <= 300; ++i) {
      const std::string n = '"' + std::to_string(i) + '"';
      store.patch("{\"a\":" + n + ",\"b\":" + n + "}");
    }
    done = true;
  });
  int torn = 0;
  do {
    const std::string text = store.text();
    const std::string a = text.substr(6, text.find('"', 6) - 6);
    torn += text != "{\"a\":\"" + a + "\",\"b\":\"" + a + "\"}";
  } while (!done);
  writer.join();
  CHECK(torn == 0);
  CHECK(store.text() == R"({"a":"300","b":"300"})");
}

}  // namespace
}  // namespace hum
