// SPDX-License-Identifier: Apache-2.0
//
// For tests only: in place of hum-vmm where there are to be many, or one that misbehaves. Takes hum-vmm's
// flags, keeps its record and answers what a manager asks; runs no VM. Words of the boot_args in its config
// file say what it is to do:
//
//   fake=die-at-start      ends with an error, its record begun
//   fake=slow-start-ms:N   has no socket before that
//   fake=no-socket         never has one
//   fake=hang-api          takes requests and never answers
//   fake=garbage           answers what is no HTTP
//   fake=long-header       answers with a header of a megabyte
//   fake=wrong-json        answers with status 200 and half an object
//   fake=no-object         answers with status 200 and an object whose fields have other types
//   fake=large             answers with a body of 100 MB
//   fake=endless           answers with a body that goes on until the client is gone
//   fake=cut               ends the connection in the middle of an answer
//   fake=die-at-request    is killed without a word when one comes
//   fake=only:TEXT         does so with requests that have this text, and answers others; may be there often
//   fake=ignore-stop       hears neither Ctrl-Alt-Del nor SIGTERM
//   fake=die-after-ms:N    is killed then without a word
//   fake=exit-code:N       its guest writes that to the exit port at once
#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/unix_address.h"
#include "vmm/machine/end_record.h"

namespace {

using namespace hum;

constexpr int exit_failed = 1;
constexpr std::int64_t restart_ms = 20;  // what a guest takes to hear Ctrl-Alt-Del and to restart
constexpr std::size_t largest_request = 65536;

std::int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// The value behind a flag; flags that are not asked for have no effect.
std::string flag(int argc, char** argv, std::string_view name) {
  for (int i = 1; i + 1 < argc; ++i)
    if (argv[i] == name) return argv[i + 1];
  return {};
}

std::string content_of(const std::string& path) {
  const Fd file = open_file(path, O_RDONLY);
  std::string text;
  std::array<char, 4096> piece;
  for (ssize_t count = 0; (count = ::read(file.get(), piece.data(), piece.size())) > 0;)
    text.append(piece.data(), static_cast<std::size_t>(count));
  return text;
}

// The text of the config file's boot_args: tests put nothing there that JSON escapes.
std::string boot_arguments(const std::string& config) {
  std::size_t at = config.find("\"boot_args\"");
  if (at == std::string::npos) return {};
  at = config.find('"', config.find(':', at));
  if (at == std::string::npos) return {};
  return config.substr(at + 1, config.find('"', at + 1) - at - 1);
}

// What the words say.
class Behaviour {
 public:
  explicit Behaviour(std::string words) : words_(" " + std::move(words) + " ") {}

  bool has(std::string_view word) const {
    return words_.find(" fake=" + std::string(word) + " ") != std::string::npos;
  }
  std::optional<long> number(std::string_view word) const {
    const std::string key = " fake=" + std::string(word) + ":";
    const std::size_t at = words_.find(key);
    if (at == std::string::npos) return {};
    return std::atol(words_.c_str() + at + key.size());
  }
  // Whether a request is one of those to misbehave with.
  bool is_about(std::string_view request) const {
    constexpr std::string_view key = " fake=only:";
    bool any = false;
    for (std::size_t at = 0; (at = words_.find(key, at)) != std::string::npos;) {
      any = true;
      at += key.size();
      const std::string text = words_.substr(at, words_.find(' ', at) - at);
      if (request.find(text) != std::string_view::npos) return true;
    }
    return !any;
  }

 private:
  std::string words_;
};

class FakeVmm {
 public:
  FakeVmm(int argc, char** argv)
      : id_(flag(argc, argv, "--id")), socket_path_(flag(argc, argv, "--api-sock")) {
    if (const std::string path = flag(argc, argv, "--record"); !path.empty()) file_.emplace(path);
    if (const std::string number = flag(argc, argv, "--ready-fd"); !number.empty())
      ready_ = Fd(std::atoi(number.c_str()));
    sigset_t set;
    ::sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, signal);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    keep();
    if (const std::string path = flag(argc, argv, "--config-file"); !path.empty())
      behaviour_ = Behaviour(boot_arguments(content_of(path)));
  }

