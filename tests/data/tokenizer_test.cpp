// Tokenizers as a whole: known ids, the way back, properties of the vocabulary, threads.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/sha256.h"
#include "data/tokenizer/cases.h"
#include "tests/data/tokenizer_support.h"

namespace tessera::data {
namespace {

using Ids = std::vector<std::int32_t>;

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, EveryLineEncodesAndDecodes) {
  const std::string name = GetParam();
  const CaseReport report =
      check_cases_text(fixture_tokenizer(name), fixture(name + "/golden.jsonl.gz"), name);
  EXPECT_EQ(report.lines, 245);
  EXPECT_EQ(report.encoded, 245);
  EXPECT_EQ(report.decoded, 245);
  for (const CaseMismatch& mismatch : report.mismatches)
    ADD_FAILURE() << "line " << mismatch.line << ": " << mismatch.what;
  EXPECT_TRUE(report.passed());
}

TEST_P(Golden, ThreadsAgree) {
  const Tokenizer& tokenizer = fixture_tokenizer(GetParam());
  const std::string text = fixture(std::string(GetParam()) + "/golden.jsonl.gz");
  const Ids expected = tokenizer.encode(text);
  std::vector<Ids> found(4);
  std::vector<std::thread> threads;
  for (Ids& ids : found)
    threads.emplace_back([&] {
      for (int round = 0; round < 3; ++round) ids = tokenizer.encode(text);
    });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, expected);
}

// Joining documents at end-of-text must be the same as encoding one by one.
TEST_P(Golden, SpecialTokenSeparatesDocuments) {
  const Tokenizer& tokenizer = fixture_tokenizer(GetParam());
  Ids expected = tokenizer.encode("First one. ");
  expected.push_back(tokenizer.end_of_text());
  tokenizer.encode("\nThen another", expected);
  EXPECT_EQ(tokenizer.encode("First one. <|endoftext|>\nThen another"), expected);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden, testing::Values("gpt2", "neox"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(Variants, IdsAreHuggingFaces) {
  const Json variants = parse_json(fixture("tokenizer_variants.json"), "tokenizer_variants.json");
  ASSERT_GE(variants.size(), 10u);
  for (const Json& variant : variants) {
    Json json = sample_tokenizer();
    json.merge_patch(variant.at("patch"));
    const auto tokenizer = tokenizer_of(json);
    for (const Json& line : variant.at("cases"))
      EXPECT_EQ(tokenizer->encode(line.at("text").get<std::string>()), line.at("ids").get<Ids>())
          << variant.at("name") << " " << line.at("text");
  }
}

TEST(Vocabulary, Gpt2) {
  const Tokenizer& tokenizer = fixture_tokenizer("gpt2");
  EXPECT_EQ(tokenizer.vocab_size(), 50257);
  EXPECT_EQ(tokenizer.end_of_text(), 50256);
  ASSERT_EQ(tokenizer.token_bytes().size(), 50257u);
  EXPECT_EQ(tokenizer.token_bytes()[50256], 0);
  EXPECT_EQ(tokenizer.token_bytes()[15496], 5);  // "Hello"
  EXPECT_EQ(tokenizer.token_bytes()[995], 6);    // " world"
  EXPECT_TRUE(tokenizer.known(0));
  EXPECT_FALSE(tokenizer.known(-1));
  EXPECT_FALSE(tokenizer.known(50257));
}

TEST(Vocabulary, Neox) {
  const Tokenizer& tokenizer = fixture_tokenizer("neox");
  EXPECT_EQ(tokenizer.vocab_size(), 50277);
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  EXPECT_EQ(tokenizer.token_bytes()[0], 0);
  EXPECT_EQ(tokenizer.token_bytes()[1], 0);
  EXPECT_EQ(tokenizer.token_bytes()[50254], 24);  // a run of blanks: added, but text
  for (std::int32_t id = 0; id < 50277; ++id) ASSERT_TRUE(tokenizer.known(id)) << id;
}

TEST(Vocabulary, TextAndDigestAreThoseOfTheFile) {
  const std::string text = fixture("gpt2/tokenizer.json.gz");
  EXPECT_EQ(fixture_tokenizer("gpt2").json(), text);
  EXPECT_EQ(fixture_tokenizer("gpt2").digest(), sha256(text));
}

TEST(Vocabulary, HolesAreUnknown) {
  Json json = sample_tokenizer();
  auto& vocab = json["model"]["vocab"];
  const std::string last = [&] {
    for (const auto& [token, id] : vocab.items())
      if (id == 4095) return token;
    return std::string();
  }();
  vocab[last] = 5000;
  const auto tokenizer = tokenizer_of(json);
  EXPECT_EQ(tokenizer->vocab_size(), 5001);
  EXPECT_TRUE(tokenizer->known(5000));
  EXPECT_FALSE(tokenizer->known(4095));
  EXPECT_EQ(tokenizer->token_bytes()[4095], 0);
  EXPECT_EQ(tokenizer->decode(Ids{4095, 4999}), "");
  EXPECT_EQ(tokenizer->encode(tokenizer->decode(Ids{5000})), Ids{5000});
}

TEST(Vocabulary, EndOfTextUnderOtherNames) {
  Json json = sample_tokenizer();
  json["added_tokens"][0]["content"] = "</s>";
  EXPECT_THROW(tokenizer_of(json), Error);  // not the text of id 0 in the vocabulary
  json["added_tokens"][0]["id"] = 4096;
  json["model"]["vocab"].erase("<|endoftext|>");
  json["model"]["vocab"]["<|x|>"] = 0;
  EXPECT_EQ(tokenizer_of(json)->end_of_text(), 4096);
}

TEST(Text, BytesSurviveTheRoundTrip) {
  const Tokenizer& tokenizer = fixture_tokenizer("gpt2");
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (std::uint32_t length = random() % 80; length > 0; --length)
      text.push_back(static_cast<char>(random() % (round % 2 ? 128 : 256)));
    const Ids ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids), tokenizer.normalized(text));
    std::int64_t bytes = 0;
    for (const std::int32_t id : ids)
      bytes += tokenizer.token_bytes()[static_cast<std::size_t>(id)];
    EXPECT_EQ(bytes, static_cast<std::int64_t>(tokenizer.normalized(text).size()));
  }
}

