// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <exception>
#include <optional>

#include "tools/hum/standard_streams.h"
#include "tools/jailer/arguments.h"
#include "tools/jailer/jailer.h"

int main(int argc, char** argv) {
  const hum::JailerStart start = hum::JailerStart::now();
  hum::open_standard_streams();
  try {
    const std::optional<hum::JailerArguments> arguments =
        hum::parse_jailer_arguments({argv + 1, argv + argc});
    if (arguments) hum::run_jailed(*arguments, start);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hum-jailer: %s\n", error.what());
    return 1;
  }
}
