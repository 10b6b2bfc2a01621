// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

struct sqlite3;
struct sqlite3_stmt;

namespace hum {

// The store could not be read or written.
class StoreError : public std::runtime_error {
 public:
  enum class Reason : std::uint8_t { full, in_use, newer, damaged, other };
  StoreError(Reason reason, const std::string& text) : std::runtime_error(text), reason_(reason) {}
  Reason reason() const { return reason_; }

 private:
  Reason reason_;
};

// What a commit outlives.
enum class Durability : std::uint8_t {
  process,  // the end of this process at any instruction, but not of the host
  power,    // a power cut
};

class Database;

// A statement under way: a row at a time. While there is one of the same text, there is no other.
class Query {
 public:
  Query(Query&& other) noexcept;
  Query& operator=(Query&&) = delete;
  ~Query();

  // False: there are no more rows. Throws StoreError.
  bool next();
  std::int64_t number(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  bool is_null(int column) const;

 private:
  friend class Database;
  Query(sqlite3* database, sqlite3_stmt* statement) : database_(database), statement_(statement) {}
  sqlite3* database_;
  sqlite3_stmt* statement_;
};

// A value that is bound to a question mark of a statement.
class Bound {
 public:
  Bound(std::int64_t number) : kind_(Kind::number), number_(number) {}       // NOLINT: as a value
  Bound(int number) : Bound(static_cast<std::int64_t>(number)) {}            // NOLINT
  Bound(std::uint64_t number) : Bound(static_cast<std::int64_t>(number)) {}  // NOLINT
  Bound(bool value) : Bound(static_cast<std::int64_t>(value)) {}             // NOLINT
  Bound(double number) : kind_(Kind::real), real_(number) {}                 // NOLINT
  Bound(std::string_view text) : kind_(Kind::text), text_(text) {}           // NOLINT
  Bound(const std::string& text) : kind_(Kind::text), text_(text) {}         // NOLINT
  Bound(const char* text) : kind_(Kind::text), text_(text) {}                // NOLINT
  Bound(std::nullptr_t) {}                                                   // NOLINT
  template <typename T>
  Bound(const std::optional<T>& value) {  // NOLINT
    if (value) *this = Bound(*value);
  }

 private:
  friend class Database;
  enum class Kind : std::uint8_t { none, number, real, text };
  Kind kind_ = Kind::none;
  std::int64_t number_ = 0;
  double real_ = 0;
  std::string_view text_;
};

// An SQLite database in WAL mode that this process has for itself. Writes gather in one transaction until
// commit or rollback. Belongs to one thread.
class Database {
 public:
  // Makes the file if there is none. Throws StoreError: another process has it open (in_use), it is no
  // database (damaged), the disk is full. vfs: SQLite's name of the file layer; empty: the usual.
  explicit Database(const std::string& path, const std::string& vfs = {});
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // The rows that a SELECT finds. The text is kept with the compiled statement: no values in it.
  Query query(std::string_view sql, const std::vector<Bound>& values = {});
  // Anything that changes rows; answers how many. Throws StoreError; what the statement had changed is as
  // before then, and the transaction goes on.
  int execute(std::string_view sql, const std::vector<Bound>& values = {});
  // The number of the row that was inserted last.
  std::int64_t last_row() const;

  // Whether there is anything to commit for that durability.
  bool is_dirty(Durability durability) const;
  // Ends the transaction. Throws StoreError: everything since the last commit is undone then, but for a disk
  // that could not sync what was committed.
  void commit(Durability durability);
  void rollback();

 private:
  sqlite3_stmt* prepared(std::string_view sql, const std::vector<Bound>& values);
  void run(const char* sql);
  void sync();

  const std::string path_;  // for errors
  sqlite3* database_ = nullptr;
  std::map<std::string, sqlite3_stmt*, std::less<>> statements_;
  bool in_transaction_ = false;
  bool unsynced_ = false;  // something was committed that a power cut may take
};

}  // namespace hum
