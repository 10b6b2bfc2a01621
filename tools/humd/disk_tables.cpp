// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/disk_tables.h"

#include <nlohmann/json.hpp>

#include "tools/humd/api_error.h"
#include "tools/humd/table_rows.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr std::string_view select_image =
    "SELECT id, name, owner, state, image.digest, source, ifnull(summary, ''), created"
    " FROM image LEFT JOIN content ON content.digest = image.digest ";

ImageRow image_of(const Query& row) {
  return {.id = row.number(0),
          .name = row.text(1),
          .owner = static_cast<uid_t>(row.number(2)),
          .state = object_state(row.text(3)),
          .digest = row.text(4),
          .source = row.text(5),
          .summary = row.text(6),
          .created = row.real(7)};
}

constexpr std::string_view select_volume =
    "SELECT id, ifnull(name, ''), owner, state, format, size, digest, vm, created FROM volume ";

VolumeRow volume_of(const Query& row) {
  VolumeRow volume{.id = row.number(0),
                   .name = row.text(1),
                   .owner = static_cast<uid_t>(row.number(2)),
                   .state = object_state(row.text(3)),
                   .format = row.text(4) == "qcow2" ? ImageFormat::qcow2 : ImageFormat::raw,
                   .size = static_cast<std::uint64_t>(row.number(5)),
                   .digest = row.text(6),
                   .created = row.real(8)};
  if (!row.is_null(7)) volume.vm = row.number(7);
  return volume;
}

// Anything that stands for the content with that digest.
constexpr std::string_view needed =
    "EXISTS (SELECT 1 FROM image WHERE image.digest = content.digest)"
    " OR EXISTS (SELECT 1 FROM volume WHERE volume.digest = content.digest)"
    " OR EXISTS (SELECT 1 FROM vm WHERE vm.image = content.digest)";

std::string_view format_word(ImageFormat format) {
  return format == ImageFormat::qcow2 ? "qcow2" : "raw";
}

}  // namespace

std::int64_t ImageTable::insert(const std::string& name, uid_t owner, const std::string& source) {
  if (find(name)) throw name_taken("an image", name);
  store_.database().execute(
      "INSERT INTO image (name, owner, state, digest, source, created) VALUES (?, ?, 'creating', '', ?, ?)",
      {name, static_cast<std::int64_t>(owner), source, wall_clock()});
  return store_.database().last_row();
}

void ImageTable::remove(std::int64_t id) {
  store_.database().execute("DELETE FROM image WHERE id = ?", {id});
}

std::optional<ImageRow> ImageTable::find(std::int64_t id) {
  return first(store_.database().query(std::string(select_image) + "WHERE id = ?", {id}), image_of);
}

std::optional<ImageRow> ImageTable::find(std::string_view name) {
  if (const auto id = number_in(name)) return find(*id);
  return first(store_.database().query(std::string(select_image) + "WHERE name = ?", {name}), image_of);
}

std::vector<ImageRow> ImageTable::list(const ListFilter& filter) {
  return every(
      store_.database().query(
          std::string(select_image) + "WHERE name > ? AND (? IS NULL OR owner = ?) ORDER BY name LIMIT ?",
          {filter.after, owner_of(filter), owner_of(filter), filter.most}),
      image_of);
}

void ImageTable::set_state(std::int64_t id, ObjectState state) {
  store_.database().execute("UPDATE image SET state = ? WHERE id = ?", {to_string(state), id});
}

void ImageTable::set_content(std::int64_t id, const Image& content) {
  json parts = json::array();
  for (const ImagePart& part : content.parts)
    parts.push_back({{"name", part.name}, {"digest", part.digest}, {"size", part.size}});
  const json summary = {{"parts", parts}, {"disk_size", content.disk_size}};
  store_.database().execute("INSERT OR REPLACE INTO content VALUES (?, ?)", {content.digest, summary.dump()});
  store_.database().execute("UPDATE image SET digest = ? WHERE id = ?", {content.digest, id});
}

