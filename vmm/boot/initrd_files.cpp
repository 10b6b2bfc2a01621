// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/initrd_files.h"

#include <lz4.h>

#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <optional>

#include "vmm/base/endian.h"
#include "vmm/boot/boot_file.h"
#include "vmm/boot/decoders.h"
#include "vmm/boot/unpack.h"

namespace hum {
namespace {

using namespace boot;

using Bytes = std::span<const std::byte>;

constexpr std::uint64_t unpacked_limit = std::uint64_t{1} << 30;
constexpr std::uint64_t file_limit = 1'000'000;
constexpr std::uint64_t name_limit = 4096;  // PATH_MAX: Linux passes over what has a longer name
constexpr std::size_t chunk = 256 * 1024;
constexpr std::size_t lz4_block = 8 << 20;
constexpr std::string_view trailer = "TRAILER!!!";

// A field of a header: 8 hexadecimal digits.
std::optional<std::uint64_t> hexadecimal_field(std::string_view digits) {
  std::uint64_t value = 0;
  for (const char each : digits) {
    const int digit = each >= '0' && each <= '9'   ? each - '0'
                      : each >= 'a' && each <= 'f' ? each - 'a' + 10
                      : each >= 'A' && each <= 'F' ? each - 'A' + 10
                                                   : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + static_cast<std::uint64_t>(digit);
  }
  return value;
}

// Reads cpio archives of the "new ASCII" format from pieces of any size.
class CpioReader {
 public:
  CpioReader(const SeeFile& see, const SeeContent& content) : see_(see), content_(content) {}

  // Takes bytes up to one that begins no archive where one might; returns how many.
  std::size_t feed(Bytes bytes) {
    const std::size_t size = bytes.size();
    while (!bytes.empty() && problem_.empty()) {
      if (state_ == State::between && bytes[0] != std::byte{'0'} && bytes[0] != std::byte{0}) break;
      step(bytes);
    }
    return size - bytes.size();
  }

  bool is_between() const { return state_ == State::between; }
  // At least one whole header has been read.
  std::uint64_t count() const { return count_; }
  const std::string& problem() const { return problem_; }

 private:
  enum class State : std::uint8_t { between, header, name, content, padding };

  static constexpr std::size_t header_size = 110;

  void step(Bytes& bytes) {
    switch (state_) {
      case State::between:
        if (bytes[0] == std::byte{'0'}) {
          expect(State::header, header_size);
        } else {
          bytes = bytes.subspan(1);
        }
        break;
      case State::header:
        if (gather(bytes)) take_header();
        break;
      case State::name:
        if (gather(bytes)) take_name();
        break;
      case State::content:
        take_content(bytes);
        break;
      case State::padding:
        take(bytes, left_);
        if (left_ == 0) expect(State::header, header_size);
        break;
    }
  }

  void expect(State state, std::uint64_t size) {
    state_ = state;
    left_ = size;
    gathered_.clear();
  }

  static Bytes take(Bytes& bytes, std::uint64_t& left) {
    const Bytes taken = bytes.first(std::min<std::uint64_t>(bytes.size(), left));
    bytes = bytes.subspan(taken.size());
    left -= taken.size();
    return taken;
  }

  bool gather(Bytes& bytes) {
    const Bytes taken = take(bytes, left_);
    gathered_.append(reinterpret_cast<const char*>(taken.data()), taken.size());
    return left_ == 0;
  }

  void take_header() {
    const std::string_view header(gathered_);
    if (!header.starts_with("070701") && !header.starts_with("070702")) {
      problem_ = "a file in it has no header that Linux knows";
      return;
    }
    const auto field = [&](std::size_t index) { return hexadecimal_field(header.substr(6 + index * 8, 8)); };
    const std::optional<std::uint64_t> size = field(6);
    const std::optional<std::uint64_t> name_size = field(11);
    if (!size || !name_size || *name_size == 0 || *name_size > name_limit) {
      problem_ = "a file in it has a damaged header";
      return;
    }
    if (++count_ > file_limit) {
      problem_ = "it has more than a million files";
      return;
    }
    file_size_ = *size;
    name_size_ = *name_size;
    // The header and the name together are padded to a multiple of 4, as is the content.
    expect(State::name, (header_size + name_size_ + 3) / 4 * 4 - header_size);
  }

  void take_name() {
    std::string_view name(gathered_);
    name = name.substr(0, std::min<std::size_t>(name.find('\0'), name_size_));
    if (name == trailer) {
      --count_;
      return expect(State::between, 0);
    }
    if (name.starts_with("./")) name.remove_prefix(2);
    while (name.starts_with('/')) name.remove_prefix(1);
    name_ = name;
    wanted_ = see_(name_);
    content_bytes_.clear();
    expect(State::content, file_size_);
    if (file_size_ == 0) end_content();
  }

  void take_content(Bytes& bytes) {
    const Bytes taken = take(bytes, left_);
    if (wanted_) {
      const std::size_t room = initrd_content_limit - content_bytes_.size();
      const Bytes kept = taken.first(std::min(room, taken.size()));
      content_bytes_.insert(content_bytes_.end(), kept.begin(), kept.end());
    }
    if (left_ == 0) end_content();
  }

  void end_content() {
    if (wanted_) content_(name_, content_bytes_);
    const std::uint64_t padding = (4 - file_size_ % 4) % 4;
    if (padding == 0) {
      expect(State::header, header_size);
    } else {
      expect(State::padding, padding);
    }
  }

