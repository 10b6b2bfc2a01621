// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/store.h"

#include <boost/asio/post.hpp>
#include <chrono>

namespace hum {
namespace {

constexpr std::int64_t version = 1;

constexpr const char* tables[] = {
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    // Numbers are never used again: what belongs to one is named after it.
    "CREATE TABLE vm (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, project TEXT NOT NULL,"
    " owner INTEGER NOT NULL, generation INTEGER NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL,"
    " wanted INTEGER NOT NULL, pid INTEGER, start_time INTEGER, boot_id TEXT, ended TEXT, "
    "failures INTEGER NOT NULL,"
    " restart_at REAL, created REAL NOT NULL, started REAL, expires REAL)",
    "CREATE INDEX vm_by_state ON vm (state) WHERE state != 'stopped'",
    "CREATE INDEX vm_by_restart ON vm (restart_at) WHERE restart_at IS NOT NULL",
    "CREATE INDEX vm_by_expiry ON vm (expires) WHERE expires IS NOT NULL",
    "CREATE INDEX vm_by_project ON vm (project, name)",
    "CREATE TABLE operation (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, object INTEGER NOT "
    "NULL,"
    " object_name TEXT NOT NULL, owner INTEGER NOT NULL, arguments TEXT NOT NULL, step INTEGER NOT NULL,"
    " undoing INTEGER NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL, created REAL NOT NULL, ended REAL)",
    "CREATE INDEX operation_by_state ON operation (id) WHERE state = 'running'",
    "CREATE INDEX operation_by_object ON operation (object)",
    "CREATE TABLE request (owner INTEGER NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, operation "
    "INTEGER NOT NULL,"
    " created REAL NOT NULL, PRIMARY KEY (owner, key)) WITHOUT ROWID",
};

}  // namespace

double wall_clock() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

Store::Store(boost::asio::io_context& context, const std::string& path, const std::string& vfs)
    : context_(context), database_(path, vfs) {
  std::int64_t found = 0;
  {
    Query query = database_.query("SELECT count(*) FROM sqlite_master WHERE name = 'meta'");
    query.next();
    found = query.number(0);
  }
  if (found != 0) {
    Query query = database_.query("SELECT value FROM meta WHERE key = 'version'");
    found = query.next() ? query.number(0) : 0;
  }
  if (found > version)
    throw StoreError(StoreError::Reason::newer, "the store '" + path + "' has version " +
                                                    std::to_string(found) + ", and this humd knows " +
                                                    std::to_string(version) +
                                                    " at most; start the humd that made it");
  if (found == version) return;
  for (const char* const table : tables) database_.execute(table);
  database_.execute("INSERT INTO meta VALUES ('version', ?)", {version});
  database_.commit(Durability::power);
}

Task<> Store::synced() {
  Waiter waiter;
  waiters_.push_back(&waiter);
  // Whoever else is about to commit does so before this is run.
  if (waiters_.size() == 1) boost::asio::post(context_, [this] { sync_now(); });
  while (!waiter.is_done) co_await waiter.done.wait_until();
  if (waiter.error) std::rethrow_exception(waiter.error);
}

void Store::sync_now() {
  std::exception_ptr error;
  try {
    database_.commit(Durability::power);
  } catch (const StoreError&) {
    error = std::current_exception();
  }
  for (Waiter* const each : waiters_) {
    each->is_done = true;
    each->error = error;
    each->done.notify_all();
  }
  waiters_.clear();
}

}  // namespace hum
