// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/file_server_testing.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>

#include "vmm/base/errors.h"

namespace hum::testing {
namespace {

constexpr std::size_t most_at_once = 64UL * 1024;

std::string chunk_of(std::string_view bytes) {
  std::array<char, 20> size{};
  std::snprintf(size.data(), size.size(), "%zx\r\n", bytes.size());
  return size.data() + std::string(bytes) + "\r\n";
}

}  // namespace

FileServer::FileServer()
    : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), stop_(::eventfd(0, EFD_CLOEXEC)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const plain = reinterpret_cast<sockaddr*>(&address);
  if (!listener_ || !stop_ || ::bind(listener_.get(), plain, size) != 0 ||
      ::listen(listener_.get(), SOMAXCONN) != 0 || ::getsockname(listener_.get(), plain, &size) != 0)
    throw HostError(errno, "listen for a test");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

FileServer::~FileServer() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void FileServer::serve(const std::string& target, const ServedFile& file) {
  const std::lock_guard lock(mutex_);
  files_[target] = file;
}

std::vector<FileServer::Request> FileServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::string FileServer::Request::field(const std::string& name) const {
  const std::size_t found = text.find("\r\n" + name + ": ");
  if (found == std::string::npos) return {};
  const std::size_t begin = found + name.size() + 4;
  return text.substr(begin, text.find("\r\n", begin) - begin);
}

void FileServer::run() {
  for (;;) {
    std::array<pollfd, 2> waiting{{{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    ::poll(waiting.data(), waiting.size(), -1);
    if (waiting[1].revents != 0) return;
    const Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client) answer(client);
  }
}

void FileServer::answer(const Fd& client) {
  Request request;
  while (request.text.find("\r\n\r\n") == std::string::npos) {
    std::array<char, 4096> piece{};
    const ssize_t count = ::recv(client.get(), piece.data(), piece.size(), 0);
    if (count <= 0) return;
    request.text.append(piece.data(), static_cast<std::size_t>(count));
  }
  const std::size_t begin = request.text.find(' ') + 1;
  const std::string target = request.text.substr(begin, request.text.find(' ', begin) - begin);
  ServedFile file;
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    const auto found = files_.find(target);
    file = found == files_.end() ? ServedFile{.content = "none", .status = 404} : found->second;
  }
  if (!file.instead.empty()) {
    send(client, file.instead);
    return;
  }
  const std::string begin_field = request.field("Range");
  const std::string condition = request.field("If-Range");
  std::size_t from = 0;
  std::string range = file.range;
  const std::string size = std::to_string(file.content.size());
  if (file.ranges && begin_field.starts_with("bytes=") &&
      (!file.looks_at_if_range || condition == file.etag || condition == file.modified)) {
    from = std::stoul(begin_field.substr(6));
    file.status = from < file.content.size() ? 206 : 416;
    if (range.empty())
      range = file.status == 416 ? "bytes */" + size
                                 : "bytes " + std::to_string(from) + "-" +
                                       std::to_string(file.content.size() - 1) + "/" + size;
    if (file.status == 416) file.content.clear(), from = 0;
  }
  std::string header = "HTTP/1.1 " + std::to_string(file.status) +
                       " Answer\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n" +
                       file.fields;
  if (!file.etag.empty()) header += "ETag: " + file.etag + "\r\n";
  if (!file.modified.empty()) header += "Last-Modified: " + file.modified + "\r\n";
  if (!range.empty() && file.status != 200) header += "Content-Range: " + range + "\r\n";
  if (file.length == ServedFile::Length::told && !file.endless)
    header += "Content-Length: " + std::to_string(file.content.size() - from) + "\r\n";
  if (file.length == ServedFile::Length::chunked) header += "Transfer-Encoding: chunked\r\n";
  if (send(client, header + "\r\n") && !send_body(client, file, from) && file.hangs) hang(client);
}

bool FileServer::send_body(const Fd& client, const ServedFile& file, std::size_t from) {
  const bool chunked = file.length == ServedFile::Length::chunked;
  const std::size_t piece_size = file.per_byte.count() != 0 ? 1 : most_at_once;
  std::size_t left = file.breaks_after;
  for (std::size_t at = from; at < file.content.size() || file.endless;) {
    if (at == file.content.size()) at = 0;
    if (left == 0 || stopped(static_cast<int>(file.per_byte.count()))) return false;
    const std::string_view piece = std::string_view(file.content).substr(at, std::min(left, piece_size));
    {
      const std::lock_guard lock(mutex_);
      requests_.back().sent += piece.size();
    }
    if (!send(client, chunked ? chunk_of(piece) : std::string(piece))) return false;
    at += piece.size();
    left -= piece.size();
  }
  return !chunked || send(client, "0\r\n\r\n");
}

bool FileServer::send(const Fd& client, std::string_view bytes) {
  while (!bytes.empty()) {
    if (stopped(0)) return false;
    pollfd ready{client.get(), POLLOUT, 0};
    if (::poll(&ready, 1, 100) == 0) continue;
    const ssize_t count = ::send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno != EAGAIN) return false;
    if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

void FileServer::hang(const Fd& client) const {
  std::array<pollfd, 2> waiting{{{client.get(), POLLIN | POLLRDHUP, 0}, {stop_.get(), POLLIN, 0}}};
  ::poll(waiting.data(), waiting.size(), -1);
}

bool FileServer::stopped(int milliseconds) const {
  pollfd waiting{stop_.get(), POLLIN, 0};
  return ::poll(&waiting, 1, milliseconds) > 0;
}

}  // namespace hum::testing
