// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "devices/block/open_image.h"

namespace hum {

// Gives the disk in an image that nobody uses another size, a multiple of 512 bytes; what is behind a smaller
// one is lost. settings is how image was opened, given the size as it was given, for errors. After a loss of
// power or of the process the disk has the old size or the new one. Throws ConfigError (the image cannot have
// that size), HostError.
void resize_image(BlockBackend& image, const ImageSettings& settings, const std::string& given,
                  std::uint64_t size);

}  // namespace hum
