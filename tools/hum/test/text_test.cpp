// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/text.h"

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("text within the limit is kept whole, beyond it its beginning and its end") {
  BoundedText text(8);
  text.append("abc");
  text.append("defgh");
  CHECK(text.text() == "abcdefgh");
  text.append("i");
  CHECK(text.text() == "abcd\n[1 bytes left out]\nfghi");
  text.append(std::string(1000, 'x') + "wxyz");
  CHECK(text.text() == "abcd\n[1005 bytes left out]\nwxyz");
  CHECK(text.size() == 1013);
}

TEST_CASE("text that never ends takes no more than its limit, whatever the size of its pieces") {
  for (const std::size_t piece : {1u, 3u, 64u, 1000u}) {
    BoundedText text(64);
    for (std::size_t size = 0; size < 10'000; size += piece) text.append(std::string(piece, 'y'));
    CHECK(text.text().size() <= 64 + 40);
    CHECK(text.text().ends_with(std::string(32, 'y')));
  }
}

TEST_CASE("control characters and broken UTF-8 do not reach a report") {
  CHECK(clean_text("a\tb\r\nc") == "a\tb\nc");
  CHECK(clean_text("\x1b[2J\x7f") == "\xef\xbf\xbd[2J\xef\xbf\xbd");
  CHECK(clean_text("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa6") == "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa6");
  const std::string bad = "\xef\xbf\xbd";
  CHECK(clean_text("\xff") == bad);
  CHECK(clean_text("\xc3") == bad);                                // cut short
  CHECK(clean_text("\xc0\xaf") == bad + bad);                      // overlong
  CHECK(clean_text("\xed\xa0\x80") == bad + bad + bad);            // a surrogate
  CHECK(clean_text("\xef\xbf\xbe") == bad + bad + bad);            // no character
  CHECK(clean_text("\xc2\x85") == bad + bad);                      // a control character
  CHECK(clean_text("\xf4\x90\x80\x80") == bad + bad + bad + bad);  // above U+10FFFF
}

TEST_CASE("the last lines are the last ones, each cut at the width and never inside a character") {
  CHECK(last_lines("", 3).empty());
  CHECK(last_lines("one\ntwo\nthree\n\n", 2) == std::vector<std::string>{"two", "three"});
  CHECK(last_lines("one\ntwo", 5) == std::vector<std::string>{"one", "two"});
  CHECK(last_lines("abcdef", 1, 6) == std::vector<std::string>{"abcdef"});
  CHECK(last_lines("abcdef", 1, 5) == std::vector<std::string>{"abcde..."});
  CHECK(last_lines("ab\xc3\xa4", 1, 3) == std::vector<std::string>{"ab..."});
}

}  // namespace hum
