// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>

#include "devices/testing.h"

// For the tests of virtio devices only.
namespace hum::testing {

// A machine with 16 MiB of RAM that keeps what devices log.
class VirtioMachine : public FakeMachine {
 public:
  VirtioMachine() : FakeMachine(16 << 20) {
    log = Log(
        [this](LogLevel, std::string_view text) {
          const std::lock_guard lock(mutex_);
          logged_.append(text).append("\n");
        },
        LogLevel::debug);
  }

  std::string logged() const {
    const std::lock_guard lock(mutex_);
    return logged_;
  }

  // Makes a virtio device the way the machine does, from option text.
  std::unique_ptr<virtio::VirtioDevice> create(const DeviceKind& kind, std::string_view text) {
    const OptionValues values = OptionValues::parse(kind.name, kind.options, text);
    return std::get<DeviceKind::VirtioFactory>(kind.create)(values, context);
  }

 private:
  mutable std::mutex mutex_;  // guards logged_
  std::string logged_;
};

// The message of the ConfigError that work ends in; throws if it ends otherwise.
template <class Work>
std::string config_error_of(Work&& work) {
  try {
    work();
  } catch (const ConfigError& error) {
    return error.what();
  }
  throw std::logic_error("no ConfigError");
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace hum::testing
