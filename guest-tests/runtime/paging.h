// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace guest {

// Maps the 2 MiB page of an address below 512 GiB one to one: what the page fault handler does with every
// address that is touched for the first time, so that no image builds tables for memory it does not use.
// False where the address is too high or the directories have run out.
bool map_page_of(std::uint64_t address);

}  // namespace guest