  const SeeFile& see_;
  const SeeContent& content_;
  State state_ = State::between;
  std::uint64_t left_ = 0;
  std::string gathered_;
  std::uint64_t file_size_ = 0;
  std::uint64_t name_size_ = 0;
  std::string name_;
  bool wanted_ = false;
  std::vector<std::byte> content_bytes_;
  std::uint64_t count_ = 0;
  std::string problem_;
};

class Examiner {
 public:
  Examiner(const std::string& path, const SeeFile& see, const SeeContent& content)
      : file_("initrd", path), see_(see), content_(content), room_(chunk) {}

  InitrdFiles examine() {
    while (at_ < file_.size() && result_.problem.empty()) {
      const Bytes next = peek();
      if (next[0] == std::byte{0}) {
        skip_zeros(next);
      } else if (next[0] == std::byte{'0'}) {
        result_.parts.push_back({at_, ""});
        read_bare();
      } else {
        read_packed(next);
      }
      if (result_.parts.size() > file_limit) result_.problem = "it has more than a million parts";
    }
    return std::move(result_);
  }

 private:
  // The next bytes of the file, at least one.
  Bytes peek() {
    const std::span<std::byte> piece(room_.data(), std::min<std::uint64_t>(room_.size(), file_.size() - at_));
    file_.read_at(at_, piece);
    return piece;
  }

  void skip_zeros(Bytes next) {
    const auto end =
        std::find_if(next.begin(), next.end(), [](std::byte each) { return each != std::byte{0}; });
    at_ += static_cast<std::uint64_t>(end - next.begin());
  }

  void read_bare() {
    CpioReader reader(see_, content_);
    while (at_ < file_.size() && reader.problem().empty()) {
      const Bytes next = peek();
      const std::size_t taken = reader.feed(next);
      at_ += taken;
      if (taken < next.size()) break;
    }
    finish(reader);
  }

  void finish(const CpioReader& reader) {
    result_.count += reader.count();
    if (result_.problem.empty()) result_.problem = reader.problem();
    if (result_.problem.empty() && !reader.is_between())
      result_.problem = "it is truncated: its last archive has no end";
  }

  void read_packed(Bytes next) {
    const Compression compression = detect_compression(next);
    if (compression == Compression::unknown) {
      result_.problem = result_.parts.empty()
                            ? "it is no cpio archive, nor packed in a way that Linux knows"
                            : "what follows at byte " + std::to_string(at_) + " is no archive";
      return;
    }
    result_.parts.push_back({at_, std::string(to_string(compression))});
    CpioReader reader(see_, content_);
    try {
      if (compression == Compression::lz4) {
        unpack_lz4(reader);
      } else {
        unpack_stream(compression, reader);
      }
    } catch (const std::bad_alloc&) {
      result_.problem = "there is not enough memory to unpack it";
    }
    finish(reader);
  }

  // False once it makes no sense to go on.
  bool pass_on(CpioReader& reader, Bytes plain) {
    unpacked_ += plain.size();
    if (unpacked_ > unpacked_limit) {
      result_.problem = "it unpacks to more than 1 GiB";
    } else if (reader.feed(plain) != plain.size() && reader.problem().empty()) {
      result_.problem = "what is packed in it is no cpio archive";
    }
    return result_.problem.empty() && reader.problem().empty();
  }

  void unpack_stream(Compression compression, CpioReader& reader) {
    const std::unique_ptr<Decoder> decoder = make_decoder(compression);
    std::vector<std::byte> output(chunk);
    while (true) {
      const Bytes given = at_ < file_.size() ? peek() : Bytes();
      Bytes in = given;
      std::span<std::byte> out(output);
      const Decoder::Result result = decoder->decode(in, out);
      at_ += given.size() - in.size();
      const std::size_t got = output.size() - out.size();
      if (!pass_on(reader, Bytes(output).first(got)) || result == Decoder::Result::finished) return;
      if (result == Decoder::Result::damaged) {
        result_.problem = "its " + std::string(to_string(compression)) + " data makes no sense";
        return;
      }
      if (got == 0 && in.size() == given.size()) {
        result_.problem =
            "it is truncated: its " + std::string(to_string(compression)) + " data ends too early";
        return;
      }
    }
  }

  // The "legacy" frame, the only one of lz4 that Linux takes: blocks of at most 8 MiB up to the end of the
  // file, another frame, or a size of zero.
  void unpack_lz4(CpioReader& reader) {
    std::vector<std::byte> output(lz4_block);
    std::vector<std::byte> input;
    at_ += sizeof(le32);
    while (file_.size() - at_ >= sizeof(le32)) {
      le32 size;
      file_.read_at(at_, writable_bytes_of(size));
      if (size == 0) return;
      if (detect_compression(bytes_of(size)) == Compression::lz4) {
        at_ += sizeof size;
        continue;
      }
      if (size > LZ4_COMPRESSBOUND(lz4_block) || size > file_.size() - at_ - sizeof size) {
        result_.problem = "it is truncated or its lz4 data makes no sense";
        return;
      }
      input.resize(size);
      file_.read_at(at_ + sizeof size, input);
      at_ += sizeof size + size;
      const int got = ::LZ4_decompress_safe(reinterpret_cast<const char*>(input.data()),
                                            reinterpret_cast<char*>(output.data()), static_cast<int>(size),
                                            static_cast<int>(output.size()));
      if (got < 0) {
        result_.problem = "its lz4 data makes no sense";
        return;
      }
      if (!pass_on(reader, Bytes(output).first(static_cast<std::size_t>(got)))) return;
    }
    at_ = file_.size();
  }

  BootFile file_;
  const SeeFile& see_;
  const SeeContent& content_;
  std::vector<std::byte> room_;
  std::uint64_t at_ = 0;
  std::uint64_t unpacked_ = 0;
  InitrdFiles result_;
};

}  // namespace

InitrdFiles examine_initrd(const std::string& path, const SeeFile& see, const SeeContent& content) {
  return Examiner(path, see, content).examine();
}

}  // namespace hum
