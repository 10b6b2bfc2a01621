// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/http/event_feed.h"
#include "tools/http/http_server.h"
#include "tools/humd/manager.h"

namespace hum {

// The body of an answer that says what was wrong.
std::string api_error_body(std::string_view code, std::string_view text);

// Answers the requests of the daemon's REST API (openapi.json). Belongs to the logic's thread.
class Api {
 public:
  Api(boost::asio::io_context& context, Manager& manager);
  ~Api();

  // All that it answers, a star in place of each name: "GET /v1/vms/*".
  static std::vector<std::string> known_requests();

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
  Task<ApiAnswer> list_images(Call& call);
  Task<ApiAnswer> import_image(Call& call);
  Task<ApiAnswer> get_image(Call& call);
  Task<ApiAnswer> delete_image(Call& call);
  Task<ApiAnswer> list_volumes(Call& call);
  Task<ApiAnswer> create_volume(Call& call);
  Task<ApiAnswer> get_volume(Call& call);
  Task<ApiAnswer> resize_volume(Call& call);
  Task<ApiAnswer> delete_volume(Call& call);
  Task<ApiAnswer> list_networks(Call& call);
  Task<ApiAnswer> create_network(Call& call);
  Task<ApiAnswer> get_network(Call& call);
  Task<ApiAnswer> delete_network(Call& call);
  Task<ApiAnswer> list_projects(Call& call);
  Task<ApiAnswer> get_project(Call& call);
  Task<ApiAnswer> put_project(Call& call);
  Task<ApiAnswer> delete_project(Call& call);
  Task<ApiAnswer> get_capacity(Call& call);
  Task<ApiAnswer> list_operations(Call& call);
  Task<ApiAnswer> get_operation(Call& call);
  Task<ApiAnswer> cancel_operation(Call& call);

  bool may(const Call& call, uid_t owner) const;
  // Throws ApiError (403). what: "sees all events".
  void expect_administrator(const Call& call, const char* what) const;
  VmRow find_vm(const Call& call);
  nlohmann::json with_image_defaults(const Call& call, nlohmann::json given);
  std::string addresses_text(std::int64_t vm);
  // The object that the call's path names. Throws ApiError (404).
  template <typename Table>
  auto find_object(const Call& call, Table& table, ObjectType type);
  template <typename Table, typename Text>
  ApiAnswer list_objects(const Call& call, Table& table, const char* word, Text text);
  Task<ApiAnswer> begin_object(Call& call, Operation operation, Manager::Prepare prepare);
  Operation find_operation(const Call& call);
  // The answer to a request that has begun an operation: the operation, when it has ended if that is asked
  // for.
  Task<ApiAnswer> begun(Call& call, Operation operation);

  boost::asio::io_context& context_;
  Manager& manager_;
  EventFeed events_;
};

}  // namespace hum
