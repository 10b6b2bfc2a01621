// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>

#include "tools/http/event_feed.h"
#include "tools/http/http_server.h"
#include "tools/humd/manager.h"

namespace hum {

// The body of an answer that says what was wrong.
std::string api_error_body(std::string_view code, std::string_view text);

// Answers the requests of the daemon's REST API (openapi.json). Belongs to the logic's thread.
class Api {
 public:
  // administrator: may see and change everything, as root may; others only what is theirs.
  Api(boost::asio::io_context& context, Manager& manager, uid_t administrator);
  ~Api();

  void handle(ApiRequest request, HttpServer::Respond respond);
  // Ends the streams of events.
  void end() { events_.end(); }

 private:
  struct Call;
  struct Route;
  static const Route routes[];

  Task<ApiAnswer> answer(ApiRequest request);
  Task<ApiAnswer> get_version(Call& call);
  Task<ApiAnswer> get_metrics(Call& call);
  Task<ApiAnswer> get_events(Call& call);
  Task<ApiAnswer> list_vms(Call& call);
  Task<ApiAnswer> create_vm(Call& call);
  Task<ApiAnswer> get_vm(Call& call);
  Task<ApiAnswer> patch_vm(Call& call);
  Task<ApiAnswer> delete_vm(Call& call);
  Task<ApiAnswer> act_on_vm(Call& call);
  Task<ApiAnswer> wait_for_vm(Call& call);
  Task<ApiAnswer> get_logs(Call& call);
  Task<ApiAnswer> get_statistics(Call& call);
  Task<ApiAnswer> get_console(Call& call);
  Task<ApiAnswer> list_operations(Call& call);
  Task<ApiAnswer> get_operation(Call& call);
  Task<ApiAnswer> cancel_operation(Call& call);

  bool may(const Call& call, uid_t owner) const;
  VmRow find_vm(const Call& call);
  Operation find_operation(const Call& call);
  // The answer to a request that has begun an operation: the operation, when it has ended if that is asked
  // for.
  Task<ApiAnswer> begun(Call& call, Operation operation);

  boost::asio::io_context& context_;
  Manager& manager_;
  uid_t administrator_;
  EventFeed events_;
};

}  // namespace hum