std::vector<std::string> ImageTable::unneeded_contents() {
  return every(store_.database().query("SELECT digest FROM content WHERE NOT (" + std::string(needed) + ")"),
               [](const Query& row) { return row.text(0); });
}

bool ImageTable::is_needed(const std::string& digest) {
  Query row = store_.database().query(
      "SELECT 1 FROM content WHERE digest = ? AND (" + std::string(needed) + ")", {digest});
  return row.next();
}

void ImageTable::forget_content(const std::string& digest) {
  store_.database().execute("DELETE FROM content WHERE digest = ?", {digest});
}

std::vector<std::string> ImageTable::contents() {
  return every(store_.database().query("SELECT digest FROM content"),
               [](const Query& row) { return row.text(0); });
}

std::int64_t VolumeTable::insert(const VolumeRow& row) {
  if (!row.name.empty() && find(row.name)) throw name_taken("a volume", row.name);
  std::optional<std::string> name;
  if (!row.name.empty()) name = row.name;
  store_.database().execute(
      "INSERT INTO volume (name, owner, state, format, size, digest, vm, created)"
      " VALUES (?, ?, 'creating', ?, ?, ?, ?, ?)",
      {name, static_cast<std::int64_t>(row.owner), format_word(row.format), row.size, row.digest, row.vm,
       wall_clock()});
  return store_.database().last_row();
}

void VolumeTable::remove(std::int64_t id) {
  store_.database().execute("DELETE FROM volume WHERE id = ?", {id});
}

std::optional<VolumeRow> VolumeTable::find(std::int64_t id) {
  return first(store_.database().query(std::string(select_volume) + "WHERE id = ?", {id}), volume_of);
}

std::optional<VolumeRow> VolumeTable::find(std::string_view name) {
  if (const auto id = number_in(name)) return find(*id);
  return first(store_.database().query(std::string(select_volume) + "WHERE name = ?", {name}), volume_of);
}

std::vector<VolumeRow> VolumeTable::list(const ListFilter& filter) {
  return every(
      store_.database().query(
          std::string(select_volume) + "WHERE name > ? AND (? IS NULL OR owner = ?) ORDER BY name LIMIT ?",
          {filter.after, owner_of(filter), owner_of(filter), filter.most}),
      volume_of);
}

std::vector<VolumeRow> VolumeTable::of_vm(std::int64_t vm) {
  return every(store_.database().query(std::string(select_volume) + "WHERE vm = ? ORDER BY id", {vm}),
               volume_of);
}

std::vector<std::int64_t> VolumeTable::all() {
  return every(store_.database().query("SELECT id FROM volume"),
               [](const Query& row) { return row.number(0); });
}

void VolumeTable::set_state(std::int64_t id, ObjectState state) {
  store_.database().execute("UPDATE volume SET state = ? WHERE id = ?", {to_string(state), id});
}

void VolumeTable::set_made(std::int64_t id, ImageFormat format, std::uint64_t size) {
  store_.database().execute("UPDATE volume SET format = ?, size = ? WHERE id = ?",
                            {format_word(format), size, id});
}

void VolumeTable::set_uses(std::int64_t vm, const std::vector<std::int64_t>& volumes) {
  store_.database().execute("DELETE FROM volume_use WHERE vm = ?", {vm});
  for (const std::int64_t volume : volumes)
    store_.database().execute("INSERT INTO volume_use VALUES (?, ?)", {vm, volume});
}

std::vector<std::string> VolumeTable::users(std::int64_t volume) {
  return every(store_.database().query("SELECT vm.name FROM volume_use JOIN vm ON vm.id = volume_use.vm"
                                       " WHERE volume_use.volume = ? ORDER BY vm.name",
                                       {volume}),
               [](const Query& row) { return row.text(0); });
}

}  // namespace hum
