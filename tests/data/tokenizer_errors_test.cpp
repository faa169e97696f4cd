// Hostile and unsupported tokenizer.json files end in Error{data} with a sentence that says where.
#include <filesystem>
#include <fstream>
#include <functional>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/data/tokenizer_support.h"

namespace tessera::data {
namespace {

struct Hostile {
  const char* name;
  const char* says;  // part of the message
  std::function<void(Json&)> spoil;
};

void split_step(Json& json, const Json& step) {
  Json byte_level = json["pre_tokenizer"];
  byte_level["use_regex"] = false;
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers", Json::array({step, byte_level})}};
}

Json regex_step(const std::string& pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
}

Json added(const std::string& content, const Json& id) {
  return {{"content", content}, {"id", id}, {"special", true}};
}

const Hostile kHostile[] = {
    {"no_model", "model is missing", [](Json& j) { j.erase("model"); }},
    {"model_no_object", "expected an object", [](Json& j) { j["model"] = 3; }},
    {"other_model", "\"WordPiece\"", [](Json& j) { j["model"]["type"] = "WordPiece"; }},
    {"no_vocab", "model.vocab is missing", [](Json& j) { j["model"].erase("vocab"); }},
    {"vocab_list", "model.vocab",
     [](Json& j) {
       j["model"]["vocab"] = Json::array({1, 2});
     }},
    {"vocab_empty", "model.vocab",
     [](Json& j) {
       j["model"]["vocab"] = Json::object();
       j["model"]["merges"] = Json::array();
     }},
    {"id_negative", "model.vocab[", [](Json& j) { j["model"]["vocab"]["a"] = -1; }},
    {"id_fraction", "model.vocab[", [](Json& j) { j["model"]["vocab"]["a"] = 1.5; }},
    {"id_text", "model.vocab[", [](Json& j) { j["model"]["vocab"]["a"] = "7"; }},
    {"id_huge", "16777215", [](Json& j) { j["model"]["vocab"]["a"] = 1 << 24; }},
    {"id_beyond_64_bits", "model.vocab[", [](Json& j) { j["model"]["vocab"]["a"] = 1e30; }},
    {"id_beyond_int64", "model.vocab[",
     [](Json& j) { j["model"]["vocab"]["a"] = 0xFFFFFFFFFFFFFFFFu; }},
    {"id_twice", "stands for two tokens",
     [](Json& j) { j["model"]["vocab"]["a"] = j["model"]["vocab"]["b"]; }},
    {"not_byte_level", "byte-level",
     [](Json& j) { j["model"]["vocab"]["\xE2\x96\x81the"] = 4096; }},
    {"merges_missing", "merges is missing", [](Json& j) { j["model"].erase("merges"); }},
    {"merges_text", "merges", [](Json& j) { j["model"]["merges"] = "a b"; }},
    {"merge_of_three", "merges[0]", [](Json& j) { j["model"]["merges"][0] = "a b c"; }},
    {"merge_of_one", "merges[1]", [](Json& j) { j["model"]["merges"][1] = "ab"; }},
    {"merge_list_of_one", "merges[2]",
     [](Json& j) { j["model"]["merges"][2] = Json::array({"a"}); }},
    {"merge_number", "merges[0]", [](Json& j) { j["model"]["merges"][0] = 5; }},
    {"merge_unknown", "not in model.vocab",
     [](Json& j) {
       j["model"]["merges"][0] = Json::array({"qqqq", "a"});
     }},
    {"merge_unknown_result", "\"qz\" is not in model.vocab",
     [](Json& j) {
       j["model"]["merges"][0] = Json::array({"q", "z"});
     }},
    {"dropout", "dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }},
    {"prefix", "continuing_subword_prefix",
     [](Json& j) { j["model"]["continuing_subword_prefix"] = "##"; }},
    {"suffix", "end_of_word_suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }},
    {"unknown_token_needed", "unk_token",
     [](Json& j) {
       j["model"]["unk_token"] = "a";
       j["model"]["vocab"].erase("\xC4\x80");  // byte 0
     }},
    {"flag_text", "ignore_merges", [](Json& j) { j["model"]["ignore_merges"] = "yes"; }},
    {"normalizer", "\"NFKC\"",
     [](Json& j) {
       j["normalizer"] = {{"type", "NFKC"}};
     }},
    {"normalizer_in_sequence", "normalizers[0]",
     [](Json& j) {
       j["normalizer"] = {{"type", "Sequence"},
                          {"normalizers", Json::array({{{"type", "Lowercase"}}})}};
     }},
    {"normalizer_text", "normalizer", [](Json& j) { j["normalizer"] = "NFC"; }},
    {"pre_tokenizer_null", "pre_tokenizer", [](Json& j) { j["pre_tokenizer"] = nullptr; }},
    {"pre_tokenizer_other", "\"Metaspace\"",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Metaspace"}};
     }},
    {"pre_tokenizer_no_prefix_flag", "add_prefix_space",
     [](Json& j) { j["pre_tokenizer"].erase("add_prefix_space"); }},
    {"sequence_without_byte_level", "ByteLevel",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers", Json::array({regex_step("a")})}};
     }},
    {"sequence_empty", "pretokenizers",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array()}};
     }},
    {"step_unknown", "\"Punctuation\"",
     [](Json& j) {
       split_step(j, {{"type", "Punctuation"}});
     }},
    {"split_behavior", "MergedWithNext",
     [](Json& j) {
       Json step = regex_step("a");
       step["behavior"] = "MergedWithNext";
       split_step(j, step);
     }},
    {"pattern_broken", "is not understood", [](Json& j) { split_step(j, regex_step("(a")); }},
    {"pattern_of_onigurumas", "not supported", [](Json& j) { split_step(j, regex_step("\\h+")); }},
    {"pattern_class_in_class", "not supported",
     [](Json& j) { split_step(j, regex_step("[a[bc]]")); }},
    {"pattern_missing", "pattern",
     [](Json& j) {
       split_step(j, {{"type", "Split"}});
     }},
    {"decoder", "\"WordPiece\"",
     [](Json& j) {
       j["decoder"] = {{"type", "WordPiece"}};
     }},
    {"added_object", "added_tokens", [](Json& j) { j["added_tokens"] = Json::object(); }},
    {"added_number", "added_tokens[0]", [](Json& j) { j["added_tokens"][0] = 4; }},
    {"added_no_content", "added_tokens[0].content",
     [](Json& j) { j["added_tokens"][0].erase("content"); }},
    {"added_empty", "is empty", [](Json& j) { j["added_tokens"].push_back(added("", 4096)); }},
    {"added_very_long", "at most",
     [](Json& j) { j["added_tokens"].push_back(added(std::string(5000, 'x'), 4096)); }},
    {"added_id_negative", "added_tokens[1].id",
     [](Json& j) { j["added_tokens"].push_back(added("<x>", -3)); }},
    {"added_id_huge", "added_tokens[1].id",
     [](Json& j) { j["added_tokens"].push_back(added("<x>", 1 << 24)); }},
    {"added_id_elsewhere", "gives it 4096",
     [](Json& j) { j["added_tokens"].push_back(added("<x>", 7)); }},
    {"added_id_not_the_models", "its id in model.vocab",
     [](Json& j) { j["added_tokens"].push_back(added("a", 4096)); }},
    {"added_twice", "twice",
     [](Json& j) { j["added_tokens"].push_back(added("<|endoftext|>", 0)); }},
    {"added_same_in_nfc", "the same text in NFC",
     [](Json& j) {
       j["normalizer"] = {{"type", "NFC"}};
       for (const char* content : {"e\xCC\x81.", "\xC3\xA9."}) {
         Json token = added(content, 4095 + j["added_tokens"].size());
         token["normalized"] = true;
         j["added_tokens"].push_back(token);
       }
     }},
    {"no_end_of_text", "<|endoftext|>, <|end_of_text|>",
     [](Json& j) { j["added_tokens"] = Json::array(); }},
};

