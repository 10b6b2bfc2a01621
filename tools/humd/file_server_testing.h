// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "vmm/base/fd.h"

// For tests only.
namespace hum::testing {

// How a server answers requests for one file.
struct ServedFile {
  enum class Length : std::uint8_t { told, chunked, untold };

  std::string content{};
  unsigned status = 200;
  std::string fields{};           // more of them, each with its end of line
  std::string etag{};             // with quotes
  std::string modified{};         // of Last-Modified; Date is another
  bool ranges = true;             // where the request's If-Range fits
  bool looks_at_if_range = true;  // false: it fits always
  std::string range{};            // Content-Range of a part, if not the right one
  Length length = Length::told;
  std::size_t breaks_after = SIZE_MAX;    // bytes of the body, in each answer
  bool hangs = false;                     // there, instead of breaking the connection
  std::chrono::milliseconds per_byte{0};  // each byte of the body by itself
  bool endless = false;                   // the content again and again
  std::string instead{};                  // of all of an answer
};

// A server of HTTP on this host, on a port of its own, that serves one connection after the other in its own
// thread. From any thread.
class FileServer {
 public:
  FileServer();
  ~FileServer();
  FileServer(const FileServer&) = delete;
  FileServer& operator=(const FileServer&) = delete;

  void serve(const std::string& target, const ServedFile& file);
  std::string url(const std::string& target) const {
    return "http://127.0.0.1:" + std::to_string(port_) + target;
  }

  // All until now: what they asked for, and how many bytes of a body it began to send them.
  struct Request {
    std::string text;
    std::size_t sent = 0;
    // Of the header's field; empty: it has none.
    std::string field(const std::string& name) const;
  };
  std::vector<Request> requests() const;

 private:
  void run();
  void answer(const Fd& client);
  bool send_body(const Fd& client, const ServedFile& file, std::size_t from);
  bool send(const Fd& client, std::string_view bytes);
  // Until the client is gone or the server ends.
  void hang(const Fd& client) const;
  bool stopped(int milliseconds) const;

  Fd listener_;
  Fd stop_;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::map<std::string, ServedFile> files_;
  std::vector<Request> requests_;
  std::thread thread_;
};

}  // namespace hum::testing
