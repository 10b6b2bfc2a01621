// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "tools/humd/file_task.h"
#include "tools/humd/image_files.h"
#include "tools/humd/image_pull.h"

namespace hum {

// What a client says that an image is made of: kernel, initrd and disk, each an absolute path or an http://
// URL, each with kernel_digest, initrd_digest or disk_digest ("sha256:...") where it must have that, and
// format of the disk (raw, if not said, or qcow2). Other fields are not looked at. Throws ConfigError with
// the field's name.
void check_image_source(const nlohmann::json& fields);

// Pulls what is a URL, or has a digest, into an operation's own folder, for ImageFiles::stage there; other
// paths stay what they are. how has the limits; its URL, digest and keys do not count. The task is told the
// sum of what has come; the whole grows with each file. Called again, it goes on. Throws what pull_file and
// check_image_source do.
ImageSource pull_image_source(const std::filesystem::path& folder, const nlohmann::json& fields,
                              const PullRequest& how = {}, const FileTask& task = {});

}  // namespace hum
