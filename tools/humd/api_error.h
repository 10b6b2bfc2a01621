// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace hum {

// A request that cannot be carried out now, or at all: with HTTP's status and a word for programs.
class ApiError : public std::runtime_error {
 public:
  ApiError(unsigned status, std::string code, const std::string& text)
      : std::runtime_error(text), status_(status), code_(std::move(code)) {}

  unsigned status() const { return status_; }
  const std::string& code() const { return code_; }

 private:
  unsigned status_;
  std::string code_;
};

}  // namespace hum
