// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace hum {

// A program may be started with standard streams closed; what it opens then must not take their place.
void open_standard_streams();

}  // namespace hum
