// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <system_error>

namespace hum {

// A configuration or a request that cannot be carried out as it was given. Ends start-up (exit code 2) or
// that one request. The message reads: key 'value': problem; fix.
class ConfigError : public std::runtime_error {
 public:
  // problem says what is wrong and what is accepted, fix what to do; fix may be empty.
  ConfigError(std::string key, std::string value, const std::string& problem, const std::string& fix = {});

  const std::string& key() const { return key_; }
  const std::string& value() const { return value_; }

 private:
  std::string key_;
  std::string value_;
};

// The host refused a system call. The message reads: cannot <tried>: <reason>; fix.
class HostError : public std::system_error {
 public:
  HostError(int error_number, const std::string& tried, const std::string& fix = {});
};

// The guest broke a protocol so that no answer is possible (a broken ring, no writable status byte). Caught
// only where a queue is drained; the device needs a reset afterwards.
class GuestError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace hum
