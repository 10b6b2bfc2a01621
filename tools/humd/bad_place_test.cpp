// SPDX-License-Identifier: Apache-2.0
//
// Folders, sockets, stores and files that are not what the daemon had left there.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "tools/humd/files.h"
#include "tools/humd/image_testing.h"
#include "tools/humd/served_testing.h"
#include "tools/humd/vmm_process_testing.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

using namespace testing;
namespace fs = std::filesystem;

struct Refusal {
  int exit_code = -1;  // -1: it has not ended by itself
  std::string text{};
};

// The real program, which is to refuse to run.
Refusal run_humd(const DaemonPlace& place) {
  const std::string state = place.folders().state;
  const std::string run = place.folders().run;
  const testing::TemporaryFolder folder;
  const std::string errors = folder / "errors";
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (std::freopen(errors.c_str(), "a", stderr) == nullptr) ::_exit(99);
    ::execl(HUM_DAEMON_PROGRAM, HUM_DAEMON_PROGRAM, "--state", state.c_str(), "--run", run.c_str(), "--vmm",
            HUM_FAKE_VMM, nullptr);
    ::_exit(99);
  }
  int status = 0;
  const bool ended = until([&] { return ::waitpid(child, &status, WNOHANG) == child; });
  if (!ended) {
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
  }
  return {ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1, file_content(errors)};
}

void check_refused(const DaemonPlace& place, const std::string& what, const std::string& why) {
  const Refusal refusal = run_humd(place);
  INFO(refusal.text);
  CHECK((refusal.exit_code == 1 || refusal.exit_code == 2));
  CHECK(refusal.text.find(what) != std::string::npos);
  CHECK(refusal.text.find(why) != std::string::npos);
}

void create_vm(Served& daemon, const std::string& words = {}) {
  REQUIRE(daemon.outcome("POST", "/v1/vms", fake_vm("web", words).text()) == "done");
}

std::string cause(Served& daemon) {
  return nlohmann::json::parse(daemon.ask("GET", "/v1/vms/web").body)["end"].value("cause", "");
}

// A store with a VM.
void make_store(const DaemonPlace& place) {
  Served daemon(place.settings());
  create_vm(daemon);
}

}  // namespace

TEST_CASE("folders that others may write to, or that are none, are refused and stay as they are") {
  for (const bool state : {true, false}) {
    const DaemonPlace place;
    const fs::path folder = state ? place.folders().state : place.folders().run;
    const std::string name = folder.string();
    ::chmod(name.c_str(), 0777);
    check_refused(place, name, "chmod go-w");
    ::chmod(name.c_str(), 0720);
    check_refused(place, name, "chmod go-w");
    ::chmod(name.c_str(), 0700);
    if (::geteuid() == 0) {
      REQUIRE(::chown(name.c_str(), 1, 1) == 0);
      check_refused(place, name, "no folder of this user's");
      REQUIRE(::chown(name.c_str(), 0, 0) == 0);
    }
    CHECK(fs::is_empty(folder));
    fs::remove(folder);
    put_file(name, "mine");
    check_refused(place, name, "no folder of this user's");
    CHECK(file_content(name) == "mine");
    fs::remove(folder);
    const testing::TemporaryFolder elsewhere;
    fs::create_directory_symlink(elsewhere.path(), folder);
    check_refused(place, name, "no folder of this user's");
    CHECK(fs::is_empty(elsewhere.path()));
    fs::remove(folder);
    fs::create_directory(folder);
  }
}

TEST_CASE("what stands at the socket's path and is not the daemon's is refused and stays") {
  const DaemonPlace place;
  const std::string path = place.folders().socket();
  const auto refused = [&] {
    check_refused(place, path, "there is such a file");
    CHECK(place.processes().empty());
  };
  put_file(path, "mine");
  refused();
  CHECK(file_content(path) == "mine");
  fs::remove(path);
  fs::create_directory(path);
  refused();
  CHECK(fs::is_directory(path));
  fs::remove(path);
  for (const fs::path& target : {place.folders().run / "none", place.folders().run / "real"}) {
    if (target.filename() == "real") put_file(target, "mine");
    fs::create_symlink(target, path);
    refused();
    CHECK(fs::read_symlink(path) == target);
    fs::remove(path);
  }
  const Fd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UnixAddress address = UnixAddress::of("path", path);
  REQUIRE(::bind(other.get(), address.get(), address.size()) == 0);
  REQUIRE(::listen(other.get(), 8) == 0);
  refused();
  const Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(::connect(client.get(), address.get(), address.size()) == 0);
}

