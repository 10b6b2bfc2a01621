// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

namespace hum {

void open_standard_streams() {
  int opened = 0;
  do {
    opened = ::open("/dev/null", O_RDWR);
  } while (opened >= 0 && opened <= STDERR_FILENO);
  if (opened >= 0) ::close(opened);
}

}  // namespace hum
