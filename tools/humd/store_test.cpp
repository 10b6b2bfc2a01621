// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/store.h"

#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <csignal>
#include <fstream>

#include "tools/humd/journal.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::TemporaryFolder;

std::int64_t count_of(Store& store) {
  Query row = store.database().query("SELECT count(*) FROM operation");
  row.next();
  return row.number(0);
}

}  // namespace

TEST_CASE("what was committed is there after SIGKILL, and what was not is gone") {
  const TemporaryFolder folder;
  const std::string path = folder / "humd.db";
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    boost::asio::io_context context;
    Store store(context, path);
    Journal journal(store);
    Operation first{.kind = "start"};
    journal.begin(first);
    store.commit();
    Operation second{.kind = "stop"};
    journal.begin(second);
    ::raise(SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  boost::asio::io_context context;
  Store store(context, path);
  Journal journal(store);
  REQUIRE(count_of(store) == 1);
  CHECK(journal.open().front().kind == "start");
}

TEST_CASE("a store belongs to one process, and one of a later version is refused") {
  const TemporaryFolder folder;
  const std::string path = folder / "humd.db";
  boost::asio::io_context context;
  {
    Store store(context, path);
    try {
      Store other(context, path);
      FAIL("two have it");
    } catch (const StoreError& error) {
      CHECK(error.reason() == StoreError::Reason::in_use);
    }
    store.database().execute("UPDATE meta SET value = 1000 WHERE key = 'version'");
    store.commit();
  }
  try {
    Store store(context, path);
    FAIL("it was opened");
  } catch (const StoreError& error) {
    CHECK(error.reason() == StoreError::Reason::newer);
    CHECK(std::string(error.what()).find("1000") != std::string::npos);
  }
}

TEST_CASE("a file that is no store is refused and stays as it is") {
  const TemporaryFolder folder;
  const std::string path = folder / "humd.db";
  std::ofstream(path) << std::string(8192, 'x');
  boost::asio::io_context context;
  try {
    Store store(context, path);
    FAIL("it was opened");
  } catch (const StoreError& error) {
    CHECK(error.reason() == StoreError::Reason::damaged);
  }
  std::ifstream file(path);
  CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == std::string(8192, 'x'));
}

TEST_CASE("one sync serves all who wait for it") {
  const TemporaryFolder folder;
  boost::asio::io_context context;
  Store store(context, folder / "humd.db");
  Journal journal(store);
  int done = 0;
  for (int index = 0; index < 8; ++index)
    boost::asio::co_spawn(
        context,
        [&]() -> Task<> {
          Operation operation{.kind = "start"};
          journal.begin(operation);
          store.commit();
          co_await store.synced();
          ++done;
        },
        boost::asio::detached);
  context.run();
  CHECK(done == 8);
  CHECK(count_of(store) == 8);
  CHECK_FALSE(store.database().is_dirty(Durability::power));
}

TEST_CASE("a writer's rollback takes nothing of what others have committed") {
  const TemporaryFolder folder;
  boost::asio::io_context context;
  Store store(context, folder / "humd.db");
  Journal journal(store);
  Operation kept{.kind = "start"};
  journal.begin(kept);
  store.commit();
  Operation lost{.kind = "stop"};
  journal.begin(lost);
  store.rollback();
  CHECK(count_of(store) == 1);
  CHECK(journal.find(kept.id));
}

TEST_CASE("the journal keeps what has not ended, and of the rest the latest") {
  const TemporaryFolder folder;
  boost::asio::io_context context;
  Store store(context, folder / "humd.db");
  Journal journal(store);
  for (int index = 0; index < 10; ++index) {
    Operation operation{.kind = "start", .object = index % 2};
    journal.begin(operation);
    if (index != 3) journal.finish(operation, Operation::State::done);
  }
  journal.prune(2);
  store.commit();
  CHECK(count_of(store) == 3);
  REQUIRE(journal.open().size() == 1);
  CHECK(journal.open().front().id == 4);
  CHECK(journal.list(0, 10).front().id == 10);
  CHECK(journal.list(10, 1).front().id == 9);
  CHECK(journal.list(0, 10, ObjectRef{ObjectType::vm, 1}).size() == 2);
}

}  // namespace hum
