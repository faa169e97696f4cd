// config/: the resolved text and the way back, its hash, differences, the table's completeness.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "tests/unit/config_support.h"

namespace tessera {
namespace {

// A sound config with every field changed at random, through the structs alone.
Config random_config(std::mt19937_64& random) {
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  const auto real = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  const auto text = [&] {
    static const std::vector<std::string> all = {"plain",
                                                 "with space",
                                                 "a: b",
                                                 "#no",
                                                 "[x",
                                                 "{y}",
                                                 "*star",
                                                 "&and",
                                                 "null",
                                                 "~",
                                                 "true",
                                                 "12",
                                                 "quo\"te",
                                                 "back\\slash",
                                                 "caf\xC3\xA9",
                                                 "-dash",
                                                 "'single'",
                                                 "a, b",
                                                 "x #y",
                                                 "..",
                                                 std::string(3000, 'p'),
                                                 std::string(2000, ' ') + "x",
                                                 "%",
                                                 "@",
                                                 "`",
                                                 "? q",
                                                 "!tag",
                                                 "|",
                                                 ">"};
    return all[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(all.size()) - 1))];
  };
  Config c;
  c.run = {"n" + std::to_string(pick(0, 99)), text()};
  c.device = pick(0, 1) ? DeviceChoice::cuda : DeviceChoice::automatic;
  c.precision = static_cast<Precision>(pick(0, 2));
  c.seed = random();
  c.attention = static_cast<AttentionChoice>(pick(0, 2));
  const std::int64_t length = pick(1, 8), head = 8 * length * pick(1, 4);
  c.model = {static_cast<ModelKind>(pick(0, 1)),
             pick(2, 1 << 20),
             0,
             pick(1, 16),
             pick(1, 64),
             pick(1, 64),
             pick(1, 64),
             length,
             pick(1, 8),
             Embedder::concat,
             length * pick(2, 999),
             pick(0, 1) ? 1.0 : 0.25,
             real(1, 1e6),
             real(1e-12, 1e-3),
             pick(1, 8)};
  c.model.width = c.model.heads * head;
  if (c.model.kind == ModelKind::block) c.model.embedder = static_cast<Embedder>(pick(0, 1));
  for (std::int64_t i = pick(0, 3); i > 0; --i)
    c.data.train.push_back({text(), std::exp(real(-300, 300))});
  for (std::int64_t i = pick(0, 3); i > 0; --i) c.data.valid.push_back({text(), real(0.1, 9)});
  if (c.model.kind == ModelKind::block) c.data.padding = static_cast<Padding>(pick(0, 2));
  c.data.on_bad_chunk = static_cast<OnBadChunk>(pick(0, 1));
  c.train = {pick(2, 1 << 20), 0, pick(1, 64), 0, static_cast<Recompute>(pick(0, 2))};
  c.parallel = {pick(1, 64),
                pick(0, 64),
                pick(1, 4),
                PipelineSchedule::interleaved,
                pick(0, 1),
                static_cast<RankOrder>(pick(0, 1)),
                static_cast<GradientType>(pick(0, 1))};
  c.train.global_batch =
      c.train.micro_batch * std::max<std::int64_t>(c.parallel.data, 1) * pick(1, 9);
  c.train.stop_at = pick(0, c.train.steps);
  c.optimizer = {std::exp(real(-300, 5)),
                 pick(0, c.train.steps / 2),
                 static_cast<LearningRateSchedule>(pick(0, 2)),
                 real(0, 1),
                 pick(0, c.train.steps / 3),
                 {real(0, 1), real(0, 1)},
                 real(1e-300, 1),
                 std::numeric_limits<double>::denorm_min(),
                 static_cast<Decay>(pick(0, 1)),
                 real(0, 5)};
  c.checkpoint = {pick(0, 1 << 30), pick(1, 99), pick(0, 1 << 30)};
  c.eval = {pick(0, 1 << 30), pick(0, 1 << 30), {}, "", pick(0, 1 << 30)};
  for (std::int64_t i = pick(0, 3); i > 0; --i) c.eval.tasks.push_back(text());
  c.watchdog = {real(1e-3, 1e9), real(1e-3, 1e9), real(1e-3, 1e9)};
  return c;
}

