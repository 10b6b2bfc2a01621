// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/image_source.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "tools/humd/http_url.h"
#include "tools/humd/sha256.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr const char* part_keys[] = {"kernel", "initrd", "disk"};

// Empty where it is not given.
std::string text_of(const json& fields, const std::string& key) {
  const auto found = fields.find(key);
  if (found == fields.end()) return {};
  if (!found->is_string()) throw ConfigError(key, found->dump(), "no text", "give it as a text");
  return found->get<std::string>();
}

std::string digest_key_of(const std::string& key) {
  return key + "_digest";
}

bool is_path(const std::string& source) {
  return source.starts_with('/');
}

void check_part(const json& fields, const std::string& key) {
  const std::string source = text_of(fields, key);
  const std::string digest = text_of(fields, digest_key_of(key));
  for (const std::string& each : {key, digest_key_of(key)})
    if (fields.contains(each) && text_of(fields, each).empty())
      throw ConfigError(each, "", "empty", "give what it is, or leave it out");
  if (source.empty() && !digest.empty())
    throw ConfigError(digest_key_of(key), digest, "there is no " + key + " that it could be of",
                      "give " + key + ", too");
  if (!digest.empty() && !is_sha256(digest))
    throw ConfigError(digest_key_of(key), digest, "not accepted", "give sha256: and 64 hexadecimal digits");
  if (source.empty() || is_path(source)) return;
  if (source.find("://") == std::string::npos)
    throw ConfigError(key, source, "no absolute path and no URL", "give /PATH or http://HOST/PATH");
  HttpUrl::parse(key, source);
}

}  // namespace

void check_image_source(const json& fields) {
  if (!fields.is_object()) throw ConfigError("image", "", "no object", "give its fields");
  for (const char* const key : part_keys) check_part(fields, key);
  const std::string format = text_of(fields, "format");
  if (!format.empty() && format != "raw" && format != "qcow2")
    throw ConfigError("format", format, "not accepted", "give raw or qcow2");
}

ImageSource pull_image_source(const std::filesystem::path& folder, const json& fields, const PullRequest& how,
                              const FileTask& task) {
  check_image_source(fields);
  std::uint64_t before = 0;
  FileTask part_task = task;
  part_task.progress = [&](std::uint64_t done, std::uint64_t whole) {
    if (task.progress) task.progress(before + done, whole == 0 ? 0 : before + whole);
  };
  const auto pull = [&](const std::string& key) {
    PullRequest request = how;
    request.url = text_of(fields, key);
    request.digest = text_of(fields, digest_key_of(key));
    request.key = key;
    request.digest_key = digest_key_of(key);
    // A file of this host that nothing is asked of is read where it is.
    if (request.url.empty() || (is_path(request.url) && request.digest.empty())) return request.url;
    std::string path = pull_file(folder, request, part_task);
    before += std::filesystem::file_size(path);
    return path;
  };
  ImageSource source;
  source.kernel = pull("kernel");
  source.initrd = pull("initrd");
  source.disk = pull("disk");
  source.format = text_of(fields, "format") == "qcow2" ? ImageFormat::qcow2 : ImageFormat::raw;
  return source;
}

}  // namespace hum
