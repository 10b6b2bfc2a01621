// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "tools/humd/file_task.h"

namespace hum {

struct PullRequest {
  std::string url;          // http://..., file:///..., or a file's path that begins with '/'
  std::string digest = {};  // "sha256:..." that the file must have; empty: any
  std::string key = "url";  // for errors
  std::string digest_key = "digest";
  std::uint64_t most = UINT64_MAX;          // bytes
  unsigned retries = 3;                     // after the first try
  std::chrono::milliseconds stall{30'000};  // without a byte, after which a try has failed
  std::chrono::milliseconds pause{1'000};   // before the second try; twice as long before each further one
};

// Gets a file into an operation's own folder and answers its path there, for ImageFiles::stage; as long as
// the folder is there, calling it again goes on where it ended, whatever ended it. Of a server's file it has
// what is still the same there (ETag or Last-Modified, and ranges); otherwise it begins anew. Names, in the
// folder: download-HEX and download-HEX.state, HEX being of the URL. Redirects: 5 at most. Waits for the
// network, looking at the task ten times a second (but for the lookup of a host's name, which getent does).
// Throws ConfigError (the URL, a server's refusal, another digest, too large: nothing is left), HostError
// (ENOSPC: nothing is left; the network, after all tries: what has come stays), Cancelled.
std::string pull_file(const std::filesystem::path& folder, const PullRequest& request,
                      const FileTask& task = {});

}  // namespace hum
