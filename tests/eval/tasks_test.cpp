// Tasks on hand-made files with hand-made log-likelihoods: which requests they ask for, and what
// they make of the answers.
#include "eval/tasks.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "core/error.h"

namespace tessera::eval {
namespace {

// Bytes as tokens; end-of-text 256.
Encoding bytes() {
  Encoding e;
  e.encode = [](const std::string& text) {
    return std::vector<std::int32_t>(
        reinterpret_cast<const unsigned char*>(text.data()),
        reinterpret_cast<const unsigned char*>(text.data()) + text.size());
  };
  e.decode = [](const std::vector<std::int32_t>& ids) {
    return std::string(ids.begin(), ids.end());
  };
  e.end_of_text = 256;
  return e;
}
std::string text_of(const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids)
    text += id == 256 ? "<end>" : std::string(1, static_cast<char>(id));
  return text;
}

class Tasks : public ::testing::Test {
 protected:
  Tasks() : folder_(std::string(TESSERA_BINARY_DIR) + "/tests/tmp-tasks") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void write(const std::string& file, const std::string& text) {
    std::ofstream(folder_ + "/" + file) << text;
  }
  // Runs a task whose requests get the given sums, in order.
  TaskResult run(const std::string& task, const std::vector<double>& sums, std::int64_t limit = 0) {
    return run_task(
        task, folder_, limit, bytes(), {65, 1}, [&](const std::vector<Request>& requests) {
          std::vector<Likelihood> found;
          asked_.clear();
          for (const Request& r : requests) {
            asked_.push_back(text_of(r.context) + "|" + text_of(r.continuation));
            const double sum = sums.empty() ? -1.0 : sums.at(found.size());
            found.push_back({sum, sum > -1, static_cast<std::int64_t>(r.continuation.size()), 0});
          }
          return found;
        });
  }
  std::string message(const std::string& task) {
    try {
      run(task, {});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  double metric(const TaskResult& r, const std::string& name) {
    for (const TaskMetric& m : r.metrics)
      if (m.name == name) return m.value;
    ADD_FAILURE() << name;
    return 0;
  }
  std::string folder_;
  std::vector<std::string> asked_;
};

TEST_F(Tasks, ChoicesByTheirSumAndByTheirLength) {
  write("hellaswag_val.jsonl",
        "{\"query\": \"A:\", \"choices\": [\"no\", \"yes sir\"], \"gold\": 1}\n"
        "{\"query\": \"B: \", \"choices\": [\"\u00e9\u00e9\", \"b\"], \"gold\": 0}\n"
        "{\"query\": \"C\", \"choices\": [\"x\", \"y\"], \"gold\": 0}\n");
  // Item 1: -3 > -7 says 0 (wrong); by length -1.5 < -1 says 1 (right). Item 2: -4 < -3 says 1
  // (wrong); by characters, not bytes, -2 > -3 says 0 (right). Item 3: right both ways.
  const TaskResult r = run("hellaswag", {-3, -7, -4, -3, -1, -2});
  EXPECT_EQ(asked_, (std::vector<std::string>{"A:| no", "A:| yes sir", "B:|  \u00e9\u00e9",
                                              "B:|  b", "C| x", "C| y"}));
  EXPECT_EQ(r.items, 3);
  EXPECT_DOUBLE_EQ(metric(r, "acc"), 1.0 / 3);
  EXPECT_DOUBLE_EQ(metric(r, "acc_norm"), 1);
  // sqrt(p (1 - p) / (n - 1))
  EXPECT_DOUBLE_EQ(r.metrics[0].deviation, std::sqrt(1.0 / 3 * (2.0 / 3) / 2));
  EXPECT_DOUBLE_EQ(r.metrics[1].deviation, 0);
  EXPECT_EQ(run("hellaswag", {-3, -7}, 1).items, 1);
}

TEST_F(Tasks, PromptsAreTheHarnesss) {
  write("piqa_valid.jsonl", R"({"goal": "g", "sol1": "s", "sol2": "t", "gold": 0})");
  run("piqa", {});
  EXPECT_EQ(asked_[1], "Question: g\nAnswer:| t");
  write("arc_easy_test.jsonl", R"({"question": "q", "choices": ["a", "b", "c"], "gold": 2})");
  run("arc_easy", {});
  EXPECT_EQ(asked_[2], "Question: q\nAnswer:| c");
  write("sciq_val.jsonl", R"({"support": " s", "question": "q", "choices": ["a", "b"], "gold": 0}
{"support": "", "question": "q", "choices": ["a", "b"], "gold": 0})");
  run("sciq", {});
  EXPECT_EQ(asked_[0], "s\nQuestion: q\nAnswer:| a");
  EXPECT_EQ(asked_[2], "\nQuestion: q\nAnswer:| a");
  write("winogrande_val.jsonl",
        R"({"sentence": "The _ is it. ", "option1": "one", "option2": "two", "gold": 1})");
  const TaskResult r = run("winogrande", {-2, -1});
  EXPECT_EQ(asked_, (std::vector<std::string>{"The one| is it.", "The two| is it."}));
  EXPECT_EQ(r.metrics.size(), 1u);
  EXPECT_EQ(metric(r, "acc"), 1);
}

TEST_F(Tasks, Lambada) {
  write("lambada_openai_test.jsonl",
        "{\"text\": \"a b c\"}\n{\"text\": \"d e\"}\n{\"text\": \"f  g\"}\n");
  const TaskResult r = run("lambada", {-0.5, -2, -3.5});
  EXPECT_EQ(asked_, (std::vector<std::string>{"a b| c", "d| e", "f|  g"}));
  EXPECT_DOUBLE_EQ(metric(r, "perplexity"), std::exp(2.0));
  EXPECT_DOUBLE_EQ(metric(r, "acc"), 1.0 / 3);
}

TEST_F(Tasks, WikitextCountsTheOriginalsWordsAndBytes) {
  write("wikitext2_raw_valid.docs.jsonl", R"({"text": "a @-@ b , c"})");
  const TaskResult r = run("wikitext", {-12});
  EXPECT_EQ(asked_, (std::vector<std::string>{"<end>|a-b, c"}));
  EXPECT_DOUBLE_EQ(metric(r, "word_perplexity"), std::exp(12.0 / 5));
  EXPECT_DOUBLE_EQ(metric(r, "byte_perplexity"), std::exp(12.0 / 11));
  EXPECT_DOUBLE_EQ(metric(r, "bits_per_byte"), 12 / std::log(2.0) / 11);
  EXPECT_DOUBLE_EQ(metric(r, "perplexity"), std::exp(12.0 / 6));
}

// A model that leaves the first block of every request out, asked with windows that overlap by one
// (L_B = 4): three tokens a text are lost, and with them their bytes and the words that begin in
// them.
TEST(RunningText, CountsWhatIsScored) {
  const auto run = [](const std::vector<std::string>& texts, std::int64_t tokens) {
    return run_text(
        "text", texts, texts, bytes(), {tokens, 4}, [](const std::vector<Request>& requests) {
          std::vector<Likelihood> found;
          for (const Request& r : requests) {
            const auto size = static_cast<std::int64_t>(r.continuation.size());
            const std::int64_t lost =
                std::clamp<std::int64_t>(4 - static_cast<std::int64_t>(r.context.size()), 0, size);
            found.push_back({-0.5 * double(size - lost), false, size - lost, lost});
          }
          return found;
        });
  };
  const auto expect = [](const TaskResult& r, double words, double scored, double unscored) {
    const double nats = 0.5 * scored;
    ASSERT_EQ(r.metrics.size(), 6u);
    EXPECT_DOUBLE_EQ(r.metrics[0].value, 0.5);
    EXPECT_DOUBLE_EQ(r.metrics[2].value, std::exp(nats / words));
    EXPECT_DOUBLE_EQ(r.metrics[3].value, std::exp(0.5));
    EXPECT_DOUBLE_EQ(r.metrics[4].value, 0.5 / std::log(2.0));
    EXPECT_EQ(r.metrics[5].value, scored);
    EXPECT_EQ(static_cast<double>(r.unscored), unscored);
  };
  for (const std::int64_t tokens : {5, 6, 8, 13, 100}) {
    // 19 bytes, 6 words.
    expect(run({"abc de fgh ij k lmn"}, tokens), 5, 16, 3);  // "abc": its word is not scored
    expect(run({"ab cde fgh ij k lmn"}, tokens), 5, 16, 3);  // "ab ": one word begins there
    expect(run({"a bcde fgh ij k lmn"}, tokens), 4, 16, 3);  // "a b": two do
    // A text that is lost altogether counts nothing; each text loses its own begin.
    expect(run({"abc", "a bcde fgh ij k lmn", "x "}, tokens), 4, 16, 3 + 3 + 2);
    expect(run({"abc de", "abc de fgh ij k lmn"}, tokens), 1 + 5, 3 + 16, 6);
  }
}

TEST_F(Tasks, ErrorsNameFileAndLine) {
  EXPECT_NE(message("piqa").find("piqa_valid.jsonl"), std::string::npos);
  const auto with = [&](const std::string& line) {
    write("piqa_valid.jsonl",
          "{\"goal\": \"g\", \"sol1\": \"s\", \"sol2\": \"t\", \"gold\": 0}\n" + line);
    return message("piqa");
  };
  EXPECT_NE(with("nonsense").find(".jsonl:2"), std::string::npos);
  EXPECT_NE(with("{\"goal\": 3}").find("\"goal\" must be a text"), std::string::npos);
  EXPECT_NE(with(R"({"goal": "g", "sol1": "s", "sol2": "t", "gold": 2})").find("below 2"),
            std::string::npos);
  EXPECT_NE(with(R"({"goal": "g", "sol1": "s", "sol2": "t"})").find("\"gold\""), std::string::npos);
  write("piqa_valid.jsonl", "\n");
  EXPECT_NE(message("piqa").find("no items"), std::string::npos);
  write("lambada_openai_test.jsonl", "{\"text\": \"one\"}");
  EXPECT_NE(message("lambada").find("two words"), std::string::npos);
}

TEST(TaskNames, AreCheckedWithTheNearest) {
  EXPECT_EQ(checked_tasks({"piqa", "sciq"}), (std::vector<std::string>{"piqa", "sciq"}));
  EXPECT_EQ(checked_tasks({"all"}), task_names());
  try {
    checked_tasks({"hellaswg"});
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'hellaswag'"), std::string::npos);
  }
}

TEST(EncodePair, MovesBlanksAndCutsByLength) {
  const auto pair = [](const std::string& context, const std::string& continuation) {
    const Request r = encode_pair(bytes(), context, continuation);
    return text_of(r.context) + "|" + text_of(r.continuation);
  };
  EXPECT_EQ(pair("ab", " c"), "ab| c");
  EXPECT_EQ(pair("ab \n", "c"), "ab| \nc");
  EXPECT_EQ(pair("", "c"), "<end>|c");
  EXPECT_EQ(pair("  ", "c"), "<end>|  c");
}

TEST(Wikitext, DetokenizesAsTheHarness) {
  EXPECT_EQ(wikitext_detokenized("the players ' 1 @,@ 000 @.@ 5 , well @-@ known"),
            "the players' 1,000.5, well-known");
  EXPECT_EQ(wikitext_detokenized(" = = Title = = \n"), " == Title ==\n");
  EXPECT_EQ(wikitext_detokenized("( see here ) and [ x ] { y } \" quoted \""),
            "(see here) and [x] {y} \"quoted\"");
  EXPECT_EQ(wikitext_detokenized("a ; b : c ! d ? e . f"), "a; b: c! d? e. f");
  EXPECT_EQ(wikitext_detokenized("John 's N men ( open"), "John's 1 men ( open");
  EXPECT_EQ(wikitext_detokenized("20 \xc2\xb0 C\n next"),
            "20\xc2\xb0"
            "C\nnext");
}

}  // namespace
}  // namespace tessera::eval