TEST(Config, ResolvedTextReadsBackToTheSameBits) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 300; ++i) {
    const Config c = random_config(random);
    const auto problems = config_problems(c);
    ASSERT_TRUE(problems.empty()) << problems[0] << "\n" << resolved_config(c);
    const Config back = from_text(resolved_config(c));
    ASSERT_EQ(resolved_config(back), resolved_config(c));
    ASSERT_TRUE(config_differences(c, back).empty());
    ASSERT_EQ(config_hash(back), config_hash(c));
    // Straight from the structs, for each kind of value.
    ASSERT_EQ(back.seed, c.seed);
    ASSERT_EQ(back.run.root, c.run.root);
    ASSERT_EQ(back.model.rotary_base, c.model.rotary_base);
    ASSERT_EQ(back.optimizer.lr, c.optimizer.lr);
    ASSERT_EQ(back.optimizer.betas, c.optimizer.betas);
    ASSERT_EQ(back.optimizer.weight_decay, c.optimizer.weight_decay);
    ASSERT_EQ(back.eval.tasks, c.eval.tasks);
    ASSERT_EQ(back.precision, c.precision);
    ASSERT_EQ(back.data.train.size(), c.data.train.size());
    for (std::size_t k = 0; k < c.data.train.size(); ++k) {
      ASSERT_EQ(back.data.train[k].path, c.data.train[k].path);
      ASSERT_EQ(back.data.train[k].weight, c.data.train[k].weight);
    }
  }
}

// A structure binding names every member: a new one breaks the build here until it has its line in
// the table (and in this count).
TEST(Config, EveryMemberHasAKey) {
  [[maybe_unused]] auto [run, device, precision, seed, attention, model, data, train, optimizer,
                         parallel, checkpoint, eval, watchdog] = Config{};
  [[maybe_unused]] auto& [name, root] = run;
  [[maybe_unused]] auto& [kind, vocab, width, heads, layers, block_layers, token_layers,
                          block_length, prefix, embedder, context, rotary_pct, rotary_base, eps,
                          ffn_mult] = model;
  [[maybe_unused]] auto& [train_data, valid, padding, on_bad_chunk] = data;
  [[maybe_unused]] auto& [steps, global_batch, micro_batch, stop_at, recompute] = train;
  [[maybe_unused]] auto& [lr, warmup, schedule, min_lr_ratio, decay_steps, betas, adam_eps,
                          weight_decay, decay, clip] = optimizer;
  [[maybe_unused]] auto& [pipeline, replicas, virtual_stages, stages, zero, order, gradient_dtype,
                          bucket_mib] = parallel;
  [[maybe_unused]] auto& [every, keep, keep_every] = checkpoint;
  [[maybe_unused]] auto& [eval_every, batches, tasks, task_data, task_items] = eval;
  [[maybe_unused]] auto& [step_seconds, checkpoint_seconds, start_seconds, compare_every] =
      watchdog;
  EXPECT_EQ(config_keys().size(), 4u + 2 + 15 + 4 + 5 + 10 + 8 + 3 + 5 + 4);
}

