// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/process.h"

#include <cerrno>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("a program's output, errors and exit code come back apart") {
  const ProcessResult result = run_process({"sh", "-c", "echo out; echo err >&2; exit 7"});
  CHECK(result.output == "out\n");
  CHECK(result.errors == "err\n");
  CHECK(result.exit_code == 7);
}

TEST_CASE("a signal's number comes back above 128") {
  CHECK(run_process({"sh", "-c", "kill -9 $$"}).exit_code == 137);
}

TEST_CASE("much output on both streams does not block") {
  const ProcessResult result =
      run_process({"sh", "-c", "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero"});
  CHECK(result.output.size() == 300000);
  CHECK(result.errors.size() == 300000);
}

TEST_CASE("a program runs in the folder that is named, with empty input and in English") {
  CHECK(run_process({"pwd"}, "/usr").output == "/usr\n");
  CHECK(run_process({"cat"}).output.empty());
  CHECK(run_process({"sh", "-c", "echo $LC_ALL"}).output == "C\n");
}

TEST_CASE("a program that does not exist is an error with the fix") {
  try {
    run_process({"hum-no-such-program"}, {}, "install it");
    FAIL("it was run");
  } catch (const HostError& error) {
    CHECK(error.code().value() == ENOENT);
    CHECK(std::string(error.what()).find("hum-no-such-program (install it)") != std::string::npos);
  }
}

TEST_CASE("a program that fails is an error with the last line it said") {
  try {
    run_successfully({"sh", "-c", "echo first >&2; echo second >&2; exit 1"});
    FAIL("it succeeded");
  } catch (const HostError& error) {
    CHECK(std::string(error.what()).find("(second)") != std::string::npos);
  }
  CHECK(run_successfully({"echo", "fine"}) == "fine\n");
}

}  // namespace hum