TEST(Text, InvalidUtf8BecomesReplacementCharacters) {
  const Tokenizer& tokenizer = fixture_tokenizer("gpt2");
  EXPECT_EQ(tokenizer.encode("a\xFFz"), tokenizer.encode("a\xEF\xBF\xBDz"));
  EXPECT_EQ(tokenizer.encode("\xE2\x82"), tokenizer.encode("\xEF\xBF\xBD"));
}

TEST(Text, DecodingMayEndInsideACharacter) {
  const Tokenizer& tokenizer = fixture_tokenizer("gpt2");
  const Ids ids = tokenizer.encode("\xF0\x9F\xA6\x86");  // a duck, several tokens
  ASSERT_GT(ids.size(), 1u);
  const std::string start = tokenizer.decode(std::span(ids).first(1));
  EXPECT_TRUE(std::string("\xF0\x9F\xA6\x86").starts_with(start));
  EXPECT_EQ(tokenizer.decode(Ids{-5, 50257, 1 << 30, 15496}), "Hello");
}

// A word of a million characters takes n log n steps, not n^2.
TEST(Text, LongWordsTakeLittleTime) {
  for (const char* name : {"gpt2", "neox"}) {
    const Tokenizer& tokenizer = fixture_tokenizer(name);
    const auto start = std::chrono::steady_clock::now();
    for (const char* part : {"a", "ab", " ", "\n ", "\xCC\x81", "\xCC\x81\xCC\xB4"}) {
      std::string text;
      while (text.size() < 1'000'000) text += part;
      const Ids ids = tokenizer.encode(text);
      EXPECT_EQ(tokenizer.decode(ids), tokenizer.normalized(text));
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 30) << name;
  }
}

TEST(Bytes, Tokenizer) {
  const auto tokenizer = load_tokenizer("bytes");
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_EQ(tokenizer->encode("A\xC3\xA9<|endoftext|>\n"), (Ids{65, 0xC3, 0xA9, 256, 10}));
  EXPECT_EQ(tokenizer->decode(Ids{72, 105, 256, 257, -1}), "Hi<|endoftext|>");
  EXPECT_EQ(tokenizer->token_bytes()[255], 1);
  EXPECT_EQ(tokenizer->token_bytes()[256], 0);
  EXPECT_TRUE(tokenizer->known(256));
  EXPECT_FALSE(tokenizer->known(257));
  const auto again = parse_tokenizer(tokenizer->json(), "copy");
  EXPECT_EQ(again->digest(), tokenizer->digest());
  EXPECT_EQ(again->vocab_size(), 257);
}

TEST(Loading, FileFolderAndErrors) {
  const std::string folder = std::string(TESSERA_BINARY_DIR) + "/tests/tokenizer_loading";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder + "/empty");
  std::ofstream(folder + "/tokenizer.json") << sample_tokenizer().dump();
  EXPECT_EQ(load_tokenizer(folder)->vocab_size(), 4096);
  EXPECT_EQ(load_tokenizer(folder + "/tokenizer.json")->vocab_size(), 4096);
  EXPECT_THROW(load_tokenizer(folder + "/empty"), Error);
  EXPECT_THROW(load_tokenizer(folder + "/no.json"), Error);
}

TEST(Cases, MismatchesAreReported) {
  const auto bytes = load_tokenizer("bytes");
  const std::string lines =
      "{\"text\":\"ab\",\"ids\":[97,98]}\n\n{\"text\":\"abc\",\"ids\":[97,98]}\n"
      "{\"text\":\"<|endoftext|>\",\"ids\":[256]}\r\n{\"text\":\"x\",\"ids\":[121]}";
  const CaseReport report = check_cases_text(*bytes, lines, "cases.jsonl");
  EXPECT_EQ(report.lines, 4);
  EXPECT_EQ(report.encoded, 2);
  EXPECT_EQ(report.decoded, 2);
  EXPECT_FALSE(report.passed());
  ASSERT_EQ(report.mismatches.size(), 4u);
  EXPECT_EQ(report.mismatches[0].line, 3);
  EXPECT_NE(report.mismatches[0].what.find("expected [97 98], found [97 98 99]"), std::string::npos)
      << report.mismatches[0].what;
  EXPECT_EQ(report.mismatches[3].line, 5);
  EXPECT_EQ(check_cases_text(*bytes, lines, "cases.jsonl", 1).mismatches.size(), 1u);
}

TEST(Cases, BadLinesAreErrors) {
  const auto bytes = load_tokenizer("bytes");
  for (const char* line :
       {"", "\n\n", "{", "[]", "{\"text\":\"a\"}", "{\"ids\":[1]}", "{\"text\":1,\"ids\":[]}",
        "{\"text\":\"\",\"ids\":[1.5]}", "{\"text\":\"\",\"ids\":[-1]}",
        "{\"text\":\"\",\"ids\":[4294967296]}"}) {
    try {
      check_cases_text(*bytes, line, "cases.jsonl");
      ADD_FAILURE() << line;
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), Category::data);
      EXPECT_NE(std::string(error.what()).find("cases.jsonl"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tessera::data
