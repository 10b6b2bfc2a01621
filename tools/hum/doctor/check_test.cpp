// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/check.h"

#include <nlohmann/json.hpp>

#include "tools/hum/doctor/testing.h"

namespace hum::doctor {
namespace {

using State = Check::State;
using Weight = Check::Weight;

constexpr VerdictWords words = {"All is well.", "It limps.", "It does not go."};

Check make(State state, Weight weight) {
  return {"thing", state, "what was found", "what it costs", "what to do", weight};
}

}  // namespace

TEST_CASE("a verdict is as bad as the worst check that counts") {
  struct Row {
    State state;
    Weight weight;
    Verdict verdict;
  };
  for (const Row& row : {
           Row{State::yes, Weight::vital, Verdict::good},
           Row{State::unknown, Weight::vital, Verdict::good},
           Row{State::limited, Weight::vital, Verdict::limited},
           Row{State::no, Weight::vital, Verdict::none},
           Row{State::limited, Weight::speed, Verdict::limited},
           Row{State::no, Weight::speed, Verdict::limited},
           Row{State::no, Weight::remark, Verdict::good},
           Row{State::limited, Weight::remark, Verdict::good},
       })
    CHECK(verdict_of({make(row.state, row.weight)}) == row.verdict);
  CHECK(verdict_of({make(State::no, Weight::vital), make(State::no, Weight::speed)}) == Verdict::none);
  CHECK(verdict_of({}) == Verdict::good);
}

TEST_CASE("the exit codes are 0, 1 and 3") {
  CHECK(exit_code_of(Verdict::good) == 0);
  CHECK(exit_code_of(Verdict::limited) == 1);
  CHECK(exit_code_of(Verdict::none) == 3);
}

TEST_CASE("the text is aligned, and tells cost and fix of what is not well only") {
  const std::string text =
      as_text({make(State::yes, Weight::vital), make(State::limited, Weight::speed)}, words, false);
  CHECK(text ==
        "yes      thing  what was found\n"
        "limited  thing  what was found\n"
        "                costs: what it costs\n"
        "                fix:   what to do\n"
        "\nIt limps.\n");
}

TEST_CASE("colours are used only if asked for, and foreign text makes none") {
  Check check = make(State::no, Weight::vital);
  check.found = "\x1b[31mlabel\n\x9b";
  const std::string plain = as_text({check}, words, false);
  CHECK(plain.find('\x1b') == std::string::npos);
  CHECK(test::contains(plain, "?[31mlabel?"));
  CHECK(test::contains(plain, "It does not go."));
  CHECK(test::contains(as_text({check}, words, true), "\x1b[31mno"));
}

TEST_CASE("JSON has every check and the verdict, whatever bytes are in it") {
  Check check = make(State::no, Weight::vital);
  check.found = "label \xff\x01";
  const auto document = nlohmann::json::parse(as_json({check, make(State::yes, Weight::vital)}));
  CHECK(document["verdict"] == "none");
  REQUIRE(document["checks"].size() == 2);
  CHECK(document["checks"][0]["name"] == "thing");
  CHECK(document["checks"][0]["state"] == "no");
  CHECK(document["checks"][0]["costs"] == "what it costs");
  CHECK(document["checks"][0]["fix"] == "what to do");
  CHECK(document["checks"][1]["state"] == "yes");
  CHECK(document["checks"][1]["fix"] == "");
}

}  // namespace hum::doctor
