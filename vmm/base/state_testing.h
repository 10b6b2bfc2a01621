// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/state.h"

// For tests only.
namespace hum::testing {

// What is wrong with a class's fields; empty if nothing is. fresh is an object as it is after construction,
// source one of the same configuration that has lived. In the end fresh has the source's state. What is
// tried: the state cut at every length, and every byte of it changed. A state must be refused and change
// nothing, or be taken as it is.
template <class Object>
std::string mistakes_in_fields(Object& source, Object& fresh) {
  const std::vector<std::byte> good = state_of(source);
  std::vector<std::byte> now = state_of(fresh);
  if (now == good) return "the object that is to have lived has the state of a fresh one";
  const auto try_out = [&](const std::vector<std::byte>& state) -> std::string {
    try {
      restore(fresh, state);
      now = state;
    } catch (const ConfigError&) {
    }
    return state_of(fresh) == now ? ""
                                  : "a state was refused and changed something, or was taken and changed";
  };
  for (std::size_t size = 0; size < good.size(); ++size) {
    const std::vector<std::byte> cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
    if (const std::string mistake = try_out(cut); !mistake.empty() || now == cut)
      return "cut at " + std::to_string(size) + ": " + mistake;
  }
  for (std::size_t at = 0; at < good.size(); ++at)
    for (const std::byte change : {std::byte{0x01}, std::byte{0x80}, std::byte{0xff}}) {
      std::vector<std::byte> damaged = good;
      damaged[at] ^= change;
      if (const std::string mistake = try_out(damaged); !mistake.empty())
        return "byte " + std::to_string(at) + " changed: " + mistake;
    }
  restore(fresh, good);
  return state_of(fresh) == good ? "" : "the state is another one after it was read back";
}

}  // namespace hum::testing
