// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/fd.h"

namespace hum {

// Names for addresses in a guest's code: an ELF image with a symbol table, or the text of a System.map. Kept
// open and read only when somebody asks; the file may be damaged, truncated or huge, which costs names and
// neither memory nor much time.
class SymbolFile {
 public:
  // Throws ConfigError (key symbols) for what is no file or cannot be read.
  explicit SymbolFile(const std::string& path);

  // For each address the function it lies in, as "name+0x1c"; empty where the file names none.
  std::vector<std::string> describe(std::span<const std::uint64_t> addresses) const;

 private:
  Fd file_;
};

}  // namespace hum
