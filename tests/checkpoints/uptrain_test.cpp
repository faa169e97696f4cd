// Uptraining: where every parameter of the block model comes from, what the made ones compute, and
// what is refused.
#include "train/uptrain.h"

#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "checkpoints/exchange.h"
#include "checkpoints/hugging_face.h"
#include "checkpoints/layout.h"
#include "core/float_formats.h"
#include "model/stage.h"
#include "tests/checkpoints/exchange_support.h"
#include "tests/support/small_models.h"

namespace tessera::checkpoints::testing {
namespace {

using Kind = CheckpointReader::Kind;
using model::UptrainMethod;

ModelConfig vanilla_of(std::int64_t layers) {
  ModelConfig model = small(ModelKind::vanilla);
  model.layers = layers;
  return model;
}

ModelConfig block_of(std::int64_t block_layers, std::int64_t token_layers) {
  ModelConfig model = small_projecting();
  model.block_layers = block_layers;
  model.token_layers = token_layers;
  return model;
}

std::vector<float> all_of(const CheckpointReader& reader, const TensorInfo& tensor, Kind kind) {
  std::vector<float> values(static_cast<std::size_t>(element_count(tensor, "test")));
  reader.read(kind, tensor.name, 0, static_cast<std::int64_t>(values.size()), values.data());
  return values;
}

class Uptrain : public ::testing::Test {
 protected:
  // A run of a vanilla model with random parameters.
  std::string vanilla_run(const ModelConfig& model) {
    const std::string run = folder_ / "vanilla";
    checkpoint_of(run + "/checkpoints", model, sample_values(tensors_of(model), 11),
                  R"({"type": "bytes"})");
    return run;
  }
  // The checkpoint of the block model that begins as what is at `path`.
  std::string uptrain(const std::string& path, const ModelConfig& block, UptrainMethod method) {
    std::vector<std::string> refused;
    const ModelSource source(path, refused);
    EXPECT_TRUE(refused.empty());
    const Config config = config_of(block);
    train::require_uptrainable(source, config, method);
    return train::write_uptrained(posix(), source, config, method,
                                  folder_ / ("block" + std::to_string(++runs_)));
  }
  const TemporaryFolder folder_;
  int runs_ = 0;
};

struct Case {
  UptrainMethod method;
  std::int64_t block_layers, token_layers;
  std::vector<int> upper, lower;  // the vanilla layer that each begins as
};

TEST_F(Uptrain, EveryParameterComesFromWhereItShould) {
  const ModelConfig vanilla = vanilla_of(4);
  const std::string run = vanilla_run(vanilla);
  const CheckpointReader source(run + "/checkpoints/step-00000042");
  std::map<std::string, std::vector<float>> theirs;
  for (const TensorInfo& tensor : tensors_of(vanilla))
    theirs[tensor.name] = all_of(source, tensor, Kind::param);
  for (const Case& c : {Case{UptrainMethod::partition, 3, 1, {0, 1, 2}, {3}},
                        Case{UptrainMethod::skip, 2, 2, {0, 2}, {0, 2}},
                        Case{UptrainMethod::duplicate, 4, 4, {0, 1, 2, 3}, {0, 1, 2, 3}}}) {
    SCOPED_TRACE(model::name_of(c.method));
    const ModelConfig block = block_of(c.block_layers, c.token_layers);
    const CheckpointReader made(uptrain(run, block, c.method));
    std::map<std::string, std::string> from = {
        {"embedder.embeddings.weight", "gpt_neox.embed_in.weight"},
        {"token_decoder.gpt_neox.embed_in.weight", "gpt_neox.embed_in.weight"},
        {"token_decoder.gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.weight"},
        {"token_decoder.gpt_neox.final_layer_norm.bias", "gpt_neox.final_layer_norm.bias"},
        {"token_decoder.embed_out.weight", "embed_out.weight"}};
    for (const auto& [decoder, layers] :
         {std::pair{"block_decoder", c.upper}, std::pair{"token_decoder", c.lower}})
      for (std::size_t i = 0; i < layers.size(); ++i)
        for (const char* part :
             {"input_layernorm", "post_attention_layernorm", "attention.query_key_value",
              "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"})
          for (const char* kind : {".weight", ".bias"}) {
            const auto name = [&](std::size_t layer) {
              return "gpt_neox.layers." + std::to_string(layer) + "." + part + kind;
            };
            from[std::string(decoder) + "." + name(i)] = name(static_cast<std::size_t>(layers[i]));
          }
    std::map<std::string, float> constant = {
        {"embedder.projection_layer.bias", 0.0f},
        {"token_decoder.expansion_layer.bias", 0.0f},
        {"block_decoder.gpt_neox.final_layer_norm.weight", 1.0f},
        {"block_decoder.gpt_neox.final_layer_norm.bias", 0.0f}};
    std::size_t made_ones = 0;
    for (const TensorInfo& tensor : tensors_of(block)) {
      const std::vector<float> values = all_of(made, tensor, Kind::param);
      for (const Kind moment : {Kind::m, Kind::v})
        EXPECT_EQ(all_of(made, tensor, moment), std::vector<float>(values.size(), 0.0f));
      if (from.contains(tensor.name))
        EXPECT_EQ(values, theirs.at(from.at(tensor.name))) << tensor.name;
      else if (constant.contains(tensor.name))
        EXPECT_EQ(values, std::vector<float>(values.size(), constant.at(tensor.name)))
            << tensor.name;
      else
        ++made_ones;
    }
    EXPECT_EQ(made_ones, 2u);  // projection and expansion: below
    EXPECT_EQ(made.state().step, 0);
    EXPECT_EQ(made.tokenizer_json(), R"({"type": "bytes"})");
  }
}

// A stage of one piece with the checkpoint's parameters.
template <typename T>
class OnePiece {
 public:
  OnePiece(const ModelConfig& config, std::int64_t piece, const CheckpointReader& reader)
      : stage(config, {piece, piece + 1}, 1, 1, {}, {}) {
    MemoryPlan plan;
    stage.plan(plan);
    arena_ = std::make_unique<Arena>(plan);
    parameters_.resize(static_cast<std::size_t>(stage.table().flat_size()));
    for (const model::Parameter& p : stage.table().parameters()) {
      const auto values = all_of(reader, {p.name, p.shape}, Kind::param);
      std::copy(values.begin(), values.end(), parameters_.begin() + p.offset);
    }
    stage.bind(*arena_, parameters_.data(), nullptr);
  }
  // The boundary behind the piece.
  const T* forward(const std::vector<std::int32_t>& ids) {
    double sum = 0;
    stage.forward(0, {1, ids.data(), ids.data()}, model::HeadMode::loss, nullptr, &sum);
    return stage.output(0);
  }
  model::Stage<T> stage;

