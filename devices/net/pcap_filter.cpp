// SPDX-License-Identifier: Apache-2.0
#include "devices/net/pcap_filter.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/event_loop.h"

namespace hum {
namespace {

// The file format of libpcap (pcap-savefile(5)), with nanoseconds.
struct FileHeader {
  le32 magic{0xa1b23c4d};
  le16 major{2};
  le16 minor{4};
  le32 zone;
  le32 accuracy;
  le32 most_bytes;
  le32 link_type{1};  // Ethernet
};
static_assert(sizeof(FileHeader) == 24);

struct RecordHeader {
  le32 seconds;
  le32 nanoseconds;
  le32 bytes;        // that follow
  le32 frame_bytes;  // that there were
};
static_assert(sizeof(RecordHeader) == 16);

// More than any frame has, and what readers expect.
constexpr std::uint32_t most_bytes = 262144;

// How long a pipe's reader may keep the end of a VM waiting.
constexpr std::chrono::milliseconds last_wait{1000};

// Without a reader, opening a pipe would wait for one; a write would, later on.
Fd open_capture(const PcapFilter::Settings& settings) {
  Fd file(::open(settings.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0600));
  if (file) return file;
  if (errno == ENXIO)
    throw ConfigError(settings.what, settings.path, "a pipe that nobody reads", "start its reader first");
  throw ConfigError(settings.what, settings.path,
                    "cannot be written: " + std::generic_category().message(errno),
                    "name a file in a folder that you can write to");
}

void append(std::vector<std::byte>& buffer, const void* data, std::size_t bytes) {
  const auto* const begin = static_cast<const std::byte*>(data);
  buffer.insert(buffer.end(), begin, begin + bytes);
}

}  // namespace

PcapFilter::PcapFilter(const Settings& settings, const Log& log)
    : name_(settings.what + " '" + settings.path + "'"),
      log_(log),
      buffer_bytes_(std::max<std::size_t>(settings.buffer_bytes, sizeof(FileHeader))),
      latest_(settings.latest),
      file_(open_capture(settings)) {
  filling_.reserve(buffer_bytes_);
  writing_.reserve(buffer_bytes_);
  FileHeader header;
  header.most_bytes = most_bytes;
  append(filling_, &header, sizeof header);
  thread_ = start_thread("pcap", [this] { run(); });
}

PcapFilter::~PcapFilter() {
  ending_ = true;
  wake_.signal();
  thread_.join();
  if (missing_ != 0)
    log_.warning(name_ + ": " + std::to_string(missing_) +
                 " frames are missing, the file took them too slowly");
}

FrameFilter::Answer PcapFilter::decide(Direction /*direction*/, const Frame& frame) {
  if (!idle()) add(frame);
  return {};
}

void PcapFilter::add(const Frame& frame) {
  std::size_t left = std::min<std::size_t>(frame.bytes, most_bytes);
  const std::lock_guard lock(mutex_);
  if (buffer_bytes_ - filling_.size() < sizeof(RecordHeader) + left) {
    ++missing_;
    return;
  }
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);  // under the lock, so that it does not go back in the file
  const RecordHeader header{static_cast<std::uint32_t>(now.tv_sec), static_cast<std::uint32_t>(now.tv_nsec),
                            static_cast<std::uint32_t>(left), static_cast<std::uint32_t>(frame.bytes)};
  append(filling_, &header, sizeof header);
  const auto take = [&](const void* data, std::size_t bytes) {
    bytes = std::min(bytes, left);
    append(filling_, data, bytes);
    left -= bytes;
  };
  take(frame.start.data(), frame.start.size());
  for (const iovec& piece : frame.rest) take(piece.iov_base, piece.iov_len);
  filling_.resize(filling_.size() + left);  // what is said to be there is
  if (filling_.size() < buffer_bytes_ / 2 || asked_) return;
  asked_ = true;
  wake_.signal();
}

void PcapFilter::run() {
  while (true) {
    const bool last = ending_;
    {
      const std::lock_guard lock(mutex_);
      filling_.swap(writing_);
      asked_ = false;
    }
    if (capturing_) write_out();
    writing_.clear();
    if (last) return;
    pollfd entry{.fd = wake_.fd(), .events = POLLIN, .revents = 0};
    ::poll(&entry, 1, static_cast<int>(latest_.count()));
    wake_.drain();
  }
}

void PcapFilter::write_out() {
  std::size_t done = 0;
  while (done < writing_.size()) {
    const ssize_t count = ::write(file_.get(), writing_.data() + done, writing_.size() - done);
    if (count >= 0)
      done += static_cast<std::size_t>(count);
    else if (errno == EAGAIN && !wait_for_room())
      return give_up(ETIMEDOUT, done);
    else if (errno != EAGAIN && errno != EINTR)
      return give_up(errno, done);
  }
}

// For a pipe's reader: as long as the VM runs, and a moment at its end. False: that is over.
bool PcapFilter::wait_for_room() const {
  const bool ending = ending_;
  std::array<pollfd, 2> entries = {{{.fd = file_.get(), .events = POLLOUT, .revents = 0},
                                    {.fd = wake_.fd(), .events = POLLIN, .revents = 0}}};
  const auto wait = ending ? last_wait : latest_;
  const int ready = ::poll(entries.data(), ending ? 1 : 2, static_cast<int>(wait.count()));
  if (entries[0].revents != 0) return true;
  wake_.drain();  // it says that more has come, or that the end has
  return ready >= 0 && !ending;
}

// What was written of the last record is taken away again, so that the file stays readable.
void PcapFilter::give_up(int error, std::size_t written) {
  capturing_ = false;
  log_.warning(name_ + ": the capture ends: " + std::generic_category().message(error) +
               "; the interface goes on");
  struct stat status{};
  if (::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  const bool first = static_cast<std::size_t>(status.st_size) == written;
  std::size_t whole = first ? sizeof(FileHeader) : 0;
  for (RecordHeader header; whole + sizeof header <= written;) {
    std::copy_n(writing_.begin() + static_cast<std::ptrdiff_t>(whole), sizeof header,
                writable_bytes_of(header).begin());
    if (whole + sizeof header + header.bytes > written) break;
    whole += sizeof header + header.bytes;
  }
  if (whole > written) whole = 0;  // not even the file's header
  const off_t keep = status.st_size - static_cast<off_t>(written - whole);
  [[maybe_unused]] const int cut = ::ftruncate(file_.get(), keep);
}

}  // namespace hum
