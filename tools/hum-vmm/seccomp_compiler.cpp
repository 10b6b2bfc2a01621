// SPDX-License-Identifier: Apache-2.0
// Writes the filters of hum-vmm's threads as C++ into a file, when hum-vmm is built.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>

#include "tools/hum-vmm/seccomp_rules.h"

namespace {

void write_program(std::ofstream& file, const std::string& name, hum::ThreadKind kind) {
  const std::vector<sock_filter> program = hum::seccomp_program(kind);
  if (std::count_if(program.begin(), program.end(),
                    [](const sock_filter& each) { return each.k == hum::seccomp_own_pid; }) != 1)
    throw std::logic_error(name + ": the process's number does not stand in one place");
  file << "constexpr sock_filter " << name << "_program[] = {\n";
  for (const sock_filter& each : program)
    file << "{" << each.code << ", " << +each.jt << ", " << +each.jf << ", " << each.k << "u},\n";
  file << "};\n";
}

}  // namespace

int main(int count, char** words) {
  try {
    if (count != 2) throw std::invalid_argument("FILE is missing");
    std::ofstream file(words[1]);
    file << "// Made by seccomp_compiler.cpp.\n#include \"tools/hum-vmm/seccomp_rules.h\"\n\nnamespace hum "
            "{\nnamespace {\n\n";
    for (const auto& [name, kind] : {std::pair("owner", hum::ThreadKind::owner),
                                     {"api", hum::ThreadKind::api},
                                     {"vcpu", hum::ThreadKind::vcpu},
                                     {"io", hum::ThreadKind::io}})
      write_program(file, name, kind);
    // In the order of ThreadKind.
    file
        << "\n}  // namespace\n\nstd::span<const sock_filter> made_seccomp_program(ThreadKind kind) {\n"
           "  constexpr std::span<const sock_filter> programs[] = {owner_program, api_program, vcpu_program, "
           "io_program};\n  return programs[static_cast<std::size_t>(kind)];\n}\n\n}  // namespace hum\n";
    if (!file.flush()) throw std::runtime_error(std::string("cannot write ") + words[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "seccomp_compiler: %s\n", error.what());
    return 1;
  }
  return 0;
}
