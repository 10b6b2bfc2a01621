// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "tools/humd/api.h"
#include "tools/humd/daemon_testing.h"

// For tests only.
namespace hum::testing {

// A daemon without a socket in this process: its requests are asked by calls, which run it meanwhile.
class Served {
 public:
  explicit Served(ManagerSettings settings);

  // An answer that may be on its way.
  using Answer = std::shared_ptr<std::optional<ApiAnswer>>;
  Answer send(ApiRequest request);
  // Runs until that is so, 20 seconds at most: false then.
  bool until(const std::function<bool()>& condition);
  // Throws std::runtime_error: there is none in 20 seconds.
  ApiAnswer wait(const Answer& answer);
  ApiAnswer ask(ApiRequest request) { return wait(send(std::move(request))); }
  // target: the path with its query.
  ApiAnswer ask(const std::string& method, const std::string& target, const std::string& body = {});
  // Of an operation that is awaited: its state, and the error's code behind it where there is one; of what is
  // refused the status and the code: "done", "failed vmm-silent", "409 vm-busy".
  std::string outcome(const std::string& method, const std::string& target, const std::string& body = {});
  // Of a VM: "running", ...; empty: there is none.
  std::string state_of(const std::string& vm);

  Manager& manager() { return manager_; }
  Api& api() { return api_; }
  boost::asio::io_context& context() { return context_; }

 private:
  boost::asio::io_context context_{1};
  Manager manager_;
  Api api_;
};

ApiRequest api_request(const std::string& method, const std::string& target, const std::string& body = {});

// The code of an answer's error; empty: it is no error as the API has them.
std::string error_code(const ApiAnswer& answer);

}  // namespace hum::testing
