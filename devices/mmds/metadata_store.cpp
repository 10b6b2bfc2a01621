// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/metadata_store.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace hum {
namespace {

using Json = nlohmann::json;

std::optional<Json> parse(std::string_view text) {
  bool too_deep = false;
  const auto look = [&](int depth, Json::parse_event_t event, Json&) {
    const bool begins =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    too_deep |= begins && depth >= MetadataStore::most_levels;
    return !too_deep;
  };
  Json value = Json::parse(text, look, false);
  if (too_deep || value.is_discarded()) return {};
  return value;
}

// RFC 6901, section 4: of an array, digits without zeroes in front.
const Json* child(const Json& value, const std::string& key) {
  if (value.is_object()) {
    const auto found = value.find(key);
    return found == value.end() ? nullptr : &*found;
  }
  if (!value.is_array() || key.empty() || (key.size() > 1 && key[0] == '0')) return nullptr;
  std::size_t index = 0;
  const char* const end = key.data() + key.size();
  const auto [stopped, error] = std::from_chars(key.data(), end, index);
  if (error != std::errc() || stopped != end || index >= value.size()) return nullptr;
  return &value[index];
}

// Section 3: ~1 stands for a slash, ~0 for a tilde.
std::string unescaped(std::string_view token) {
  std::string key;
  for (std::size_t i = 0; i < token.size(); ++i) {
    const bool escape =
        token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1');
    key.push_back(!escape ? token[i] : token[i + 1] == '0' ? '~' : '/');
    if (escape) ++i;
  }
  return key;
}

const Json* find(const Json& root, std::string_view path) {
  if (!path.starts_with('/')) return nullptr;
  const Json* value = &root;
  while (value != nullptr) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    if (path.empty()) break;
    const std::string_view token = path.substr(0, path.find('/'));
    value = child(*value, unescaped(token));
    path.remove_prefix(token.size());
  }
  return value;
}

std::string keys_of(const Json& object) {
  std::string lines;
  for (const auto& [key, value] : object.items()) {
    if (!lines.empty()) lines += '\n';
    lines += key;
    if (value.is_object()) lines += '/';
  }
  return lines;
}

}  // namespace

struct MetadataStore::Document {
  Json root;
};

MetadataStore::MetadataStore(std::size_t limit) : limit_(limit) {}

MetadataStore::~MetadataStore() = default;

MetadataStore::Change MetadataStore::put(std::string_view json) {
  std::optional<Json> root = parse(json);
  if (!root) return Change::malformed;
  const std::lock_guard lock(change_mutex_);
  return replace(std::make_shared<const Document>(std::move(*root)));
}

MetadataStore::Change MetadataStore::patch(std::string_view json) {
  const std::optional<Json> patch = parse(json);
  if (!patch) return Change::malformed;
  const std::lock_guard lock(change_mutex_);
  const std::shared_ptr<const Document> before = current();
  if (!before) return Change::too_early;
  Document fresh{before->root};
  fresh.root.merge_patch(*patch);
  return replace(std::make_shared<const Document>(std::move(fresh)));
}

MetadataStore::Change MetadataStore::replace(std::shared_ptr<const Document> fresh) {
  if (fresh->root.dump().size() > limit_) return Change::too_large;
  const std::lock_guard lock(mutex_);
  document_.swap(fresh);
  return Change::done;
}

std::shared_ptr<const MetadataStore::Document> MetadataStore::current() const {
  const std::lock_guard lock(mutex_);
  return document_;
}

std::string MetadataStore::text() const {
  const std::shared_ptr<const Document> document = current();
  return document && !document->root.is_null() ? document->root.dump() : "{}";
}

MetadataStore::Answer MetadataStore::look_up(std::string_view path, Format format) const {
  using enum Answer::Outcome;
  const std::shared_ptr<const Document> document = current();
  const Json* const value = document ? find(document->root, path) : nullptr;
  if (value == nullptr) return {.outcome = absent};
  if (format == Format::json) return {found, value->dump()};
  if (value->is_object()) return {found, keys_of(*value)};
  if (value->is_string()) return {found, value->get<std::string>()};
  return {.outcome = no_text};
}

}  // namespace hum