 private:
  std::unique_ptr<Arena> arena_;
  std::vector<T> parameters_;
};

TEST_F(Uptrain, BlockEmbeddingsAreMeansOfTheirTokens) {
  const std::string run = vanilla_run(vanilla_of(3));
  for (const std::int64_t length : {1, 3, 4}) {
    ModelConfig block = block_of(2, 1);
    block.block_length = length;
    const CheckpointReader made(uptrain(run, block, UptrainMethod::partition));
    const auto table = all_of(made, {"embedder.embeddings.weight", {31, 24}}, Kind::param);
    const auto ids = tessera::testing::random_tokens(block.context, block.vocab, 3);
    OnePiece<double> embedder(block, 0, made);
    const double* found = embedder.forward(ids);
    // 1/3 is rounded to float32 as all parameters are.
    const double tolerance = length == 3 ? 1e-7 : 1e-15;
    for (std::int64_t i = 0; i < block.context / length; ++i)
      for (std::int64_t c = 0; c < block.width; ++c) {
        double mean = 0;
        for (std::int64_t k = 0; k < length; ++k)
          mean +=
              double(table[static_cast<std::size_t>(ids[std::size_t(i * length + k)] * 24 + c)]) /
              double(length);
        ASSERT_NEAR(found[i * block.width + c], mean, tolerance) << i << " " << c;
      }
  }
}

template <typename T>
void check_prefix(const ModelConfig& block, const CheckpointReader& made) {
  OnePiece<T> expansion(block, block.block_layers + 2, made);
  T* const contexts = expansion.stage.input(0);
  const CounterRandom random(5, 6);
  const std::int64_t blocks = block.context / block.block_length;
  for (std::int64_t i = 0; i < blocks * block.width; ++i)
    contexts[i] = static_cast<T>(random.normal(static_cast<std::uint64_t>(i)));
  const T* windows =
      expansion.forward(tessera::testing::random_tokens(block.context, block.vocab, 3));
  const std::int64_t window = (block.prefix + block.block_length - 1) * block.width;
  for (std::int64_t i = 0; i + 1 < blocks; ++i)
    for (std::int64_t p = 0; p < block.prefix; ++p)
      for (std::int64_t c = 0; c < block.width; ++c)
        ASSERT_EQ(windows[i * window + p * block.width + c], contexts[i * block.width + c])
            << i << " " << p << " " << c;
}

// Conformance check 7 of the specification: P equal prefix rows, c exactly.
TEST_F(Uptrain, PrefixRowsAreTheContextExactly) {
  const std::string run = vanilla_run(vanilla_of(3));
  for (const std::int64_t prefix : {1, 2, 3}) {
    ModelConfig block = block_of(2, 1);
    block.prefix = prefix;
    const CheckpointReader made(uptrain(run, block, UptrainMethod::partition));
    check_prefix<float>(block, made);
    check_prefix<double>(block, made);
  }
}

TEST_F(Uptrain, TakesRunsCheckpointsAndExportsAlike) {
  const std::string run = vanilla_run(vanilla_of(4));
  const std::string checkpoint = run + "/checkpoints/step-00000042";
  const ModelConfig block = block_of(2, 2);
  const auto values = [&](const std::string& path) {
    const CheckpointReader made(uptrain(path, block, UptrainMethod::partition));
    EXPECT_EQ(made.tokenizer_json(), R"({"type": "bytes"})");
    std::vector<float> all;
    for (const TensorInfo& tensor : tensors_of(block)) {
      const auto one = all_of(made, tensor, Kind::param);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  };
  const auto expected = values(run);
  const Config vanilla = config_of(vanilla_of(4));
  export_model(posix(), CheckpointReader(checkpoint), vanilla, folder_ / "f32", {});
  export_model(posix(), CheckpointReader(checkpoint), vanilla, folder_ / "bf16",
               {.type = TensorType::bf16});
  EXPECT_EQ(values(checkpoint + "/"), expected);
  export_model(posix(), CheckpointReader(checkpoint), vanilla, folder_ / "shards",
               {.shard_bytes = 4000});
  EXPECT_TRUE(posix().exists((folder_ / "shards/") + kShardIndexFile));
  EXPECT_EQ(values(folder_ / "f32"), expected);
  EXPECT_EQ(values(folder_ / "shards"), expected);
  const auto narrow = values(folder_ / "bf16");
  std::int64_t rounded = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (narrow[i] == expected[i]) continue;
    ++rounded;
    ASSERT_EQ(narrow[i], bf16_to_float(float_to_bf16(expected[i])));
  }
  EXPECT_GT(rounded, 1000);
}

TEST_F(Uptrain, WhatDoesNotFitIsRefusedByName) {
  const std::string run = vanilla_run(vanilla_of(4));
  const auto refused = [&](const ModelConfig& block, UptrainMethod method,
                           const std::string& expected) {
    const std::string message = message_of(Category::config, [&] { uptrain(run, block, method); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  };
  const auto changed = [&](auto ModelConfig::*member, auto value, const std::string& expected) {
    ModelConfig block = block_of(2, 2);
    block.*member = value;
    refused(block, UptrainMethod::partition, expected);
  };
  changed(&ModelConfig::embedder, Embedder::concat, "model.embedder is concat");
  changed(&ModelConfig::width, 48, "model.width: the source has 24, the configuration 48");
  changed(&ModelConfig::heads, 6, "model.heads: the source has 3, the configuration 6");
  changed(&ModelConfig::vocab, 32, "model.vocab: the source has 31, the configuration 32");
  changed(&ModelConfig::rotary_pct, 0.25, "model.rotary_pct: the source has 0.5");
  changed(&ModelConfig::rotary_base, 10000.0, "model.rotary_base: the source has 10000.1");
  changed(&ModelConfig::eps, 1e-5, "model.eps: the source has 1.1e-5");
  changed(&ModelConfig::ffn_mult, 2, "model.ffn_mult: the source has 4");
  changed(&ModelConfig::kind, ModelKind::vanilla, "model.kind is vanilla");
  refused(block_of(2, 1), UptrainMethod::partition,
          "model.block_layers 2 and model.token_layers 1, but partition divides the source's 4 "
          "layers between them: their sum must be 4");
  refused(block_of(3, 2), UptrainMethod::skip, "each must be 2");
  refused(block_of(4, 2), UptrainMethod::duplicate, "each must be 4");
  // All at once.
  ModelConfig block = block_of(1, 1);
  block.embedder = Embedder::concat;
  block.vocab = 30;
  const std::string message =
      message_of(Category::config, [&] { uptrain(run, block, UptrainMethod::partition); });
  for (const char* part : {"model.embedder", "model.vocab", "model.block_layers"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  // A context of another length is no obstacle.
  block = block_of(2, 2);
  block.context = 72;
  EXPECT_NO_THROW(uptrain(run, block, UptrainMethod::partition));
}

TEST_F(Uptrain, SkipNeedsAnEvenNumberOfLayers) {
  const std::string run = vanilla_run(vanilla_of(5));
  const std::string message =
      message_of(Category::config, [&] { uptrain(run, block_of(2, 2), UptrainMethod::skip); });
  EXPECT_NE(message.find("an even number of layers, the source has 5"), std::string::npos)
      << message;
}

TEST_F(Uptrain, SourcesThatAreNoVanillaModelAreRefused) {
  const ModelConfig block = block_of(1, 1);
  checkpoint_of(folder_ / "b/checkpoints", block, sample_values(tensors_of(block), 3), "");
  const auto refused = [&](const std::string& path, Category category,
                           const std::string& expected) {
    const std::string message =
        message_of(category, [&] { uptrain(path, block, UptrainMethod::partition); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  };
  refused(folder_ / "b", Category::config, "the source is a block model already");
  refused(folder_ / "absent", Category::config, "does not exist");
  refused(folder_.path(), Category::config, "is no run folder");
  // Safetensors alone do not say how many heads there are.
  const std::string run = vanilla_run(vanilla_of(2));
  const CheckpointReader reader(run + "/checkpoints/step-00000042");
  export_model(posix(), reader, config_of(vanilla_of(2)), folder_ / "out", {});
  for (const char* name : {"/tessera.json", "/config.json"})
    posix().remove_all((folder_ / "out") + name);
  refused(folder_ / "out", Category::config, "which say how many heads the model has");
  // A description of other tensors than there are.
  write_bytes(folder_ / "out/config.json",
              hugging_face_config(vanilla_of(3), TensorType::f32, 0).dump());
  refused(folder_ / "out", Category::config, "their sum must be 3");
  std::vector<std::string> newer;
  const ModelSource source(folder_ / "out", newer);
  const std::string message = message_of(Category::data, [&] {
    train::require_uptrainable(source, config_of(block_of(2, 1)), UptrainMethod::partition);
  });
  EXPECT_NE(message.find("missing: gpt_neox.layers.2."), std::string::npos) << message;
}

TEST(UptrainConfigs, OfThePaperFitTheirVanillaModels) {
  const auto paper = [](const std::string& name) {
    return load_config(std::string(TESSERA_SOURCE_DIR) + "/configs/paper/" + name + ".yaml").model;
  };
  for (const auto& [vanilla, block] :
       {std::pair{"vanilla_160m", "block_uptrain_170m"}, {"vanilla_410m", "block_uptrain_420m"}}) {
    EXPECT_TRUE(uptrain_problems(paper(vanilla), paper(block), UptrainMethod::partition).empty());
    EXPECT_EQ(uptrain_problems(paper(vanilla), paper(block), UptrainMethod::duplicate).size(), 1u);
  }
}

}  // namespace
}  // namespace tessera::checkpoints::testing
