// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace guest {

// Rights to a page (Intel SDM volume 3, 4.5.4); without any it is read by the kernel alone.
namespace page {
inline constexpr std::uint64_t write = 1 << 1;
inline constexpr std::uint64_t user = 1 << 2;            // for CPL 3 too
inline constexpr std::uint64_t no_execute = 1ull << 63;  // EFER.NXE must be set
}  // namespace page

// Maps the 2 MiB page of an address below 512 GiB one to one, or changes its rights: what the page fault
// handler does with every address that is touched for the first time, so that no image builds tables for
// memory it does not use. False where the address is too high or the directories have run out.
bool map_page_of(std::uint64_t address, std::uint64_t rights = page::write);

}  // namespace guest
