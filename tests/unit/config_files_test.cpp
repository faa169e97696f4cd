// configs/ and docs/configuration.md: every file loads, its key facts hold, every key is
// documented.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/unit/config_support.h"

namespace tessera {
namespace {

const std::string kConfigs = std::string(TESSERA_SOURCE_DIR) + "/configs/";

// Trainable parameters, from the formulas of the architecture.
std::int64_t parameters(const ModelConfig& m) {
  const std::int64_t d = m.width, f = m.ffn_mult * m.width;
  const std::int64_t layer = 4 * d * d + 4 * d + 2 * d * f + f + d + 4 * d;
  if (m.kind == ModelKind::vanilla) return 2 * m.vocab * d + m.layers * layer + 2 * d;
  const std::int64_t embedder = m.embedder == Embedder::projection
                                    ? m.vocab * d + m.block_length * d * d + d
                                    : m.vocab * (d / m.block_length);
  return embedder + 2 * m.vocab * d + m.prefix * (d * d + d) +
         (m.block_layers + m.token_layers) * layer + 4 * d;
}

TEST(ConfigFolder, EveryFileLoadsAndReadsBack) {
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kConfigs)) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    SCOPED_TRACE(entry.path().string());
    const Config config = load_config(entry.path().string());
    EXPECT_EQ(resolved_config(from_text(resolved_config(config))), resolved_config(config));
  }
  EXPECT_GE(count, 21);
}

