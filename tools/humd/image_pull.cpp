// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/image_pull.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <charconv>
#include <future>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include "tools/humd/file_changes.h"
#include "tools/humd/file_copy.h"
#include "tools/humd/http_url.h"
#include "tools/humd/sha256.h"
#include "tools/tls/tcp_address.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"
#include "vmm/base/printable.h"

namespace hum {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace fs = std::filesystem;
namespace http = boost::beast::http;
using Error = boost::system::error_code;
using Tcp = asio::ip::tcp;
using Parser = http::response_parser<http::buffer_body>;

constexpr std::size_t piece_size = 64UL * 1024;
constexpr unsigned most_redirects = 5;
constexpr std::size_t name_digits = 16;
constexpr std::chrono::milliseconds look_interval{100};

// Why a try failed that may be made again.
struct Trouble {
  int error = EIO;
  std::string text;
};

// The same until the host starts again. After a loss of power a file may be longer than what is in it.
std::string boot_id() {
  const Fd file = open_file("/proc/sys/kernel/random/boot_id", O_RDONLY);
  std::string text(64, '\0');
  const ssize_t count = ::read(file.get(), text.data(), text.size());
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text.substr(0, text.find('\n'));
}

// What is known of the file that is being got; kept beside it.
class Progress {
 public:
  Progress(const FileTask& task, const fs::path& folder, const std::string& url)
      : task_(task), folder_(folder), path_(folder / ("download-" + sha256_of(url).substr(7, name_digits))) {
    read();
  }

  const fs::path& path() const { return path_; }
  bool whole() const { return whole_; }
  // By which the server can tell whether the rest fits to what is there; empty: nothing does.
  const std::string& validator() const { return validator_; }
  std::uint64_t size() const { return size_; }

