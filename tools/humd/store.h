// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/io_context.hpp>
#include <exception>
#include <list>
#include <string>

#include "tools/humd/database.h"
#include "tools/humd/notifier.h"

namespace hum {

// The daemon's one store: desired state, allocations, and the journal of operations. Whoever writes commits
// before it waits for anything, so that a transaction is one writer's. Belongs to the logic's thread.
class Store {
 public:
  // Makes the tables of a new store. Throws StoreError, with Reason::newer for one that a later version made.
  Store(boost::asio::io_context& context, const std::string& path, const std::string& vfs = {});

  Database& database() { return database_; }

  // What was written outlives this process from now on. Throws StoreError: it is undone.
  void commit() { database_.commit(Durability::process); }
  void rollback() { database_.rollback(); }
  // Returns when what was committed before outlives a power cut; one sync serves all who wait. Throws
  // StoreError: the disk has failed to sync.
  Task<> synced();

 private:
  struct Waiter {
    Notifier done;
    bool is_done = false;
    std::exception_ptr error;
  };

  void sync_now();

  boost::asio::io_context& context_;
  Database database_;
  std::list<Waiter*> waiters_;
};

// What is written in its time and not committed at its end is undone.
class Transaction {
 public:
  explicit Transaction(Store& store) : store_(store) {}
  ~Transaction() { store_.rollback(); }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

 private:
  Store& store_;
};

// Seconds since 1970.
double wall_clock();
// For tests: as if the host's clock had been set by so much.
void set_wall_clock_ahead(double seconds);

}  // namespace hum