TEST_CASE("a store that is newer, damaged or no database is refused and stays as it is") {
  {
    const DaemonPlace place;
    {
      boost::asio::io_context context;
      Store store(context, place.folders().store());
      store.database().execute("UPDATE meta SET value = 1000 WHERE key = 'version'");
      store.commit();
    }
    check_refused(place, place.folders().store(), "version 1000");
    boost::asio::io_context context;
    CHECK_THROWS_AS(Store(context, place.folders().store()), StoreError);
  }
  {
    const DaemonPlace place;
    const std::string text(10'000, 'x');
    put_file(place.folders().store(), text);
    check_refused(place, place.folders().store(), "not a database");
    CHECK(file_content(place.folders().store()) == text);
  }
  {
    const DaemonPlace place;
    fs::create_directory(place.folders().store());
    check_refused(place, place.folders().store(), "unable to open");
    CHECK(fs::is_directory(place.folders().store()));
  }
  {
    const DaemonPlace place;
    make_store(place);
    const std::string path = place.folders().store();
    fs::resize_file(path, fs::file_size(path) / 2);
    const std::string before = file_content(path);
    check_refused(place, path, "malformed");
    CHECK(file_content(path) == before);
  }
}

TEST_CASE("a VM whose lock another process holds is not started, and is when it is free") {
  const DaemonPlace place;
  Served daemon(place.settings());
  create_vm(daemon);
  fs::create_directories(place.folders().live_vm(1));
  const std::string path = place.folders().vm_lock(1);
  Fd held = open_file(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(::flock(held.get(), LOCK_EX) == 0);
  CHECK(daemon.outcome("POST", "/v1/vms/web/start") == "failed vm-locked");
  CHECK(daemon.state_of("web") == "stopped");
  CHECK(place.processes().empty());
  CHECK(fs::exists(path));
  held.reset();
  CHECK(daemon.outcome("POST", "/v1/vms/web/start") == "done");
  CHECK(daemon.outcome("DELETE", "/v1/vms/web?force=true") == "done");
  CHECK(place.untidy({}, {}) == "");
}

TEST_CASE("a VM's record that is a link, a pipe, a folder or huge is none, and holds up nothing") {
  for (const std::string kind : {"link", "pipe", "folder", "huge", "none", "garbage"}) {
    INFO(kind);
    const DaemonPlace place;
    const testing::TemporaryFolder elsewhere;
    const std::string secret = elsewhere / "secret";
    put_file(secret, R"({"cause": "power-off", "started": "x"})");
    Served daemon(place.settings());
    create_vm(daemon, "fake=ignore-stop");
    REQUIRE(daemon.outcome("POST", "/v1/vms/web/start") == "done");
    const std::string record = place.folders().vm_record(1);
    fs::remove(record);
    if (kind == "link") fs::create_symlink(secret, record);
    if (kind == "pipe") REQUIRE(::mkfifo(record.c_str(), 0600) == 0);
    if (kind == "folder") fs::create_directory(record);
    if (kind == "huge") put_file(record, "{}");
    if (kind == "huge") fs::resize_file(record, 1UL << 40U);  // with a hole
    if (kind == "garbage") put_file(record, "\x01{]");
    CHECK(daemon.outcome("POST", "/v1/vms/web/kill") == "done");
    CHECK(cause(daemon) == "killed");
    CHECK_FALSE(fs::exists(place.folders().vm_end(1)));
    CHECK(place.untidy({1}, {}) == "");
    CHECK(daemon.outcome("DELETE", "/v1/vms/web") == "done");
    CHECK(file_content(secret) == R"({"cause": "power-off", "started": "x"})");
  }
}

TEST_CASE("images and volumes whose files were removed or changed by hand are an error, and can be deleted") {
  const DaemonPlace place;
  const testing::TemporaryFolder elsewhere;
  const std::string kernel = elsewhere / "kernel";
  put_file(kernel, some_kernel());
  Served daemon(place.settings());
  REQUIRE(daemon.outcome("POST", "/v1/images", R"({"name": "base", "kernel": ")" + kernel + "\"}") == "done");
  REQUIRE(daemon.outcome("POST", "/v1/volumes", R"({"name": "data", "size_mib": 1})") == "done");
  for (const fs::path& folder : {place.folders().images(), place.folders().volumes()})
    for (const auto& each : fs::directory_iterator(folder))
      if (each.path().filename() != "staging") fs::remove_all(each.path());
  const ApiAnswer refused = daemon.ask("POST", "/v1/vms", R"({"name": "web", "image": "base"})");
  INFO(refused.body);
  CHECK(refused.status >= 400);
  CHECK(error_code(refused) != "");
  CHECK(error_code(refused) != "internal");
  CHECK(daemon.manager().vms().count() == 0);
  CHECK(daemon.outcome("PATCH", "/v1/volumes/data", R"({"size_mib": 2})").starts_with("failed "));
  CHECK(daemon.outcome("POST", "/v1/volumes", R"({"name": "copy", "from": "data"})").starts_with("failed "));
  CHECK(daemon.ask("GET", "/v1/volumes/data").status == 200);
  CHECK(daemon.ask("GET", "/v1/volumes/copy").status == 404);
  CHECK(daemon.outcome("DELETE", "/v1/volumes/data") == "done");
  CHECK(daemon.outcome("DELETE", "/v1/images/base") == "done");
}

}  // namespace hum
