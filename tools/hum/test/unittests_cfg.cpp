// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/unittests_cfg.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <optional>
#include <sstream>
#include <thread>

#include "tools/hum/test/text.h"
#include "vmm/base/errors.h"
#include "vmm/machine/vm_config.h"

namespace hum {
namespace {

constexpr unsigned default_timeout = 90;      // seconds, kvm-unit-tests' own
constexpr unsigned longest_timeout = 86'400;  // where the list says 0, for none

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r";
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

void skip(TestCase& test, const std::string& reason) {
  if (test.skip.empty()) test.skip = reason;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

void set_machine(TestCase& test, const std::string& key, const std::string& value) {
  try {
    VmConfig().set(key, value);
    test.machine[key] = value;
  } catch (const ConfigError& error) {
    skip(test, error.what());
  }
}

// A guest here has the host's processor: features may be asked for, none can be taken away.
void read_cpu(TestCase& test, const std::string& model) {
  constexpr std::array<std::string_view, 5> generic = {"max", "host", "qemu64", "qemu32", "kvm64"};
  constexpr std::array<std::string_view, 2> harmless = {"host-phys-bits", "migratable=no"};
  const std::vector<std::string> parts = split(model, ',');
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string& part = parts[i];
    const bool known = i == 0
                           ? std::count(generic.begin(), generic.end(), part) != 0
                           : part.starts_with('+') || std::count(harmless.begin(), harmless.end(), part) != 0;
    if (!known) return skip(test, "asks for the processor " + model);
  }
}

void read_machine(TestCase& test, const std::string& machine) {
  for (const std::string& part : split(machine, ',')) {
    if (part == "kernel_irqchip=split" || part == "kernel-irqchip=split") {
      test.machine["irqchip"] = "split";
    } else if (part == "kernel_irqchip=on" || part == "kernel-irqchip=on") {
      test.machine["irqchip"] = "kernel";
    } else if (part != "q35" && part != "pc") {
      skip(test, "asks for the machine " + machine);
    }
  }
}

void read_qemu_device(TestCase& test, const std::string& device) {
  // The two that every machine for these tests has.
  constexpr std::array<std::string_view, 2> present = {"pc-testdev", "isa-debug-exit"};
  if (std::count(present.begin(), present.end(), device.substr(0, device.find(','))) == 0)
    skip(test, "asks for the device " + device);
}

void read_cpus(TestCase& test, const std::string& text) {
  if (text == "$MAX_SMP" || text == "$(nproc)") {
    const unsigned most = std::thread::hardware_concurrency();
    return set_machine(test, "cpus", std::to_string(std::clamp(most, 1u, 64u)));
  }
  set_machine(test, "cpus", text);
}

void read_parameters(TestCase& test, const std::string& text) {
  const std::vector<std::string> words = shell_words(text);
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string option = words[i];
    if (option.starts_with("--")) option.erase(0, 1);
    if (option == "-enable-kvm") continue;
    constexpr std::array<std::string_view, 9> known = {"-append",  "-m", "-smp",        "-cpu",   "-device",
                                                       "-machine", "-M", "-overcommit", "-global"};
    if (std::count(known.begin(), known.end(), option) == 0)
      return skip(test, "asks for QEMU's option " + words[i]);
    if (++i == words.size()) return skip(test, "QEMU's option " + option + " has no value");
    const std::string& value = words[i];
    if (option == "-append") {
      test.arguments = value;
    } else if (option == "-m") {
      set_machine(test, "memory", value);  // MiB without a suffix, as hum's below 1 MiB are
    } else if (option == "-smp") {
      read_cpus(test, value);
    } else if (option == "-cpu") {
      read_cpu(test, value);
    } else if (option == "-device") {
      read_qemu_device(test, value);
    } else if (option == "-machine" || option == "-M") {
      read_machine(test, value);
    }  // the other two only tune QEMU
  }
}

unsigned seconds_of(const std::string& text, const std::string& place) {
  unsigned count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const unsigned factor = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (error != std::errc() || factor == 0 || count > longest_timeout / factor)
    throw ConfigError(place + ": timeout", text, "not accepted", "give seconds, up to a day");
  return count == 0 ? longest_timeout : count * factor;
}

// "PATH=VALUE ...": files of this host and what the test wants to read there.
void check_host(TestCase& test, const std::string& text) {
  for (const std::string& condition : shell_words(text)) {
    const std::size_t equals = condition.find('=');
    const std::string path = condition.substr(0, equals);
    std::string found;
    try {
      found = trimmed(read_text_file(path).substr(0, 4096));
    } catch (const std::exception&) {
      return skip(test, "there is no " + path);
    }
    while (found.ends_with('\n')) found.pop_back();
    if (equals != std::string::npos && found != condition.substr(equals + 1))
      return skip(test, path + " is " + clean_text(found) + ", not " + condition.substr(equals + 1));
  }
}

void read_key(TestCase& test, const std::string& key, const std::string& value, const std::string& folder) {
  if (key == "file") {
    test.image = path_in(folder, value);
  } else if (key == "smp") {
    read_cpus(test, value);
  } else if (key == "extra_params" || key == "qemu_params") {
    read_parameters(test, value);
  } else if (key == "test_args") {
    const std::vector<std::string> words = shell_words(value);
    test.arguments = words.size() == 1 ? words.front() : value;
  } else if (key == "groups") {
    test.groups = shell_words(value);
    if (std::erase(test.groups, "nodefault") != 0) test.slow = true;
  } else if (key == "arch") {
    if (value != "x86_64") skip(test, "is for " + value);
  } else if (key == "accel") {
    if (value != "kvm") skip(test, "is for the accelerator " + value);
  } else if (key == "check") {
    check_host(test, value);
  } else if (key == "timeout") {
    test.timeout = seconds_of(value, test.place);
  } else {
    skip(test, "says '" + key + "', which means nothing here");
  }
}

}  // namespace

