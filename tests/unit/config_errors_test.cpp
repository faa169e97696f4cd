// config/: what is refused, and that the message says where, what, and what was probably meant.
#include <chrono>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "tests/unit/config_support.h"

namespace tessera {
namespace {

struct Bad {
  std::string text;
  std::vector<std::string> parts;  // all of them must be in the message
};

void expect_refused(const std::vector<Bad>& cases) {
  for (const Bad& bad : cases) {
    const std::string message = refusal(bad.text);
    EXPECT_FALSE(message.empty()) << "accepted:\n" << bad.text;
    EXPECT_EQ(message.find('\n'), std::string::npos) << bad.text << "\n" << message;
    for (const std::string& part : bad.parts)
      EXPECT_NE(message.find(part), std::string::npos)
          << bad.text << "\nis refused with\n  " << message << "\nwithout\n  " << part;
  }
}

TEST(ConfigErrors, UnknownKeysNameTheNearestOne) {
  expect_refused({
      {"model:\n  widht: 3", {"test.yaml:2: model.widht: unknown key; did you mean model.width?"}},
      {"\nmodle:\n  width: 64", {"test.yaml:3: modle.width: ", "did you mean model.width?"}},
      {"modle:\n  widht: 64", {"test.yaml:2: modle.widht: ", "did you mean model.width?"}},
      {"lr: 1e-3", {"test.yaml:1: lr: ", "did you mean optimizer.lr?"}},
      {"train:\n  lr: 1e-3", {"test.yaml:2: train.lr: ", "did you mean optimizer.lr?"}},
      {"optimizer: {steps: 7}", {"test.yaml:1: optimizer.steps: ", "did you mean train.steps?"}},
      {"evall: {every: 2}", {"evall.every: ", "did you mean eval.every?"}},
      {"evaluation:\n", {"test.yaml:1: evaluation: unknown key"}},
      {"modul:\n", {"test.yaml:1: modul: ", "did you mean model?"}},
      {"devise: cpu", {"test.yaml:1: devise: ", "did you mean device?"}},
      {"train: {\"micro batch\": 4}", {"train.micro batch: ", "did you mean train.micro_batch?"}},
      {"model: {width: {size: 64}}", {"test.yaml:1: model.width: found a map"}},
      {"qqqqqqqq: 1", {"test.yaml:1: qqqqqqqq: unknown key; docs/configuration.md"}},
      {"data:\n  train:\n    - path: a\n      weigth: 2",
       {"test.yaml:4: data.train[0].weigth: ", "did you mean weight?"}},
      {std::string(200, 'x') + ": 1", {"test.yaml:1: xxxx", "...: unknown key"}},
  });
}

TEST(ConfigErrors, WrongTypesSayWhatWasFoundAndExpected) {
  expect_refused({
      {"seed: 1\ntrain:\n  steps: 1.5",
       {"test.yaml:3: train.steps: found 1.5, expected a whole number"}},
      {"train: {steps: many}", {"test.yaml:1: train.steps: found many"}},
      {"train: {steps: 1e3}", {"train.steps: found 1e3, expected a whole number"}},
      {"train: {steps: 1_000}", {"train.steps: found 1_000"}},
      {"train: {steps: 0x10}", {"train.steps: found 0x10"}},
      {"train: {steps: 010}", {"train.steps: found 010"}},
      {"train: {steps: true}", {"train.steps: found true, expected a whole number"}},
      {"train: {steps: \"100\"}", {"train.steps: found the text \"100\", expected a whole number"}},
      {"train: {steps: 9223372036854775808}", {"train.steps: ", "fits in 64 bits"}},
      {"train: {steps: }", {"test.yaml:1: train.steps: found nothing"}},
      {"train:\n  steps:\n\nseed: 3", {"test.yaml:2: train.steps: found nothing"}},
      {"train: {steps: ~}", {"train.steps: found nothing"}},
      {"train: {steps: [1]}", {"train.steps: found a list"}},
      {"seed: -1", {"seed: found -1, expected a whole number of at least 0"}},
      {"seed: 18446744073709551616", {"seed: found 1844", "64 bits"}},
      {"optimizer: {lr: fast}", {"optimizer.lr: found fast, expected a number"}},
      {"optimizer: {lr: .nan}", {"optimizer.lr: found .nan"}},
      {"optimizer: {lr: nan}", {"optimizer.lr: found nan"}},
      {"optimizer: {lr: inf}", {"optimizer.lr: found inf"}},
      {"optimizer: {lr: 1e999}", {"optimizer.lr: found 1e999", "double precision"}},
      {"optimizer: {lr: yes}", {"optimizer.lr: found yes"}},
      {"optimizer: {lr: 1e}", {"optimizer.lr: found 1e,"}},
      {"optimizer: {lr: +-1}", {"optimizer.lr: found +-1"}},
      {"optimizer: {lr: 1e-3x}", {"optimizer.lr: found 1e-3x"}},
      {"optimizer: {betas: 0.9}", {"optimizer.betas: found 0.9, expected a list of two numbers"}},
      {"optimizer: {betas: [0.9]}", {"optimizer.betas: found a list of 1"}},
      {"optimizer:\n  betas:\n  - 0.9\n  - x", {"test.yaml:4: optimizer.betas[1]: found x"}},
      {"model: 5", {"test.yaml:1: model: found 5, expected a section"}},
      {"model: [1]", {"test.yaml:1: model: found a list, expected a section"}},
      {"- 1", {"test.yaml:1: found a list, expected sections"}},
      {"hello", {"test.yaml:1: found hello, expected sections"}},
      {"data: {train: [[a]]}", {"data.train[0]: found a list"}},
      {"data: {train: [{weight: 2}]}", {"data.train[0]: has no path"}},
      {"data:\n  train:\n  - {path: a}\n  - {path: b,\n     weight: two}",
       {"test.yaml:5: data.train[1].weight: found two"}},
      {"data: {train: {path: a}}", {"data.train: found a map, expected a path"}},
      {"run: {name: [a]}", {"run.name: found a list, expected text"}},
      {"eval: {tasks: [a, [b]]}", {"eval.tasks[1]: found a list"}},
  });
}

TEST(ConfigErrors, WrongChoicesNameTheNearestOne) {
  expect_refused({
      {"model: {kind: blok}",
       {"model.kind: found blok, expected vanilla or block; did you mean "
        "block?"}},
      {"model: {kind: Block}", {"did you mean block?"}},
      {"train: {recompute: attention}", {"found attention, expected none, attention+mlp or layer"}},
      {"optimizer: {schedule: cosin}", {"optimizer.schedule: ", "did you mean cosine?"}},
      {"parallel: {schedule: 1F1B}", {"parallel.schedule: ", "did you mean 1f1b?"}},
      {"data: {padding: random}", {"data.padding: found random, expected"}},
      {"model: {embedder: projections}",
       {"model.embedder: found projections, expected concat or projection; did you mean "
        "projection?"}},
      {"precision:", {"precision: found nothing, expected auto, bf16 or fp32"}},
  });
}

TEST(ConfigErrors, ImpossibleValuesAndCombinations) {
  expect_refused({
      {"seed: 1\nmodel:\n  width: 0", {"test.yaml:3: model.width: found 0, expected"}},
      {"model: {vocab: 1}", {"model.vocab: found 1, expected a whole number from 2"}},
      {"model: {vocab: 2147483648}", {"model.vocab: found 2147483648", "2147483647"}},
      {"model: {heads: 7}",
       {"model.heads: 7 heads do not divide model.width 768 evenly", "model.width is the default"}},
      {"model: {width: 12, heads: 4}", {"model.heads: model.width / model.heads = 3 is odd"}},
      {"model:\n  rotary_pct: 0.05\n",
       {"test.yaml:2: model.rotary_pct: 0.05 of a head of 64 "
        "rotates 3 dimensions; expected an even number"}},
      {"model: {rotary_pct: 0.01}", {"rotates 0 dimensions"}},
      {"model: {rotary_pct: 0}", {"model.rotary_pct: found 0, expected a number above 0"}},
      {"model: {rotary_pct: 1.1}", {"model.rotary_pct: found 1.1"}},
      {"model: {context: 2050}",
       {"model.context: 2050 is not a multiple of model.block_length (4)"}},
      {"model: {context: 4}", {"model.context: 4 holds one block of 4"}},
      {"model: {block_length: 5, context: 100}",
       {"model.width: 768 is not a multiple of "
        "model.block_length (5); choose another, or model.embedder: projection"}},
      {"model: {kind: vanilla, embedder: projection}",
       {"model.embedder: projection is for block models; write concat"}},
      {"model: {kind: vanilla, context: 1}", {"model.context: found 1, expected"}},
      {"model: {ffn_mult: 2147483647, width: 2147483640, heads: 1}", {"model.ffn_mult: ", "2^63"}},
      {"train: {micro_batch: 2147483647, global_batch: 2147483647, steps: 1}\n"
       "model: {context: 2147483644, vocab: 2147483647}\noptimizer: {warmup: 0}",
       {"train.micro_batch: ", "2^63"}},
      {"train: {global_batch: 10}",
       {"train.global_batch: 10 is not a multiple of "
        "train.micro_batch (8)"}},
      {"parallel: {data: 3}",
       {"test.yaml:1: train.global_batch: 256 is not a multiple of "
        "train.micro_batch x parallel.data (24)"}},
      {"train: {stop_at: 1001}", {"train.stop_at: 1001 is past train.steps (1000)"}},
      {"train: {stop_at: -1}", {"train.stop_at: found -1, expected at least 0"}},
      {"train: {steps: 0, stop_at: 0}", {"train.steps: found 0, expected at least 1"}},
      {"train: {steps: 9000000000000000000}", {"train.steps: ", "do not fit in 64 bits"}},
      {"train: {steps: 100}",
       {"optimizer.warmup: 100, expected below train.steps (100)",
        "optimizer.warmup is the default"}},
      {"train: {steps: 99}\noptimizer: {schedule: constant}",
       {"optimizer.warmup: 100, expected at most train.steps (99)", "test.yaml:2"}},
      {"optimizer: {schedule: wsd, decay_steps: 901}",
       {"optimizer.decay_steps: 901 and optimizer.warmup (100) together exceed"}},
      {"optimizer: {schedule: wsd, warmup: 950}", {"100 (a tenth of train.steps)"}},
      {"optimizer: {lr: 0}", {"optimizer.lr: found 0, expected a finite number above 0"}},
      {"optimizer: {lr: -1e-3}", {"optimizer.lr: found -0.001"}},
      {"optimizer: {min_lr_ratio: 1.5}", {"optimizer.min_lr_ratio: found 1.5"}},
      {"optimizer: {betas: [0.9, 1]}", {"optimizer.betas: found [0.9, 1]"}},
      {"optimizer: {eps: 0}", {"optimizer.eps: found 0"}},
      {"optimizer: {weight_decay: -0.1}", {"optimizer.weight_decay: found -0.1"}},
      {"optimizer: {clip: -1}", {"optimizer.clip: found -1"}},
      {"parallel: {virtual_stages: 2}",
       {"parallel.virtual_stages: 2 virtual stages need "
        "parallel.schedule: interleaved, found 1f1b"}},
      {"parallel: {pipeline: 0}", {"parallel.pipeline: found 0"}},
      {"parallel: {zero: 2}", {"parallel.zero: found 2, expected 0 or 1"}},
      {"checkpoint: {keep: 0}", {"checkpoint.keep: found 0, expected at least 1"}},
      {"checkpoint: {every: -1}", {"checkpoint.every: found -1"}},
      {"eval: {batches: -1}", {"eval.batches: found -1"}},
      {"watchdog: {step_seconds: 0}", {"watchdog.step_seconds: found 0"}},
      {"device: cpu\nprecision: bf16",
       {"test.yaml:2: precision: bf16 is for device cuda alone", "device is from test.yaml:1"}},
  });
}

// The width is cut into embeddings of L_B tokens by `concat` alone.
TEST(ConfigErrors, AProjectionTakesAnyBlockLength) {
  EXPECT_EQ(refusal("model: {block_length: 5, context: 100, embedder: projection}"), "");
}

TEST(ConfigErrors, RunNamesAndPathsCannotEscape) {
  for (const char* name : {"..", ".", ".hidden", "a/b", "a\\b", "../x", "a b", "x;y", "$x", "\"\"",
                           "\"caf\xC3\xA9\"", "\"a\\0b\""}) {
    const std::string message = refusal(std::string("run:\n  name: ") + name);
    EXPECT_NE(message.find("test.yaml:2: run.name: found"), std::string::npos) << name << message;
  }
  EXPECT_NE(refusal("run: {name: " + std::string(129, 'a') + "}").find("1 to 128"),
            std::string::npos);
  EXPECT_EQ(refusal("run: {name: " + std::string(128, 'a') + "}"), "");
  EXPECT_EQ(refusal("run: {name: a..b}"), "");
  EXPECT_NE(refusal("data: {train: \"\"}").find("data.train: "), std::string::npos);
  EXPECT_NE(refusal("data: {valid: [a, \"b\\nc\"]}").find("data.valid: "), std::string::npos);
  EXPECT_NE(refusal("data: {train: [{path: a, weight: 0}]}").find("above 0"), std::string::npos);
  EXPECT_NE(refusal("data: {train: [{path: a, weight: -2}]}").find("above 0"), std::string::npos);
}

TEST(ConfigErrors, ProgramMadeConfigsAreCheckedToo) {
  Config c;
  c.optimizer.lr = std::numeric_limits<double>::quiet_NaN();
  c.optimizer.betas[0] = std::numeric_limits<double>::quiet_NaN();
  c.optimizer.clip = std::numeric_limits<double>::infinity();
  c.run.root = std::string("a\0b", 3);
  c.model.heads = 0;  // no division by it
  c.model.block_length = 0;
  c.train.micro_batch = 0;
  const auto problems = config_problems(c);
  ASSERT_EQ(problems.size(), 7u);
  for (const char* key :
       {"run.root: ", "model.heads: ", "model.block_length: ", "train.micro_batch: ",
        "optimizer.lr: ", "optimizer.betas: ", "optimizer.clip: "}) {
    int found = 0;
    for (const std::string& problem : problems) found += problem.starts_with(key) ? 1 : 0;
    EXPECT_EQ(found, 1) << key;
  }
}

TEST(ConfigErrors, AllProblemsAreToldAtOnce) {
  const std::string message = refusal(R"(model:
  widht: 300
  heads: 5
train:
  steps: 1.5
  micro_batch: 7
  micro_batch: 8
optimizer: {lr: -1, warmup: 5000}
precision: bf61
)",
                                      {"train.stop_ta=3", "checkpoint.keep=0"});
  for (const char* line :
       {"\n  test.yaml:2: model.widht: unknown key; did you mean model.width?",
        "\n  test.yaml:5: train.steps: found 1.5, expected a whole number",
        "\n  test.yaml:7: train.micro_batch: repeated key, first given on line 6; keep one of them",
        "\n  test.yaml:6: train.global_batch: 256 is not a multiple of train.micro_batch (7)",
        "\n  test.yaml:8: optimizer.lr: found -1, expected a finite number above 0",
        "\n  test.yaml:9: precision: found bf61, expected auto, bf16 or fp32; did you mean bf16?",
        "\n  override train.stop_ta=3: train.stop_ta: unknown key; did you mean train.stop_at?",
        "\n  override checkpoint.keep=0: checkpoint.keep: found 0, expected at least 1"})
    EXPECT_NE(message.find(line), std::string::npos) << line << "\nnot in\n" << message;
  // Rules on keys that could not be read (width, steps) would be guesses.
  EXPECT_EQ(message.find("model.heads"), std::string::npos) << message;
  EXPECT_EQ(message.find("optimizer.warmup"), std::string::npos) << message;
  EXPECT_EQ(message.find("8 problems in the configuration:"), 0u) << message;
}

TEST(ConfigErrors, LongListsOfProblemsAreCut) {
  std::string text;
  for (int i = 0; i < 60000; ++i) text += "unknown" + std::to_string(i) + ": 1\n";
  const std::string message = refusal(text);
  EXPECT_EQ(message.find("60000 problems"), 0u);
  EXPECT_NE(message.find("and 59950 more"), std::string::npos);
  EXPECT_LT(message.size(), 10000u);
}

TEST(ConfigErrors, RepeatedKeysAnchorsAliasesAndTags) {
  expect_refused({
      {"seed: 1\nseed: 1", {"test.yaml:2: seed: repeated key, first given on line 1"}},
      {"model:\n  width: 64\ntrain: {steps: 500}\nmodel:\n  heads: 4",
       {"test.yaml:4: model: repeated key, first given on line 1"}},
      {"data: {train: [{path: a, path: b}]}", {"data.train[0].path: repeated key"}},
      {"seed: 3\ntrain: {steps: 500}\ntrain.steps: 600", {"test.yaml:3: train.steps: given twice"}},
      {"seed: &a 1", {"test.yaml:1: seed: anchors (&name) are not supported"}},
      {"model: &m {width: 64}", {"test.yaml:1: model: anchors"}},
      {"seed: !!int 1", {"test.yaml:1: seed: found the tag"}},
      {"? [a, b]\n: 1", {"test.yaml:1: a key must be a plain word"}},
      {"seed: 1\n---\nseed: 2", {"a second YAML document"}},
      {"seed: [1", {"test.yaml:", "not valid YAML"}},
      {"seed: 1\n  model: 2", {"test.yaml:2: not valid YAML"}},
      {"seed: *nobody", {"test.yaml:1: not valid YAML"}},
      {"\tseed: 1", {"not valid YAML"}},
  });
  const std::string message = refusal("run: {name: &n x}\ndata: {train: *n, valid: [*n, a]}");
  EXPECT_NE(message.find("test.yaml:1: run.name: anchors"), std::string::npos) << message;
  EXPECT_NE(message.find("test.yaml:2: data.train: aliases (*name) are not"), std::string::npos);
  EXPECT_NE(message.find("test.yaml:2: data.valid[0]: aliases"), std::string::npos) << message;
  // Nine levels of nine references each: 9^9 values if they were followed.
  std::string bomb = "a0: &a0 [x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int k = 0; k < 8; ++k) bomb += ", " + last;
    bomb += "]\n";
  }
  EXPECT_NE(refusal(bomb).find("aliases"), std::string::npos);
}