  // What comes next is the begin of a file.
  void begin(const std::string& validator) {
    validator_ = {};
    size_ = 0;
    whole_ = false;
    task_.changes("open file");
    file_ = open_file(path_, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    task_.changes("empty file");
    if (::ftruncate(file_.get(), 0) != 0) throw HostError(errno, "empty '" + path_.string() + "'");
    validator_ = validator;
    // Only now: what was there does not belong to it.
    write();
  }
  void go_on() { file_ = open_file(path_, O_RDWR | O_NOFOLLOW); }
  void add(std::span<const std::byte> piece) {
    task_.changes("write file");
    while (!piece.empty()) {
      const ssize_t count = ::pwrite(file_.get(), piece.data(), piece.size(), static_cast<off_t>(size_));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw HostError(errno, "write '" + path_.string() + "'");
      size_ += static_cast<std::uint64_t>(count);
      piece = piece.subspan(static_cast<std::size_t>(count));
    }
  }
  void finish() {
    if (!file_) go_on();
    sync_file(task_, file_, path_);
    file_.reset();
    whole_ = true;
    write();
  }
  void remove() {
    file_.reset();
    // The state last: without the file it says nothing.
    remove_all(task_, path_);
    remove_all(task_, state_path());
    remove_all(task_, new_state_path());
    validator_ = {};
    size_ = 0;
    whole_ = false;
  }

 private:
  fs::path state_path() const { return path_.string() + ".state"; }
  fs::path new_state_path() const { return path_.string() + ".state.new"; }

  void read() {
    struct stat status{};
    const Fd state(::open(state_path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!state || ::lstat(path_.c_str(), &status) != 0) return;
    std::string text(16UL * 1024, '\0');
    const ssize_t count = ::read(state.get(), text.data(), text.size());
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    std::istringstream lines(text);
    std::string word;
    std::string boot;
    std::getline(lines, word);
    std::getline(lines, boot);
    whole_ = word == "whole";
    if (!whole_ && boot != boot_id()) return;
    std::getline(lines, validator_);
    size_ = static_cast<std::uint64_t>(status.st_size);
  }
  void write() const {
    const fs::path temporary = new_state_path();
    remove_all(task_, temporary);
    write_new_file(task_, temporary, (whole_ ? "whole\n" : "part\n") + boot_id() + "\n" + validator_ + "\n");
    task_.changes("rename");
    if (::rename(temporary.c_str(), state_path().c_str()) != 0)
      throw HostError(errno, "make '" + state_path().string() + "'");
    sync_folder(task_, folder_);
  }

  const FileTask& task_;
  fs::path folder_;
  fs::path path_;
  Fd file_;
  std::string validator_;
  std::uint64_t size_ = 0;
  bool whole_ = false;
};

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

// Where "bytes 5-9/10" begins, if it is all that follows there. Nothing: it is something else. (RFC
// 9110, 14.4)
std::optional<std::uint64_t> begin_of_rest(std::string_view range) {
  constexpr std::string_view unit = "bytes ";
  const std::size_t dash = range.find('-');
  const std::size_t slash = range.find('/');
  if (!range.starts_with(unit) || dash >= slash || slash == std::string_view::npos) return {};
  const auto begin = number_of(range.substr(unit.size(), dash - unit.size()));
  const auto last = number_of(range.substr(dash + 1, slash - dash - 1));
  const auto length = number_of(range.substr(slash + 1));
  if (!begin || !last || !length || *begin > *last || *length == 0 || *last != *length - 1) return {};
  return begin;
}
// "bytes */10" is 10 long. Nothing: it is something else.
std::optional<std::uint64_t> length_in(std::string_view range) {
  constexpr std::string_view begin = "bytes */";
  if (!range.starts_with(begin)) return {};
  return number_of(range.substr(begin.size()));
}

// A file may change twice in the second that it was served in, which its time does not show. (RFC
// 9110, 8.8.2.2)
std::string validator_of(const http::fields& fields) {
  const std::string etag(fields[http::field::etag]);
  if (!etag.empty() && !etag.starts_with("W/")) return etag;
  const std::string modified(fields[http::field::last_modified]);
  const std::string date(fields[http::field::date]);
  return date.empty() || date == modified ? std::string() : modified;
}

bool is_redirect(unsigned status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool is_passing(unsigned status) {
  return status == 408 || status == 425 || status == 429 || status >= 500;
}

class Pull {
 public:
  Pull(const fs::path& folder, const PullRequest& request, const FileTask& task)
      : request_(request), task_(task), folder_(folder), progress_(task, folder, request.url) {}

  std::string run() {
    try {
      if (!progress_.whole()) get();
      check_digest();
    } catch (const ConfigError&) {
      progress_.remove();
      throw;
    } catch (const HostError& error) {
      if (error.code().value() == ENOSPC) progress_.remove();
      throw;
    }
    return progress_.path();
  }

 private:
  void get() {
    constexpr std::string_view file_scheme = "file://";
    if (request_.url.starts_with('/')) return copy(request_.url);
    if (request_.url.starts_with(file_scheme)) return copy(request_.url.substr(file_scheme.size()));
    const HttpUrl url = HttpUrl::parse(request_.key, request_.url);
    for (unsigned tries = 1;; ++tries) {
      trouble_.reset();
      get_from(url);
      if (!trouble_) break;
      if (tries > request_.retries)
        throw HostError(trouble_->error, "get '" + request_.url + "'",
                        trouble_->text + "; tried " + std::to_string(tries) +
                            " times; what has come stays for the next try");
      wait(request_.pause * (1U << std::min(tries - 1, 16U)));
    }
    progress_.finish();
  }

  void copy(const std::string& path) {
    if (!path.starts_with('/'))
      throw ConfigError(request_.key, request_.url, "names no file of this host", "give file:///PATH");
    Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status{};
    if (!file || ::fstat(file.get(), &status) != 0) {
      if (errno == ENOENT || errno == ENOTDIR || errno == EACCES)
        throw ConfigError(request_.key, request_.url, "cannot be read", "check the path and who may read it");
      throw HostError(errno, "open '" + path + "'");
    }
    if (!S_ISREG(status.st_mode))
      throw ConfigError(request_.key, request_.url, "is no regular file", "give the path of a file");
    expect_size(static_cast<std::uint64_t>(status.st_size));
    progress_.remove();
    copy_content(task_, {file.get(), request_.key, path, static_cast<std::uint64_t>(status.st_size)},
                 progress_.path(), nullptr);
    progress_.finish();
  }

  void check_digest() {
    if (request_.digest.empty()) return;
    const Fd file = open_file(progress_.path(), O_RDONLY | O_NOFOLLOW);
    Sha256 sum;
    const auto size = static_cast<std::uint64_t>(::lseek(file.get(), 0, SEEK_END));
    FileTask quiet = task_;  // what has come was told
    quiet.progress = {};
    add_content(quiet, {file.get(), request_.key, request_.url, size}, sum);
    if (const std::string digest = sum.finish(); digest != request_.digest)
      throw ConfigError(request_.digest_key, request_.digest, "'" + request_.url + "' has " + digest,
                        "check where the file and the digest come from");
  }

  void expect_size(std::uint64_t size) const {
    if (size > request_.most)
      throw ConfigError(request_.key, request_.url,
                        "has " + format_size(size) + ", more than the limit of " + format_size(request_.most),
                        "raise the limit, if that is what you want");
  }

  void wait(std::chrono::milliseconds time) const {
    const auto end = std::chrono::steady_clock::now() + time;
    for (auto now = end - time; now < end; now = std::chrono::steady_clock::now()) {
      task_.check();
      std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(look_interval, end - now));
    }
  }

  // Sets trouble_ where another try may help.
  void get_from(HttpUrl url) {
    for (unsigned redirects = 0;; ++redirects) {
      const auto endpoints = endpoints_of(url.host, url.port);
      if (endpoints.empty()) {
        trouble_ = {EHOSTUNREACH, "the host '" + url.host + "' is not known"};
        return;
      }
      location_.reset();
      // Last, so that its coroutine ends before what that uses.
      asio::io_context context{1};
      auto done = asio::co_spawn(context, ask(url, endpoints), asio::use_future);
      while (done.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
        context.run_for(look_interval);
        task_.check();
      }
      done.get();
      if (!location_) return;
      if (redirects == most_redirects)
        throw ConfigError(request_.key, request_.url, "leads on more than 5 times",
                          "give the URL of the file itself");
      url = url.follow(request_.key, *location_);
    }
  }

  asio::awaitable<void> ask(const HttpUrl& url, const std::vector<Tcp::endpoint>& endpoints) {
    beast::tcp_stream stream(co_await asio::this_coro::executor);
    beast::flat_buffer buffer;
    buffer.reserve(piece_size);  // without it, it reads 512 bytes at a time
    Parser parser;
    parser.body_limit(boost::none);
    Error error;
    auto redirected = asio::redirect_error(asio::use_awaitable, error);
    const auto request = request_to(url);
    stream.expires_after(request_.stall);
    co_await stream.async_connect(endpoints, redirected);
    if (!error) co_await http::async_write(stream, request, redirected);
    if (!error) co_await http::async_read_header(stream, buffer, parser, redirected);
    if (error) co_return fail(error);
    if (!begin_body(parser)) co_return;
    std::vector<std::byte> piece(piece_size);
    const auto length = parser.content_length();
    const std::uint64_t whole = length ? progress_.size() + *length : 0;
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      stream.expires_after(request_.stall);
      co_await http::async_read_some(stream, buffer, parser, redirected);
      const std::size_t count = piece.size() - parser.get().body().size;
      expect_size(progress_.size() + count);
      if (count != 0) progress_.add(std::span(piece).first(count));
      if (error && error != http::error::need_buffer) co_return fail(error);
      task_.tell(progress_.size(), whole);
    }
  }

  http::request<http::empty_body> request_to(const HttpUrl& url) const {
    http::request<http::empty_body> request(http::verb::get, url.target, 11);
    request.set(http::field::host, url.authority());
    request.set(http::field::user_agent, "humd");
    request.set(http::field::accept_encoding, "identity");
    request.keep_alive(false);
    if (progress_.size() != 0 && !progress_.validator().empty()) {
      request.set(http::field::range, "bytes=" + std::to_string(progress_.size()) + "-");
      request.set(http::field::if_range, progress_.validator());
    }
    return request;
  }

  void fail(const Error& error) {
    const bool of_http = error.category() == http::make_error_code(http::error::end_of_stream).category();
    const bool ended = error == http::error::end_of_stream || error == http::error::partial_message;
    if (error == beast::error::timeout) {
      trouble_ = {ETIMEDOUT, "nothing came for " + std::to_string(request_.stall.count()) + " ms"};
    } else if (of_http && !ended) {
      trouble_ = {EPROTO, "the server's answer is no HTTP"};
    } else {
      trouble_ = {of_http || error == asio::error::eof ? ECONNRESET : error.value(), "the connection broke"};
    }
  }

  // True: what follows belongs behind what is there.
  bool begin_body(const Parser& parser) {
    const auto& answer = parser.get();
    const unsigned status = answer.result_int();
    const std::string range(answer[http::field::content_range]);
    if (is_redirect(status) && answer.count(http::field::location) != 0) {
      location_ = std::string(answer[http::field::location]);
      return false;
    }
    if (status == 416 && progress_.size() != 0) {
      if (length_in(range) == progress_.size()) return false;  // all of it is there
      progress_.remove();
      trouble_ = {EIO, "the server has no rest of the file"};
      return false;
    }
    if (is_passing(status)) {
      trouble_ = {EIO, "the server answers " + std::to_string(status)};
      return false;
    }
    if (status != 200 && status != 206)
      throw ConfigError(
          request_.key, request_.url,
          "the server answers " + std::to_string(status) + " " + printable(std::string(answer.reason())),
          "check the URL");
    if (const std::string coding(answer[http::field::content_encoding]);
        !coding.empty() && !beast::iequals(coding, "identity"))
      throw ConfigError(request_.key, request_.url, "the server sends it as '" + printable(coding) + "' only",
                        "get it with another program (curl -fLo FILE URL) and import FILE");
    // Not every server looks at If-Range.
    const std::string validator = validator_of(answer);
    const bool changed = !validator.empty() && validator != progress_.validator();
    if (status == 206 && (progress_.size() == 0 || changed || begin_of_rest(range) != progress_.size())) {
      progress_.remove();
      trouble_ = {EPROTO, "the server sends another range than it was asked for"};
      return false;
    }
    const std::uint64_t coming = parser.content_length().value_or(0);
    const std::uint64_t there = status == 206 ? progress_.size() : 0;
    expect_size(coming > UINT64_MAX - there ? UINT64_MAX : there + coming);
    if (status == 200) progress_.begin(validator);
    expect_room(folder_, coming, "get '" + request_.url + "'");
    if (status == 206) progress_.go_on();
    return true;
  }

  const PullRequest& request_;
  const FileTask& task_;
  fs::path folder_;
  Progress progress_;
  std::optional<Trouble> trouble_;
  std::optional<std::string> location_;
};

}  // namespace

std::string pull_file(const fs::path& folder, const PullRequest& request, const FileTask& task) {
  if (!request.digest.empty() && !is_sha256(request.digest))
    throw ConfigError(request.digest_key, request.digest, "not accepted",
                      "give sha256: and 64 hexadecimal digits");
  make_folders(task, folder);
  return Pull(folder, request, task).run();
}

}  // namespace hum
