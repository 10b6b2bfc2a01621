// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tools/humd/manager.h"
#include "vmm/base/temporary_folder.h"

// For tests only.
namespace hum::testing {

// A place for a daemon's folders, whose VMM processes end with it. As long as there is one, the processes
// whose parents have ended are this process's children.
class DaemonPlace {
 public:
  DaemonPlace();
  ~DaemonPlace();
  DaemonPlace(const DaemonPlace&) = delete;
  DaemonPlace& operator=(const DaemonPlace&) = delete;

  // With the VMM that is no VMM, and short patience.
  ManagerSettings settings() const;
  const Folders& folders() const { return folders_; }
  // The processes that were started for it and have not ended.
  std::set<pid_t> processes() const;
  // What stands in the way of saying that there is nothing but these VMs, the running ones of which have a
  // process each; empty: nothing.
  std::string untidy(const std::set<std::int64_t>& vms, const std::set<std::int64_t>& running) const;

 private:
  TemporaryFolder folder_;
  Folders folders_;
};

// Runs work in a context until it returns; an exception of it reaches the caller.
void run_coroutine(boost::asio::io_context& context, Task<> work);

// The spec of a VM with that name, whose process behaves as the words say ("fake=ignore-stop").
VmSpec fake_vm(const std::string& name, const std::string& words = {}, const std::string& more_json = "{}");

// Its store's log is short, so that it is copied into the database again and again.
void bound_log(Manager& manager);

// What body, in a process of its own, has written by its argument, line by line; the process may be killed.
// An exception in it is the last line, behind "exception: ".
std::vector<std::string> in_child(
    const std::function<void(const std::function<void(const std::string&)>& say)>& body);

// Lets go of the children that have ended.
void reap_orphans();

}  // namespace hum::testing
