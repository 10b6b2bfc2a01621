// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace hum {

// The metadata of a VM: one JSON document, which the host writes and guests read. Any thread; a reader never
// waits for a writer's work and sees the document as it was before a change or after it.
class MetadataStore {
 public:
  static constexpr std::size_t default_limit = 51200;
  // Of arrays and objects in each other; a text that goes deeper is none.
  static constexpr int most_levels = 128;

  enum class Change : std::uint8_t {
    done,
    malformed,  // no JSON
    too_large,  // the document would be larger than the limit
    too_early,  // a patch, and nothing was put yet
  };

  enum class Format : std::uint8_t {
    json,
    imds,  // a string as it is; of an object the keys, one a line, with a slash behind those of objects
  };
  struct Answer {
    enum class Outcome : std::uint8_t {
      found,
      absent,
      no_text,  // there is a value, which has no form as imds
    };
    Outcome outcome = Outcome::absent;
    std::string text{};  // found
  };

  // limit: bytes of the document as its shortest text.
  explicit MetadataStore(std::size_t limit = default_limit);
  ~MetadataStore();
  MetadataStore(const MetadataStore&) = delete;
  MetadataStore& operator=(const MetadataStore&) = delete;

  // These leave the document as it was unless they are done.
  Change put(std::string_view json);
  Change patch(std::string_view json);  // JSON Merge Patch (RFC 7396)

  // The whole document; {} while there is none.
  std::string text() const;

  // What is at a path like /latest/meta-data: a JSON pointer (RFC 6901) in which repeated slashes count as
  // one, and one at the end as none.
  Answer look_up(std::string_view path, Format format) const;

 private:
  struct Document;

  Change replace(std::shared_ptr<const Document> fresh);
  std::shared_ptr<const Document> current() const;

  const std::size_t limit_;
  std::mutex change_mutex_;   // held over a whole change
  mutable std::mutex mutex_;  // guards the one below
  // Shared: one that is replaced lives on for those who are reading it.
  std::shared_ptr<const Document> document_;
};

}  // namespace hum
