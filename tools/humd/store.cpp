// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/store.h"

#include <boost/asio/post.hpp>
#include <chrono>

namespace hum {
namespace {

constexpr std::int64_t version = 1;

double ahead = 0;

constexpr const char* tables[] = {
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    // Numbers are never used again: what belongs to one is named after it.
    "CREATE TABLE vm (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, project TEXT NOT NULL,"
    " owner INTEGER NOT NULL, generation INTEGER NOT NULL, spec TEXT NOT NULL, cpus INTEGER NOT NULL,"
    " memory_mib INTEGER NOT NULL, state TEXT NOT NULL,"
    " wanted INTEGER NOT NULL, pid INTEGER, start_time INTEGER, boot_id TEXT, ended TEXT, "
    "failures INTEGER NOT NULL,"
    " restart_at REAL, created REAL NOT NULL, started REAL, expires REAL, image TEXT NOT NULL)",
    "CREATE INDEX vm_by_state ON vm (state, cpus, memory_mib) WHERE state != 'stopped'",
    "CREATE INDEX vm_by_restart ON vm (restart_at) WHERE restart_at IS NOT NULL",
    "CREATE INDEX vm_by_expiry ON vm (expires) WHERE expires IS NOT NULL",
    "CREATE INDEX vm_by_project ON vm (project, name)",
    "CREATE INDEX vm_by_image ON vm (image) WHERE image != ''",
    // What images are made of, by its digest, as long as an image, a volume or a VM needs it.
    "CREATE TABLE content (digest TEXT PRIMARY KEY, summary TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE image (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, owner INTEGER NOT "
    "NULL, state TEXT NOT NULL, digest TEXT NOT NULL, source TEXT NOT NULL, created REAL NOT NULL)",
    "CREATE INDEX image_by_digest ON image (digest)",
    // One without a name is a VM's own, and goes with it.
    "CREATE TABLE volume (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, owner INTEGER NOT NULL,"
    " state TEXT NOT NULL, format TEXT NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL, vm INTEGER,"
    " created REAL NOT NULL)",
    "CREATE INDEX volume_by_digest ON volume (digest)",
    "CREATE INDEX volume_by_vm ON volume (vm) WHERE vm IS NOT NULL",
    "CREATE TABLE volume_use (vm INTEGER NOT NULL, volume INTEGER NOT NULL, PRIMARY KEY (vm, volume)) "
    "WITHOUT ROWID",
    "CREATE INDEX volume_use_by_volume ON volume_use (volume)",
    "CREATE TABLE network (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, owner INTEGER "
    "NOT NULL, state TEXT NOT NULL, subnet TEXT NOT NULL, nat INTEGER NOT NULL, dns_domain TEXT NOT NULL,"
    " created REAL NOT NULL)",
    "CREATE TABLE lease (network INTEGER NOT NULL, vm INTEGER NOT NULL, address INTEGER NOT NULL, ports TEXT "
    "NOT NULL, PRIMARY KEY (network, vm), UNIQUE (network, address)) WITHOUT ROWID",
    "CREATE INDEX lease_by_vm ON lease (vm)",
    // Those with a quota.
    "CREATE TABLE project (name TEXT PRIMARY KEY, vms INTEGER, cpus INTEGER, memory_mib INTEGER) WITHOUT "
    "ROWID",
    "CREATE TABLE operation (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, type TEXT NOT NULL,"
    " object INTEGER NOT NULL,"
    " object_name TEXT NOT NULL, owner INTEGER NOT NULL, arguments TEXT NOT NULL, step INTEGER NOT NULL,"
    " undoing INTEGER NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL, created REAL NOT NULL, ended REAL)",
    "CREATE INDEX operation_by_state ON operation (id) WHERE state = 'running'",
    "CREATE INDEX operation_by_object ON operation (type, object)",
    "CREATE TABLE request (owner INTEGER NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, operation "
    "INTEGER NOT NULL,"
    " created REAL NOT NULL, PRIMARY KEY (owner, key)) WITHOUT ROWID",
};

}  // namespace

double wall_clock() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count() + ahead;
}

void set_wall_clock_ahead(double seconds) {
  ahead = seconds;
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
  // What this store's networks on the host are told from others' by.
  database_.execute("INSERT INTO meta VALUES ('instance', lower(hex(randomblob(4))))");
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