std::vector<std::string> shell_words(std::string_view text) {
  std::vector<std::string> words;
  std::optional<std::string> word;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == 0 && (c == ' ' || c == '\t' || c == '\n')) {
      if (word) words.push_back(*std::exchange(word, std::nullopt));
      continue;
    }
    if (!word) word.emplace();
    if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
      *word += text[++i];
    } else {
      *word += c;
    }
  }
  if (word) words.push_back(*word);
  return words;
}

std::vector<TestCase> parse_unittests_cfg(std::string_view text, const std::string& place,
                                          const std::string& folder) {
  std::vector<TestCase> tests;
  std::istringstream stream{std::string(text)};
  unsigned number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    const std::string where = place + ":" + std::to_string(number);
    const std::string_view content = trimmed(line);
    if (content.empty() || content.front() == '#') continue;
    if (content.front() == '[' && content.back() == ']') {
      TestCase& test = tests.emplace_back();
      test.name = content.substr(1, content.size() - 2);
      test.place = where;
      test.timeout = default_timeout;
      continue;
    }
    const std::size_t equals = content.find('=');
    if (equals == std::string_view::npos || tests.empty())
      throw ConfigError(where, std::string(content), "not understood",
                        "a list has [name] lines and KEY = VALUE lines");
    const std::string key(trimmed(content.substr(0, equals)));
    std::string value(trimmed(content.substr(equals + 1)));
    if (value.starts_with("\"\"\"")) {  // a value of several lines
      value.erase(0, 3);
      while (value.find("\"\"\"") == std::string::npos && std::getline(stream, line)) {
        ++number;
        value += "\n" + line;
      }
      value.erase(std::min(value.find("\"\"\""), value.size()));
    }
    for (const std::string_view command : {"`date +%s`", "$(date +%s)"})
      if (const std::size_t at = value.find(command); at != std::string::npos)
        value.replace(at, command.size(), std::to_string(std::time(nullptr)));
    read_key(tests.back(), key, value, folder);
  }
  if (tests.empty()) throw ConfigError(place, "", "there is no [name] of a test in it");
  for (TestCase& test : tests) {
    if (test.image.empty())
      throw ConfigError(test.place + ": file", "", "the test has none", "give the image's path");
    apply_unit_test_profile(test);
  }
  return tests;
}

std::vector<TestCase> read_unittests_cfg(const std::string& path) {
  return parse_unittests_cfg(read_text_file(path), path, std::filesystem::path(path).parent_path().string());
}

}  // namespace hum