  // The exit code.
  int run() {
    if (behaviour_.has("die-at-start")) {
      std::fputs("fake: die-at-start\n", stderr);
      return exit_failed;
    }
    record_.started = utc_now();
    start_ms_ = now_ms();
    keep();
    if (const auto code = behaviour_.number("exit-code")) {
      record_.guest_exit_code = static_cast<std::uint32_t>(*code);
      end(EndCause::debug_exit);
      return static_cast<int>(*code);
    }
    if (const auto after = behaviour_.number("die-after-ms")) death_ms_ = start_ms_ + *after;
    if (!behaviour_.has("no-socket")) listen_ms_ = start_ms_ + behaviour_.number("slow-start-ms").value_or(0);
    while (record_.cause == EndCause::running) turn();
    if (ending_signal_ != 0) {  // whoever waits sees the signal, as with hum-vmm
      sigset_t all;
      ::sigfillset(&all);
      ::raise(ending_signal_);
      ::sigprocmask(SIG_UNBLOCK, &all, nullptr);
    }
    return 0;
  }

 private:
  struct Client {
    Fd socket;
    std::string received{};
  };

  void keep() {
    if (file_) file_->write(record_);
  }

  void end(EndCause cause, const std::string& detail = {}) {
    record_.cause = cause;
    record_.detail = detail;
    record_.duration_seconds = static_cast<double>(now_ms() - start_ms_) / 1000;
    keep();
  }

