// The text of JSON lines: escapes, other fields of any shape, and what is not JSON.
#include "data/json_line.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "core/random.h"

namespace tessera::data {
namespace {

std::string text_of(std::string_view line, bool repaired = false) {
  std::string text = "left from before";
  EXPECT_EQ(extract_text(line, "text", text), repaired) << line;
  return text;
}

void expect_refused(std::string_view line, std::string_view reason) {
  std::string text;
  try {
    extract_text(line, "text", text);
    ADD_FAILURE() << "accepted: " << line;
  } catch (const JsonLineError& problem) {
    EXPECT_NE(std::string(problem.what()).find(reason), std::string::npos)
        << line << ": " << problem.what();
  }
}

TEST(JsonLine, PlainAndEscapedText) {
  EXPECT_EQ(text_of(R"({"text":"plain"})"), "plain");
  EXPECT_EQ(text_of(" { \"text\" : \"\" } \r"), "");
  EXPECT_EQ(text_of(R"({"text":"\"\\\/\b\f\n\r\t"})"), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(text_of(R"({"text":"a\u00e9\u0000b\u8a9E"})"), std::string("aé\0b語", 8));
  EXPECT_EQ(text_of("{\"text\":\"ü語🙂\"}"), "ü語🙂");
  EXPECT_EQ(text_of(R"({"text":"\ud83d\ude42!"})"), "🙂!");
  EXPECT_EQ(text_of(R"({"\u0074ext":"named by escapes"})"), "named by escapes");
}

TEST(JsonLine, OtherFieldsArePassedOver) {
  EXPECT_EQ(text_of(R"({"meta":{"a":[1,-2.5e+3,{"text":"no"},[],{}],"b":null},"text":"yes"})"),
            "yes");
  EXPECT_EQ(text_of(R"({"text":"yes","t":true,"f":false,"n":0,"s":"}\"]","e":[[[]]]})"), "yes");
  EXPECT_EQ(text_of(R"({"textual":"no","text ":"no","text":"yes"})"), "yes");
  std::string deep(500, '[');
  deep += std::string(500, ']');
  EXPECT_EQ(text_of("{\"d\":" + deep + ",\"text\":\"yes\"}"), "yes");
}

TEST(JsonLine, BrokenUnicodeIsRepaired) {
  EXPECT_EQ(text_of("{\"text\":\"a\xFFz\"}", true), "a\uFFFDz");
  EXPECT_EQ(text_of("{\"text\":\"cut \xE8\xAA\"}", true), "cut \uFFFD");
  EXPECT_EQ(text_of(R"({"text":"\ud83d"})", true), "\uFFFD");
  EXPECT_EQ(text_of(R"({"text":"\ud83d\u0041"})", true), "\uFFFDA");
  EXPECT_EQ(text_of(R"({"text":"\ude42\ud83d\ud83d\ude42"})", true), "\uFFFD\uFFFD🙂");
  // In another field it does not matter.
  EXPECT_EQ(text_of("{\"m\":\"\xFF\",\"text\":\"ok\"}"), "ok");
}

TEST(JsonLine, TheKeyMustHoldAString) {
  expect_refused("{}", "has no \"text\"");
  expect_refused(R"({"Text":"x"})", "--text-key");
  expect_refused(R"({"text":7})", "is a number, expected a string");
  expect_refused(R"({"text":null})", "is null");
  expect_refused(R"({"text":true})", "is a boolean");
  expect_refused(R"({"text":["a"]})", "is a list");
  expect_refused(R"({"text":{"text":"a"}})", "is an object");
  expect_refused(R"({"text":"a","text":"b"})", "appears twice");
  expect_refused(R"({"text":1,"text":"b"})", "appears twice");
}

TEST(JsonLine, WhatIsNotJsonIsRefusedWithItsColumn) {
  expect_refused("", "the line ends");
  expect_refused("plain text", "column 1");
  expect_refused("[\"text\"]", "expected '{'");
  expect_refused("\"text\"", "column 1");
  expect_refused(R"({"text":"cut)", "ends inside a string");
  expect_refused(R"({"text":"cut\)", "escape");
  expect_refused(R"({"text":"\x"})", "unknown escape");
  expect_refused(R"({"text":"\u12g4"})", "four digits");
  expect_refused(R"({"text":"\u12)", "four digits");
  expect_refused(std::string_view("{\"text\":\"a\0b\"}", 14), "control character");
  expect_refused("{\"text\":\"a\tb\"}", "column 11");
  expect_refused(R"({"text":"a"}})", "after the object");
  expect_refused(R"({"text":"a"} {"text":"b"})", "after the object");
  expect_refused(R"({"text":"a",})", "start of a string");
  expect_refused(R"({"text":"a" "b":1})", "expected '}'");
  expect_refused(R"({"text" "a"})", "expected ':'");
  expect_refused(R"({"text":})", "expected a value");
  expect_refused(R"({text:"a"})", "start of a string");
  expect_refused(R"({"n":01,"text":"a"})", "expected '}'");
  expect_refused(R"({"n":1.,"text":"a"})", "after the point");
  expect_refused(R"({"n":1e,"text":"a"})", "exponent");
  expect_refused(R"({"n":-,"text":"a"})", "expected a value");
  expect_refused(R"({"n":nul,"text":"a"})", "expected a value");
  expect_refused(R"({"n":[1,],"text":"a"})", "expected a value");
  expect_refused(R"({"n":[1}],"text":"a"})", "expected ']'");
  expect_refused(R"({"n":{"a"},"text":"a"})", "expected ':'");
  expect_refused("{\"n\":" + std::string(1000000, '['), "nested too deeply");
}

// Any cut or changed byte gives what the JSON library says, or an error where it says so.
TEST(JsonLine, AgreesWithTheJsonLibraryOnDamagedLines) {
  const std::string good =
      R"({"id":-1.5e3,"m":{"k":[true,null,"x\n"]},"text":"a\u00e9 \ud83d\ude42 \\ end","z":[]})";
  const CounterRandom random(5, 6);
  const std::string_view bytes = "{}[]\",:\\u0e-.tfn \t\x01";
  int accepted = 0;
  for (std::uint64_t i = 0; i < 20000; ++i) {
    std::string line = good;
    const std::size_t at = random.bits(3 * i) % line.size();
    if (i % 4 == 0) {
      line.resize(at);
    } else if (i % 4 == 1) {
      line.erase(at, 1);
    } else {
      line[at] = bytes[random.bits(3 * i + 1) % bytes.size()];
    }
    const Json reference = Json::parse(line, nullptr, false);
    std::string text;
    bool ok = true, repaired = false;
    try {
      repaired = extract_text(line, "text", text);
    } catch (const JsonLineError&) {
      ok = false;
    }
    // The library refuses lone surrogates, which are repaired here.
    if (repaired) continue;
    const bool expected =
        reference.is_object() && reference.contains("text") && reference["text"].is_string();
    ASSERT_EQ(ok, expected) << line;
    accepted += ok;
    if (ok) {
      ASSERT_EQ(text, reference["text"].get<std::string>()) << line;
    }
  }
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace tessera::data