TEST(ConfigErrors, OverridesAreNamedInMessages) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"train.steps", "override train.steps: expected key=value"},
      {"=3", "override =3: expected key=value"},
      {"", "override : expected key=value"},
      {"train.stesp=3", "train.stesp: unknown key; did you mean train.steps?"},
      {"steps=3000", "steps: unknown key; did you mean train.steps?"},
      {"train.steps=", "override train.steps=: train.steps: found nothing"},
      {"train.steps=x", "override train.steps=x: train.steps: found x, expected a whole number"},
      {"train.steps.x=1", "train.steps.x: unknown key"},
      {"train=5", "override train=5: train: found 5, expected a section of keys"},
      {"train=", "train: found nothing, expected a section"},
      {"train={stesp: 3}", "train.stesp: unknown key; did you mean train.steps?"},
      {"train={steps: 300, steps: 400}", "train.steps: repeated key"},
      {"data.train=[{path: a", "data.train: not valid YAML"},
      {"data.train=[{path: a, weight: b}]", "data.train[0].weight: found b"},
      {"seed=&x 1", "seed: anchors"},
      {"seed=1\xff", "seed: not text"},
      {"base=other.yaml", "override base=other.yaml: base belongs into a file"},
      {" seed=1", "did you mean seed?"},
  };
  for (const auto& [assignment, part] : cases) {
    const std::string message = refusal("{}", {assignment});
    EXPECT_NE(message.find(part), std::string::npos) << assignment << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST(ConfigErrors, HostileNestingAndSizeAreRefusedQuickly) {
  const auto repeat = [](const std::string& piece, std::size_t bytes) {
    std::string out;
    while (out.size() + piece.size() <= bytes) out += piece;
    return out;
  };
  const std::size_t most = 1 << 20;
  std::string stairs;  // indentation by one more blank a line
  for (std::size_t i = 0; stairs.size() + i + 4 < most; ++i) stairs += std::string(i, ' ') + "a:\n";
  std::vector<std::string> texts = {stairs, std::string(100000, '[') + std::string(100000, ']'),
                                    "a: " + std::string(100000, ' ') + "\n"};
  for (const char* piece :
       {"[",      "{",   "{a: ", "[a, ",  "- ",    "? ", "a: ",   ": ",  "&a ",  "*a ", "! ",
        "!a",     "\"",  "'",    "%",     "|",     "> ", "]",     "}",   ",",    "\n",  "a\n",
        "a: b\n", "-\n", "--- ", "---\n", "...\n", "#",  "- - [", "{? ", "[? [", "<<: "})
    texts.push_back(repeat(piece, most));
  for (const std::string& text : texts) {
    const auto start = std::chrono::steady_clock::now();
    const std::string message = refusal(text);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    EXPECT_NE(message, "") << text.substr(0, 20);
    EXPECT_LT(message.size(), 20000u) << text.substr(0, 20);
    EXPECT_LT(taken.count(), 5.0) << text.substr(0, 20);
    EXPECT_NE(refusal("{}", {"data.train=" + text.substr(0, 100000)}), "") << text.substr(0, 20);
  }
  EXPECT_NE(refusal(std::string(most + 1, '\n')).find("larger than"), std::string::npos);
  // 31 lists inside data.train's map are within the limit of 32, and merely of the wrong type.
  const auto nested = [](std::size_t n) {
    return "model: {width: " + std::string(n, '[') + std::string(n, ']') + "}";
  };
  EXPECT_NE(refusal(nested(30)).find("model.width: found a list"), std::string::npos);
  EXPECT_NE(refusal(nested(31)).find("test.yaml:1: nested deeper than 32"), std::string::npos);
}

// Any bytes give a Config or Error{config}: no other exception, no crash.
TEST(ConfigErrors, RandomDamageNeverEscapes) {
  const std::string sound = resolved_config(Config{});
  std::mt19937 random(5);
  const std::string alphabet = "[]{}:,-?&*!|>'\"%@`#\n\t 0aeE.+~\\";
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = sound;
    for (unsigned k = 1 + random() % 4; k > 0; --k) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text.erase(at, 1 + random() % 20);
          break;
        case 1:
          text.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        case 2:
          text[at] = static_cast<char>(random() % 256);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 40));
      }
      if (text.empty()) text = sound;
    }
    const std::string message = refusal(text);
    EXPECT_EQ(message.find("wrong category"), std::string::npos) << message << "\n" << text;
    refused += message.empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, 3000);
}

}  // namespace
}  // namespace tessera