  void turn() {
    std::vector<pollfd> entries = {{signals_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Client& each : clients_) entries.push_back({each.socket.get(), POLLIN, 0});
    ::poll(entries.data(), entries.size(), patience());
    const std::int64_t now = now_ms();
    if (death_ms_ && now >= *death_ms_) ::raise(SIGKILL);
    if (restart_ms_ && now >= *restart_ms_) return end(EndCause::reboot);
    if (listen_ms_ && now >= *listen_ms_) listen();
    if (entries[0].revents != 0) hear_signal();
    for (std::size_t i = entries.size(); i-- > 2;)
      if (entries[i].revents != 0 && !serve(clients_[i - 2]))
        clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(i - 2));
    if (entries[1].revents == 0) return;
    if (Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)); client)
      clients_.push_back({std::move(client)});
  }

  int patience() const {
    std::optional<std::int64_t> next;
    for (const auto& each : {death_ms_, restart_ms_, listen_ms_})
      if (each) next = std::min(*each, next.value_or(*each));
    return next ? static_cast<int>(std::max<std::int64_t>(0, *next - now_ms())) : -1;
  }

  void listen() {
    listen_ms_.reset();
    const UnixAddress address = UnixAddress::of("--api-sock", socket_path_);
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!listener_ || ::bind(listener_.get(), address.get(), address.size()) != 0 ||
        ::listen(listener_.get(), SOMAXCONN) != 0)
      throw HostError(errno, "listen on '" + socket_path_ + "'");
    tell_ready();
  }

  // As hum-vmm does, unless it is to misbehave with whoever asks whether it runs: then it says nothing.
  void tell_ready() {
    const bool misbehaves =
        behaviour_.has("hang-api") || behaviour_.has("die-at-request") || !wrong_answer().empty();
    if (ready_ && !(misbehaves && behaviour_.is_about("GET /hum/v1/vm ")))
      std::ignore = ::write(ready_.get(), "\n", 1);
    ready_.reset();
  }

  void hear_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != sizeof info || behaviour_.has("ignore-stop")) return;
    ending_signal_ = static_cast<int>(info.ssi_signo);
    end(EndCause::signal, "signal " + std::to_string(ending_signal_));
  }

  // False: the client is done with.
  bool serve(Client& client) {
    std::array<char, 2048> piece;
    const ssize_t count = ::recv(client.socket.get(), piece.data(), piece.size(), 0);
    if (count <= 0) return false;
    std::string& text = client.received;
    text.append(piece.data(), static_cast<std::size_t>(count));
    if (text.size() > largest_request) return false;
    for (;;) {
      const std::size_t head = text.find("\r\n\r\n");
      if (head == std::string::npos) return true;
      const std::size_t field = text.find("Content-Length: ");
      const std::size_t body = field < head ? std::strtoul(text.c_str() + field + 16, nullptr, 10) : 0;
      if (body > largest_request) return false;
      if (text.size() - head - 4 < body) return true;
      const std::string request = text.substr(0, head + 4 + body);
      text.erase(0, request.size());
      if (behaviour_.is_about(request)) {
        if (behaviour_.has("hang-api")) continue;
        if (behaviour_.has("die-at-request")) ::raise(SIGKILL);
        if (const std::string wrong = wrong_answer(); !wrong.empty()) {
          const bool goes_on = send_all(client, wrong);
          while (behaviour_.has("endless") && send_all(client, std::string(65536, 'x'))) {
          }
          if (!goes_on || !behaviour_.has("garbage")) return false;
          continue;
        }
      }
      if (!send_all(client, answer(request))) return false;
    }
  }

  static bool send_all(const Client& client, std::string_view text) {
    while (!text.empty()) {
      const ssize_t count = ::send(client.socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }

  // Empty: none is wanted.
  std::string wrong_answer() const {
    constexpr std::size_t megabyte = 1'000'000;
    const std::string begin = "HTTP/1.1 200 OK\r\n";
    if (behaviour_.has("garbage")) return "\x01\x02 no HTTP at all\r\n\r\n";
    if (behaviour_.has("long-header")) return begin + "X-Long: " + std::string(megabyte, 'x') + "\r\n\r\n";
    if (behaviour_.has("wrong-json")) return reply(200, "{\"state\": ");
    if (behaviour_.has("no-object")) return reply(200, R"({"state": {"is": [1, null]}, "id": 7})");
    if (behaviour_.has("large")) return reply(200, std::string(100 * megabyte, 'x'));
    if (behaviour_.has("endless")) return begin + "\r\n";
    if (behaviour_.has("cut")) return begin + "Content-Length: 1000\r\n\r\n{\"state\": \"run";
    return {};
  }

  static std::string reply(int status, const std::string& body) {
    return "HTTP/1.1 " + std::to_string(status) +
           " \r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + body;
  }
  static std::string done() { return "HTTP/1.1 204 \r\n\r\n"; }
  static std::string fault(int status, const std::string& text) {
    return reply(status, "{\"fault_message\":\"" + text + "\"}");
  }

  std::string answer(std::string_view request) {
    const auto says = [&](std::string_view word) { return request.find(word) != std::string_view::npos; };
    const std::string uptime = std::to_string(static_cast<double>(now_ms() - start_ms_) / 1000);
    if (request.starts_with("GET /hum/v1/vm "))
      return reply(200, "{\"id\":\"" + id_ + "\",\"state\":\"" + (paused_ ? "paused" : "running") +
                            "\",\"started\":\"" + record_.started + "\",\"uptime_seconds\":" + uptime +
                            ",\"paused\":" + (paused_ ? "{\"by\":\"client\"}" : "null") + ",\"end\":null}");
    // In each millisecond an exit, and a thousand bytes that are read.
    const std::string exits = std::to_string(now_ms() - start_ms_);
    const std::string bytes = std::to_string((now_ms() - start_ms_) * 1000);
    if (request.starts_with("GET /hum/v1/statistics "))
      return reply(200,
                   "{\"uptime_seconds\":" + uptime + ",\"exits\":{\"port-out\":" + exits +
                       "},\"collected_writes\":0,\"windows\":{},\"devices\":[{\"name\":\"disk0\",\"kind\":"
                       "\"disk\",\"broken_rings\":0,\"queues\":[],\"counters\":{\"bytes_read\":" +
                       bytes +
                       "},\"latencies\":[]}],\"console\":{"
                       "\"output_bytes\":0,\"input_bytes\":0,\"dropped_output_bytes\":0}}");
    if (request.starts_with("PATCH /vm ")) {
      if (!says("\"Paused\"") && !says("\"Resumed\"")) return fault(400, "state: give Paused or Resumed");
      paused_ = says("\"Paused\"");
      return done();
    }
    if (request.starts_with("PUT /actions ")) {
      if (!says("\"SendCtrlAltDel\"")) return fault(400, "action_type: give SendCtrlAltDel");
      if (!behaviour_.has("ignore-stop") && !restart_ms_) restart_ms_ = now_ms() + restart_ms;
      return done();
    }
    return fault(404, "There is no such path.");
  }

  std::string id_;
  std::string socket_path_;
  std::optional<RecordFile> file_;
  EndRecord record_;
  Behaviour behaviour_{""};
  Fd signals_;
  Fd ready_;
  Fd listener_;
  std::vector<Client> clients_;
  bool paused_ = false;
  int ending_signal_ = 0;
  std::int64_t start_ms_ = 0;
  std::optional<std::int64_t> listen_ms_;
  std::optional<std::int64_t> death_ms_;
  std::optional<std::int64_t> restart_ms_;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    return FakeVmm(argc, argv).run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hum_fake_vmm: %s\n", error.what());
    return exit_failed;
  }
}
