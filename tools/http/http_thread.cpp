// SPDX-License-Identifier: Apache-2.0
#include "tools/http/http_thread.h"

#include <thread>
#include <utility>

#include "vmm/base/event_loop.h"

namespace hum {

struct HttpThread::Parts {
  Parts(HttpServer::Settings settings, Handler handler)
      : server(context, std::move(settings),
               [handle = std::move(handler)](ApiRequest request, const HttpServer::Respond& respond) {
                 respond(handle(std::move(request)));
               }),
        thread(start_thread("hum-api", [this] { context.run(); })) {}
  ~Parts() {
    context.stop();
    thread.join();
  }

  boost::asio::io_context context{1};  // ends the connections with it, after the server
  HttpServer server;
  std::thread thread;
};

HttpThread::HttpThread(HttpServer::Settings settings, Handler handler)
    : parts_(std::make_unique<Parts>(std::move(settings), std::move(handler))) {}

HttpThread::~HttpThread() = default;

void HttpThread::finish(std::chrono::milliseconds patience) {
  parts_->server.finish(patience);
}

}  // namespace hum