TEST(ConfigFolder, RunNamesDiffer) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kConfigs))
    if (entry.path().extension() == ".yaml")
      names.push_back(load_config(entry.path().string()).run.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

struct Paper {
  const char* name;
  ModelKind kind;
  std::int64_t layers, width, heads;  // block: layers of each decoder
  double lr;
  std::int64_t batch, steps, warmup, checkpoint;
  std::int64_t parameters;
};

TEST(ConfigFolder, PaperModelsAreThePublishedOnes) {
  constexpr ModelKind kVanilla = ModelKind::vanilla, kBlock = ModelKind::block;
  const std::vector<Paper> models = {
      {"vanilla_31m", kVanilla, 6, 256, 8, 1e-3, 256, 572000, 3000, 10000, 30494720},
      {"vanilla_70m", kVanilla, 6, 512, 8, 1e-3, 256, 572000, 3000, 10000, 70426624},
      {"vanilla_160m", kVanilla, 12, 768, 12, 6e-4, 256, 572000, 3000, 10000, 162322944},
      {"vanilla_410m", kVanilla, 24, 1024, 16, 3e-4, 256, 572000, 3000, 10000, 405334016},
      {"block_33m", kBlock, 3, 256, 8, 1e-3, 256, 572000, 3000, 10000, 33846272},
      {"block_77m", kBlock, 3, 512, 8, 1e-3, 256, 572000, 3000, 10000, 77391872},
      {"block_170m", kBlock, 6, 768, 12, 6e-4, 256, 572000, 3000, 10000, 173164032},
      {"block_420m", kBlock, 12, 1024, 16, 3e-4, 256, 572000, 3000, 10000, 420313088},
      {"block_1000m", kBlock, 8, 2048, 16, 3e-4, 512, 286000, 1500, 5000, 1045934080},
      {"block_1400m", kBlock, 12, 2048, 16, 2e-4, 512, 286000, 1500, 5000, 1448800256},
  };
  for (const Paper& p : models) {
    SCOPED_TRACE(p.name);
    const Config c = load_config(kConfigs + "paper/" + p.name + ".yaml");
    EXPECT_EQ(c.model.kind, p.kind);
    EXPECT_EQ(c.model.width, p.width);
    EXPECT_EQ(c.model.heads, p.heads);
    if (p.kind == kVanilla) {
      EXPECT_EQ(c.model.layers, p.layers);
    } else {
      EXPECT_EQ(c.model.block_layers, p.layers);
      EXPECT_EQ(c.model.token_layers, p.layers);
      EXPECT_EQ(c.model.block_length, 4);
      EXPECT_EQ(c.model.prefix, 2);
    }
    EXPECT_EQ(parameters(c.model), p.parameters);
    EXPECT_EQ(c.model.context, 2048);
    EXPECT_EQ(c.model.vocab, 50304);
    EXPECT_EQ(c.model.rotary_pct, 0.25);
    EXPECT_EQ(c.optimizer.lr, p.lr);
    EXPECT_EQ(c.optimizer.warmup, p.warmup);
    EXPECT_EQ(c.optimizer.schedule, LearningRateSchedule::cosine);
    EXPECT_EQ(c.optimizer.min_lr_ratio, 0.1);
    EXPECT_EQ(c.optimizer.betas, (std::array<double, 2>{0.9, 0.95}));
    EXPECT_EQ(c.optimizer.eps, 1e-8);
    EXPECT_EQ(c.optimizer.weight_decay, 0.1);
    EXPECT_EQ(c.optimizer.decay, Decay::all);
    EXPECT_EQ(c.optimizer.clip, 1.0);
    EXPECT_EQ(c.train.global_batch, p.batch);
    EXPECT_EQ(c.train.steps, p.steps);
    EXPECT_EQ(c.train.steps * c.train.global_batch * c.model.context, 299892736000);
    EXPECT_EQ(c.checkpoint.every, p.checkpoint);
  }
}

// A tenth of pretraining's steps from a vanilla model of the same width and as many layers in all.
TEST(ConfigFolder, UptrainingIsThePublishedOne) {
  const std::vector<std::array<std::string, 3>> files = {
      {"block_uptrain_170m", "block_170m", "vanilla_160m"},
      {"block_uptrain_420m", "block_420m", "vanilla_410m"}};
  for (const auto& [name, block, vanilla] : files) {
    SCOPED_TRACE(name);
    const Config c = load_config(kConfigs + "paper/" + name + ".yaml");
    const Config from = load_config(kConfigs + "paper/" + vanilla + ".yaml");
    EXPECT_EQ(c.model.embedder, Embedder::projection);
    EXPECT_EQ(c.model.block_layers + c.model.token_layers, from.model.layers);
    EXPECT_EQ(c.model.heads, from.model.heads);
    EXPECT_EQ(c.optimizer.lr, from.optimizer.lr);
    EXPECT_EQ(c.train.steps, 57200);
    EXPECT_EQ(c.data.padding, Padding::random_pad_first_block);
    for (const ConfigDifference& each :
         config_differences(load_config(kConfigs + "paper/" + block + ".yaml"), c))
      EXPECT_TRUE(each.key == "run.name" || each.key == "model.embedder" ||
                  each.key == "data.padding" || each.key == "train.steps" ||
                  each.key == "checkpoint.every")
          << each.key;
  }
}

TEST(ConfigFolder, BenchFilesAreThePaperModelsAtOneMicroBatchAStep) {
  const std::vector<std::pair<std::string, std::int64_t>> files = {
      {"vanilla_70m", 32}, {"vanilla_160m", 64}, {"vanilla_410m", 32},
      {"block_170m", 32},  {"block_420m", 32},   {"block_1400m", 16}};
  for (const auto& [name, batch] : files) {
    SCOPED_TRACE(name);
    const Config bench = load_config(kConfigs + "bench/" + name + ".yaml");
    const Config paper = load_config(kConfigs + "paper/" + name + ".yaml");
    EXPECT_EQ(bench.train.micro_batch, batch);
    EXPECT_EQ(bench.train.global_batch, batch);
    EXPECT_TRUE(bench.data.train.empty());
    for (const ConfigDifference& each : config_differences(paper, bench))
      EXPECT_FALSE(each.key.starts_with("model.") || each.key.starts_with("optimizer."))
          << each.key;
  }
}

TEST(ConfigFolder, QuickStartModelsDifferInTheModelAlone) {
  const Config block = load_config(kConfigs + "quickstart/block.yaml");
  const Config vanilla = load_config(kConfigs + "quickstart/vanilla.yaml");
  EXPECT_EQ(block.model.kind, ModelKind::block);
  EXPECT_EQ(vanilla.model.kind, ModelKind::vanilla);
  EXPECT_EQ(vanilla.model.layers, block.model.block_layers + block.model.token_layers);
  EXPECT_FALSE(block.data.train.empty());
  for (const ConfigDifference& each : config_differences(block, vanilla))
    EXPECT_TRUE(each.key.starts_with("model.") || each.key == "run.name") << each.key;
}

// docs/configuration.md has one row a key: | `key` | meaning | unit | `default` | values |
TEST(ConfigFolder, EveryKeyIsDocumentedWithItsDefault) {
  std::ifstream in(std::string(TESSERA_SOURCE_DIR) + "/docs/configuration.md");
  std::vector<std::string> keys;
  std::vector<std::pair<std::string, std::string>> rows;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("| `")) continue;
    std::vector<std::string> cells;
    std::istringstream cut(line.substr(1));
    for (std::string cell; std::getline(cut, cell, '|');) {
      const auto first = cell.find_first_not_of(' '), last = cell.find_last_not_of(' ');
      cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
    }
    ASSERT_EQ(cells.size(), 5u) << line;
    for (const std::string& cell : cells) EXPECT_FALSE(cell.empty()) << line;
    keys.push_back(cells[0].substr(1, cells[0].size() - 2));
    rows.emplace_back(keys.back(), cells[3].substr(1, cells[3].size() - 2));
  }
  EXPECT_EQ(keys, config_keys());
  for (const auto& [key, value] : rows)
    EXPECT_TRUE(config_differences(Config{}, from_text("{}", {key + "=" + value})).empty())
        << key << " = " << value;
}

}  // namespace
}  // namespace tessera
