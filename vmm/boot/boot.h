// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/boot/cpu_entry.h"
#include "vmm/boot/memory_map.h"
#include "vmm/memory/guest_memory.h"

namespace hum {

// How a kernel is entered.
// automatic: the payload of a bzImage is unpacked by the host and entered by its PVH note, else by its 64-bit
//   entry; a payload in an unknown format unpacks itself (bzimage). An ELF image is entered by its PVH note,
//   else its multiboot header, else its 64-bit entry.
// bzimage: the kernel's own decompressor, by the 64-bit boot protocol, with its address randomisation.
// pvh: 32-bit protected mode, ebx = hvm_start_info.
// linux64: the ELF entry point in long mode, rsi = boot_params.
// multiboot: version 1, eax = 0x2badb002, ebx = multiboot information.
enum class BootProtocol : std::uint8_t { automatic, bzimage, pvh, linux64, multiboot };

// "auto", "bzimage", "pvh", "linux64", "multiboot".
std::string_view to_string(BootProtocol protocol);
std::optional<BootProtocol> boot_protocol_from(std::string_view text);

// A file that a multiboot or PVH kernel gets beside its initrd, with a text it understands.
struct BootModule {
  std::string path;
  std::string text;
};

struct BootRequest {
  std::string kernel_path;
  std::string initrd_path;              // empty: none. For multiboot it is the first module
  std::vector<std::byte> extra_initrd;  // a further cpio archive, appended to the initrd
  std::string command_line;
  BootProtocol protocol = BootProtocol::automatic;
  std::vector<BootModule> modules;
  std::uint64_t acpi_rsdp = 0;  // guest address; 0: none
  std::string cache_folder;     // for unpacked kernels but lz4 ones; empty: no cache. Made if missing
  bool fresh_memory = false;    // all usable RAM still reads as zero, so a kernel's BSS need not be cleared
  bool want_digest = false;
};

struct LoadedKernel {
  CpuEntry entry;
  BootProtocol protocol = BootProtocol::automatic;  // the one used, never automatic
  std::string_view compression;                     // of the payload that was unpacked: "lz4"; else empty
  bool from_cache = false;
  std::string digest;  // SHA-256 of the kernel file in hexadecimal, if wanted or needed for the cache
  std::optional<GuestRange> initrd;
};

// Brings the kernel and what goes with it into guest memory and says how the first vCPU starts. Uses the
// first 192 KiB (see low_memory.h) and the usable ranges of the map. Throws ConfigError with the key
// "kernel", "initrd", "modules", "cmdline" or "memory" (guest memory is undefined then), HostError where
// reading fails.
LoadedKernel load_kernel(const GuestMemory& memory, const BootRequest& request, MemoryMap map);

}  // namespace hum
