// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/database.h"

#include <sqlite3.h>

#include <cassert>
#include <utility>

namespace hum {
namespace {

// Milliseconds: a process that was killed a moment ago may still have its lock.
constexpr int lock_patience = 2000;

StoreError error_of(sqlite3* database, int code, const std::string& tried) {
  using Reason = StoreError::Reason;
  const std::string text =
      "cannot " + tried + ": " + (database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code));
  switch (code & 0xff) {
    case SQLITE_FULL:
      return {Reason::full, text + "; make room on the disk of the state folder"};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {Reason::in_use, text + "; another humd uses it"};
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return {Reason::damaged, text + "; put a copy in its place"};
    default:
      return {Reason::other, text};
  }
}

}  // namespace

Query::Query(Query&& other) noexcept
    : database_(other.database_), statement_(std::exchange(other.statement_, nullptr)) {}

Query::~Query() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

bool Query::next() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  throw error_of(database_, code, "read the store");
}

std::int64_t Query::number(int column) const {
  return sqlite3_column_int64(statement_, column);
}

double Query::real(int column) const {
  return sqlite3_column_double(statement_, column);
}

std::string Query::text(int column) const {
  const auto* const text = sqlite3_column_text(statement_, column);
  if (text == nullptr) return {};
  return {reinterpret_cast<const char*>(text),
          static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

bool Query::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

Database::Database(const std::string& path, const std::string& vfs) : path_(path) {
  constexpr int flags =
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
  const int code = sqlite3_open_v2(path.c_str(), &database_, flags, vfs.empty() ? nullptr : vfs.c_str());
  try {
    if (code != SQLITE_OK) throw error_of(database_, code, "open '" + path + "'");
    sqlite3_extended_result_codes(database_, 1);
    sqlite3_busy_timeout(database_, lock_patience);
    // For itself, so that its index of the log is in memory and no second process can have the store.
    run("PRAGMA locking_mode = EXCLUSIVE");
    run("PRAGMA journal_mode = WAL");
    run("PRAGMA synchronous = NORMAL");
    run("PRAGMA foreign_keys = ON");
    run("PRAGMA temp_store = MEMORY");
    run("PRAGMA cache_size = -8192");
    run("BEGIN IMMEDIATE");  // takes the lock
    run("COMMIT");
  } catch (...) {
    sqlite3_close(database_);
    throw;
  }
}

Database::~Database() {
  for (const auto& [text, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(database_);  // undoes what was not committed
}

void Database::run(const char* sql) {
  const int code = sqlite3_exec(database_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) throw error_of(database_, code, "use the store '" + path_ + "'");
}

sqlite3_stmt* Database::prepared(std::string_view sql, const std::vector<Bound>& values) {
  auto found = statements_.find(sql);
  if (found == statements_.end()) {
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v3(database_, sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (code != SQLITE_OK) throw error_of(database_, code, "use the store '" + path_ + "'");
    found = statements_.emplace(std::string(sql), statement).first;
  }
  sqlite3_stmt* const statement = found->second;
  assert(sqlite3_stmt_busy(statement) == 0);
  assert(sqlite3_bind_parameter_count(statement) == static_cast<int>(values.size()));
  int index = 0;
  for (const Bound& value : values) {
    ++index;
    switch (value.kind_) {
      case Bound::Kind::none:
        sqlite3_bind_null(statement, index);
        break;
      case Bound::Kind::number:
        sqlite3_bind_int64(statement, index, value.number_);
        break;
      case Bound::Kind::real:
        sqlite3_bind_double(statement, index, value.real_);
        break;
      case Bound::Kind::text:
        sqlite3_bind_text64(statement, index, value.text_.data(), value.text_.size(), SQLITE_TRANSIENT,
                            SQLITE_UTF8);
        break;
    }
  }
  return statement;
}

Query Database::query(std::string_view sql, const std::vector<Bound>& values) {
  return {database_, prepared(sql, values)};
}

int Database::execute(std::string_view sql, const std::vector<Bound>& values) {
  if (!in_transaction_) {
    run("BEGIN IMMEDIATE");
    in_transaction_ = true;
  }
  sqlite3_stmt* const statement = prepared(sql, values);
  const int code = sqlite3_step(statement);
  // A full disk may have ended the transaction.
  const bool ended = sqlite3_get_autocommit(database_) != 0;
  const auto failure =
      code == SQLITE_DONE ? std::optional<StoreError>() : error_of(database_, code, "write to the store");
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  if (ended) in_transaction_ = false;
  if (failure) throw *failure;
  return sqlite3_changes(database_);
}

std::int64_t Database::last_row() const {
  return sqlite3_last_insert_rowid(database_);
}

bool Database::is_dirty(Durability durability) const {
  return in_transaction_ || (unsynced_ && durability == Durability::power);
}

// As SQLite itself does after each commit with synchronous = FULL; the setting cannot change within a
// transaction, and what a transaction is to outlive is known at its end.
void Database::sync() {
  sqlite3_file* log = nullptr;
  int code = sqlite3_file_control(database_, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
  if (code == SQLITE_OK && log != nullptr && log->pMethods != nullptr)
    code = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
  if (code != SQLITE_OK) throw error_of(nullptr, code, "sync the store");
  unsynced_ = false;
}

void Database::commit(Durability durability) {
  if (in_transaction_) {
    try {
      run("COMMIT");
    } catch (...) {
      rollback();
      throw;
    }
    in_transaction_ = false;
    unsynced_ = true;
  }
  if (unsynced_ && durability == Durability::power) sync();
}

void Database::rollback() {
  if (sqlite3_get_autocommit(database_) == 0) sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
  in_transaction_ = false;
}

}  // namespace hum
