// SPDX-License-Identifier: Apache-2.0
//
// For tests: stands for hum-vmm where there are to be many, or where one is to misbehave. It takes hum-vmm's
// flags, keeps a record as hum-vmm does, and answers what a manager asks. How it behaves is said by words of
// the kernel's command line in its config file:
//   fake=die-at-start      ends at once with an error       fake=exit-code:N    the guest is done at once
//   fake=die-after-ms:N    is killed without a word then    fake=slow-start-ms:N   serves nothing before that
//   fake=hang              accepts and never answers        fake=garbage        answers what is no HTTP
//   fake=ignore-stop       does not hear Ctrl-Alt-Del       fake=ignore-term    nor SIGTERM
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/unix_address.h"
#include "vmm/machine/end_record.h"

namespace {

using namespace hum;

std::map<std::string, std::string> flags_of(int argc, char** argv) {
  std::map<std::string, std::string> flags;
  for (int index = 1; index + 1 < argc; ++index)
    if (argv[index][0] == '-' && argv[index + 1][0] != '-') flags[argv[index]] = argv[index + 1];
  return flags;
}

// The text behind a word of the command line; none: it is not there.
std::optional<std::string> behaviour(const std::string& config, const std::string& word) {
  const std::size_t at = config.find("fake=" + word);
  if (at == std::string::npos) return {};
  std::size_t from = at + 5 + word.size();
  if (from < config.size() && config[from] == ':') ++from;
  return config.substr(from, config.find_first_not_of("0123456789", from) - from);
}

int milliseconds_of(const std::optional<std::string>& text) {
  return text ? std::atoi(text->c_str()) : -1;
}

struct Fake {
  std::string record_path;
  std::string config;
  std::string started = utc_now();
  std::string state = "running";
  std::vector<std::pair<Fd, std::string>> clients;

  [[noreturn]] void end(EndCause cause, const std::string& detail = {},
                        std::optional<std::uint32_t> code = {}) const {
    write(cause, detail, code);
    ::_exit(0);
  }
  void write(EndCause cause, const std::string& detail = {}, std::optional<std::uint32_t> code = {}) const {
    if (record_path.empty()) return;
    EndRecord record;
    record.cause = cause;
    record.detail = detail;
    record.guest_exit_code = code;
    record.started = started;
    RecordFile(record_path).write(record);
  }

  std::string answer(std::string_view request) {
    const auto reply = [](int status, const std::string& body) {
      return "HTTP/1.1 " + std::to_string(status) +
             " Reply\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
             "\r\nConnection: close\r\n\r\n" + body;
    };
    if (request.starts_with("GET /hum/v1/vm ")) return reply(200, "{\"state\": \"" + state + "\"}");
    if (request.starts_with("GET /hum/v1/statistics ")) return reply(200, "{}");
    if (request.starts_with("PATCH /vm ")) {
      state = request.find("Paused") != std::string_view::npos ? "paused" : "running";
      return reply(200, "{}");
    }
    if (request.find("SendCtrlAltDel") != std::string_view::npos && !behaviour(config, "ignore-stop"))
      end(EndCause::reboot);
    return reply(200, "{}");
  }

  void serve(std::size_t index) {
    auto& [client, text] = clients[index];
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(client.get(), buffer.data(), buffer.size());
    if (count <= 0) {
      clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(index));
      return;
    }
    text.append(buffer.data(), static_cast<std::size_t>(count));
    const std::size_t head = text.find("\r\n\r\n");
    if (head == std::string::npos || behaviour(config, "hang")) return;
    const std::size_t length_at = text.find("Content-Length: ");
    const std::size_t length =
        length_at < head ? std::strtoul(text.c_str() + length_at + 16, nullptr, 10) : 0;
    if (text.size() < head + 4 + length) return;
    const std::string reply = behaviour(config, "garbage") ? std::string("\x01\x02 no HTTP\n") : answer(text);
    if (::send(client.get(), reply.data(), reply.size(), MSG_NOSIGNAL) < 0)
      std::fputs("a client has gone\n", stderr);
    clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(index));
  }
};

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> flags = flags_of(argc, argv);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  const Fd signals(::signalfd(-1, &set, SFD_CLOEXEC));

  Fake fake;
  fake.record_path = flags["--record"];
  std::ifstream file(flags["--config-file"]);
  fake.config.assign(std::istreambuf_iterator<char>(file), {});
  if (behaviour(fake.config, "die-at-start")) {
    fake.started.clear();
    fake.end(EndCause::host_error, "the test wants it so");
  }
  fake.write(EndCause::running);
  if (const int wait = milliseconds_of(behaviour(fake.config, "slow-start-ms")); wait > 0)
    ::poll(nullptr, 0, wait);
  if (const auto code = behaviour(fake.config, "exit-code"))
    fake.end(EndCause::debug_exit, {}, static_cast<std::uint32_t>(std::atoi(code->c_str())));

  const UnixAddress address = UnixAddress::of("--api-sock", flags["--api-sock"]);
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::bind(listener.get(), address.get(), address.size()) != 0 || ::listen(listener.get(), 16) != 0)
    fake.end(EndCause::host_error, "there is no socket");
  const int life = milliseconds_of(behaviour(fake.config, "die-after-ms"));
  for (;;) {
    std::vector<pollfd> entries = {{listener.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    for (const auto& client : fake.clients) entries.push_back({client.first.get(), POLLIN, 0});
    if (::poll(entries.data(), entries.size(), life) == 0) ::raise(SIGKILL);
    if (entries[1].revents != 0) {
      signalfd_siginfo info{};
      if (::read(signals.get(), &info, sizeof info) == sizeof info && !behaviour(fake.config, "ignore-term"))
        fake.end(EndCause::signal, "signal 15");
    }
    for (std::size_t index = entries.size(); index-- > 2;)
      if (entries[index].revents != 0) fake.serve(index - 2);
    if (entries[0].revents != 0)
      fake.clients.emplace_back(Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)), "");
  }
}