void expect_data_error(const std::string& text, const std::string& says) {
  try {
    parse_tokenizer(text, "hostile.json");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::data) << error.what();
    EXPECT_NE(std::string(error.what()).find("hostile.json"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
  }
}

class HostileFile : public testing::TestWithParam<Hostile> {};

TEST_P(HostileFile, IsRefused) {
  Json json = sample_tokenizer();
  GetParam().spoil(json);
  expect_data_error(json.dump(), GetParam().says);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, HostileFile, testing::ValuesIn(kHostile),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(HostileText, IsRefused) {
  expect_data_error("", "JSON");
  expect_data_error("{\"model\": ", "JSON");
  expect_data_error("[1, 2]", "expected an object");
  expect_data_error("\"bytes\"", "expected an object");
  expect_data_error("{\"type\": \"other\"}", "pre_tokenizer is missing");
  expect_data_error("{\"model\": {\"vocab\": {\"a\": 1, \"a\": 2}}}", "appears twice");
  expect_data_error("{\"a\": \"\xFF\"}", "JSON");
  expect_data_error(std::string(100'000, '['), "hostile.json");
  expect_data_error(std::string((std::size_t{64} << 20) + 1, ' '), "at most 67108864");
}

// Cutting a file anywhere, or damaging a byte of it, gives an error or a tokenizer, never a crash.
TEST(HostileText, DamagedFilesDoNotCrash) {
  Json json = sample_tokenizer();
  auto& merges = json["model"]["merges"];
  merges.erase(merges.begin(), merges.end());
  Json& vocab = json["model"]["vocab"];
  for (auto it = vocab.begin(); it != vocab.end();)
    it = it.value() > 300 ? vocab.erase(it) : std::next(it);
  const std::string text = json.dump();
  int refused = 0;
  for (std::size_t k = 0; k < text.size(); k += 7) {
    std::string damaged = text;
    damaged[k] = static_cast<char>(damaged[k] ^ (1 << k % 8));
    for (const std::string& candidate : {damaged, text.substr(0, k)}) {
      try {
        parse_tokenizer(candidate, "hostile.json")->encode("A text, <|endoftext|> 12.");
      } catch (const Error& error) {
        EXPECT_EQ(error.category(), Category::data) << error.what();
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int>(text.size() / 7));
}

TEST(HostileFileOnDisk, TooLargeIsRefusedUnread) {
  const std::string path = std::string(TESSERA_BINARY_DIR) + "/tests/tokenizer_huge.json";
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << "{";
  std::filesystem::resize_file(path, (std::uintmax_t{64} << 20) + 1);
  try {
    load_tokenizer(path);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::data) << error.what();
  }
  std::filesystem::remove(path);
}

// The pattern may go wrong on a text, too: a sentence, not a crash.
TEST(HostilePattern, EndlessBacktrackingIsAnError) {
  Json json = sample_tokenizer();
  split_step(json, regex_step("(a+)+b|(x|xx)+y"));
  const auto tokenizer = tokenizer_of(json);
  EXPECT_THROW(tokenizer->encode(std::string(60, 'a') + "c"), Error);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("aaab xxy")), "aaab xxy");
}

}  // namespace
}  // namespace tessera::data
