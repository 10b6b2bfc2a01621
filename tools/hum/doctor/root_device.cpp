// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/root_device.h"

#include <algorithm>
#include <cctype>

namespace hum::doctor {
namespace {

bool same_letters(const std::string& left, const std::string& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); });
}

std::string unquoted(std::string text) {
  std::erase(text, '"');
  return text;
}

// "vda1, vda2 and vdb"
std::string all_names(const std::vector<DiskFacts>& disks) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    names.push_back(disk_name(i));
    for (const DiskPartition& each : disks[i].partitions)
      if (disks[i].table_usable) names.push_back(disk_name(i) + std::to_string(each.number));
  }
  constexpr std::size_t most = 12;
  if (names.empty()) return "there is no disk";
  std::string text = "there is ";
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > most ? text + ", ..." : text;
}

// The first disk or partition that `matches` says so of.
template <class Matches>
void search(const std::vector<DiskFacts>& disks, RootDevice& root, Matches matches) {
  for (std::size_t i = 0; i < disks.size() && !root.name; ++i) {
    const std::string name = "/dev/" + disk_name(i);
    if (matches(nullptr, disks[i].whole)) {
      root.name = name;
      root.content = &disks[i].whole;
    }
    for (const DiskPartition& each : disks[i].partitions) {
      if (root.name || !disks[i].table_usable || !matches(&each, each.content)) continue;
      root.name = name + std::to_string(each.number);
      root.content = &each.content;
    }
  }
}

void find_by_path(const std::string& path, const std::vector<DiskFacts>& disks, RootDevice& root) {
  for (std::size_t i = 0; i < disks.size(); ++i) {
    const std::string name = "/dev/" + disk_name(i);
    if (path == name) {
      root.name = name;
      root.content = &disks[i].whole;
    }
    for (const DiskPartition& each : disks[i].partitions) {
      if (!disks[i].table_usable || path != name + std::to_string(each.number)) continue;
      root.name = path;
      root.content = &each.content;
    }
  }
}

}  // namespace

std::optional<std::string> command_line_value(const std::string& command_line, const std::string& name) {
  std::optional<std::string> value;
  bool quoted = false;
  std::string word;
  for (const char each : command_line + " ") {
    if (each == '"') quoted = !quoted;
    if (quoted || std::isspace(static_cast<unsigned char>(each)) == 0) {
      word += each;
      continue;
    }
    if (word == "--") break;  // what follows is for init
    if (word.starts_with(name + "=")) value = unquoted(word.substr(name.size() + 1));
    word.clear();
  }
  return value;
}

std::string disk_name(std::size_t index) {
  std::string letters;
  for (std::size_t left = index + 1; left > 0; left = (left - 1) / 26)
    letters.insert(letters.begin(), static_cast<char>('a' + (left - 1) % 26));
  return "vd" + letters;
}

RootDevice find_root(const std::string& root, const std::vector<DiskFacts>& disks) {
  RootDevice result;
  const auto value_behind = [&](const std::string& prefix) -> std::optional<std::string> {
    if (!root.starts_with(prefix)) return std::nullopt;
    return root.substr(prefix.size());
  };
  if (const auto label = value_behind("LABEL=")) {
    result.needs_initrd = true;
    search(disks, result, [&](const DiskPartition*, const DiskContent& content) {
      return !label->empty() && content.label == *label;
    });
  } else if (const auto uuid = value_behind("UUID=")) {
    result.needs_initrd = true;
    search(disks, result, [&](const DiskPartition*, const DiskContent& content) {
      return !uuid->empty() && same_letters(content.uuid, *uuid);
    });
  } else if (const auto name = value_behind("PARTLABEL=")) {
    search(disks, result, [&](const DiskPartition* partition, const DiskContent&) {
      return partition != nullptr && !name->empty() && partition->label == *name;
    });
  } else if (const auto part = value_behind("PARTUUID=")) {
    if (part->find('/') != std::string::npos) {
      result.name = root;  // counted from another partition (/PARTNROFF=): not followed here
      return result;
    }
    search(disks, result, [&](const DiskPartition* partition, const DiskContent&) {
      return partition != nullptr && !part->empty() && same_letters(partition->uuid, *part);
    });
  } else if (root.starts_with("/dev/vd")) {
    find_by_path(root, disks, result);
  } else if (root.starts_with("/dev/mapper/") || root.starts_with("/dev/disk/")) {
    result.needs_initrd = true;
    result.name = root;
    return result;
  } else if (root.starts_with("/dev/sd") || root.starts_with("/dev/hd") || root.starts_with("/dev/nvme")) {
    result.problem = "the disks of this VMM are called /dev/vda and so on";
    return result;
  } else {
    result.names_disk = false;
    return result;
  }
  if (!result.name) result.problem = all_names(disks);
  return result;
}

}  // namespace hum::doctor