TEST(Config, EveryKeyChangesTheHashAndIsTheOnlyDifference) {
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"run.name", "other"},
      {"run.root", "else"},
      {"device", "cuda"},
      {"precision", "fp32"},
      {"seed", "2"},
      {"attention", "native"},
      {"model.kind", "vanilla"},
      {"model.vocab", "50305"},
      {"model.width", "1536"},
      {"model.heads", "6"},
      {"model.layers", "13"},
      {"model.block_layers", "7"},
      {"model.token_layers", "7"},
      {"model.block_length", "8"},
      {"model.prefix", "3"},
      {"model.embedder", "projection"},
      {"model.context", "1024"},
      {"model.rotary_pct", "0.5"},
      {"model.rotary_base", "10000.000000000002"},
      {"model.eps", "1e-6"},
      {"model.ffn_mult", "3"},
      {"data.train", "a"},
      {"data.valid", "[{path: b, weight: 1.5}]"},
      {"data.padding", "random_pad_first_block"},
      {"data.on_bad_chunk", "skip"},
      {"train.steps", "2000"},
      {"train.global_batch", "512"},
      {"train.micro_batch", "4"},
      {"train.stop_at", "5"},
      {"train.recompute", "layer"},
      {"optimizer.lr", "1e-3"},
      {"optimizer.warmup", "10"},
      {"optimizer.schedule", "constant"},
      {"optimizer.min_lr_ratio", "0"},
      {"optimizer.decay_steps", "1"},
      {"optimizer.betas", "[0.9, 0.951]"},
      {"optimizer.eps", "1e-9"},
      {"optimizer.weight_decay", "0"},
      {"optimizer.decay", "matrices"},
      {"optimizer.clip", "0"},
      {"parallel.pipeline", "2"},
      {"parallel.data", "2"},
      {"parallel.virtual_stages", "2"},
      {"parallel.schedule", "gpipe"},
      {"parallel.zero", "0"},
      {"parallel.order", "data_first"},
      {"parallel.gradient_dtype", "bf16"},
      {"parallel.bucket_mib", "64"},
      {"checkpoint.every", "2"},
      {"checkpoint.keep", "3"},
      {"checkpoint.keep_every", "4"},
      {"eval.every", "2"},
      {"eval.batches", "2"},
      {"eval.tasks", "[piqa]"},
      {"eval.task_data", "tasks"},
      {"eval.task_items", "7"},
      {"watchdog.step_seconds", "1"},
      {"watchdog.checkpoint_seconds", "1"},
      {"watchdog.start_seconds", "1"},
      {"watchdog.compare_every", "7"}};
  std::set<std::string> hashes, missing;
  for (const std::string& key : config_keys()) missing.insert(key);
  for (const auto& [key, value] : changes) {
    // Alone, save for what it needs beside it.
    std::vector<std::string> beside;
    if (key == "parallel.virtual_stages") beside.push_back("parallel.schedule=interleaved");
    const Config before = from_text("{}", beside);
    beside.push_back(key + "=" + value);
    const Config after = from_text("{}", beside);
    const auto differences = config_differences(before, after);
    ASSERT_EQ(differences.size(), 1u) << key;
    EXPECT_EQ(differences[0].key, key);
    EXPECT_NE(differences[0].before, differences[0].after);
    EXPECT_NE(config_hash(before), config_hash(after)) << key;
    EXPECT_TRUE(hashes.insert(config_hash(after)).second) << key;
    missing.erase(key);
  }
  EXPECT_TRUE(missing.empty()) << *missing.begin();
}

// Checkpoints hold the resolved text of their time: a key that is younger has its default.
TEST(Config, ResolvedTextsFromBeforeAKeyMeanWhatTheyMeant) {
  const Config c = from_text("{}", {"model.block_length=2", "model.width=384", "model.heads=6"});
  std::string text = resolved_config(c);
  const std::string line = "  embedder: concat\n";
  ASSERT_NE(text.find(line), std::string::npos);
  text.erase(text.find(line), line.size());
  EXPECT_TRUE(config_differences(c, from_text(text)).empty());
}

TEST(Config, ResolvedTextIsReadable) {
  const std::string text = resolved_config(Config{});
  EXPECT_EQ(text.find("run:\n  name: default\n  root: runs\ndevice: auto\n"), 0u) << text;
  EXPECT_NE(text.find("  lr: 6e-4\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  betas: [0.9, 0.95]\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  train: []\n"), std::string::npos) << text;
  Config c;
  c.data.train = {{"a b", 2}, {"c", 1e20}};
  EXPECT_EQ(config_differences(Config{}, c).at(0).after,
            "[{path: \"a b\", weight: 2}, {path: c, weight: 1e20}]");
}

}  // namespace
}  // namespace tessera
