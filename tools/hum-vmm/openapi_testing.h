// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

// For tests only.
namespace hum::testing {

// The description of an API (OpenAPI 3.1), to hold a process against.
class ApiDescription {
 public:
  explicit ApiDescription(const std::string& file);
  ~ApiDescription();
  ApiDescription(const ApiDescription&) = delete;
  ApiDescription& operator=(const ApiDescription&) = delete;

  const nlohmann::json& document() const { return *document_; }
  // What a reference stands for; anything else is what it is.
  const nlohmann::json& resolved(const nlohmann::json& part) const;
  // Why a value does not fit a schema, with the place in it; empty: it does. A word of the schema that is not
  // understood fits nothing (JSON Schema 2020-12, as far as the project's descriptions use it).
  std::string misfit(const nlohmann::json& schema, const nlohmann::json& value) const;

 private:
  std::unique_ptr<const nlohmann::json> document_;
};

}  // namespace hum::testing
