// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "tools/hum-vmm/fields.h"

namespace hum {

// What an object in a request's body may have, by the name of its schema in openapi.json: all that is checked
// by a table is told here, so that the description has it.
struct BodyTable {
  std::string_view schema;
  std::span<const Field> fields;
};

std::vector<BodyTable> vm_tables();
std::vector<BodyTable> action_tables();
std::vector<BodyTable> object_tables();
std::vector<BodyTable> project_tables();

}  // namespace hum
