// Padded blocks: a whole block model in plain loops of doubles, with pads masked as keys of the
// token decoder, against the pieces; gradients; and what a pad may and may not change.
#include <algorithm>
#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "core/targets.h"
#include "support/small_models.h"

namespace tessera {
namespace {

using testing::OwnedStage;
using testing::projecting;
using testing::random_tokens;
using testing::small_block;
using Rows = std::vector<std::vector<double>>;

// The specification's forward of one sample, a row of numbers a position.
class Plain {
 public:
  explicit Plain(const OwnedStage<double>& model)
      : c_(model.stage.config()), table_(model.stage.table()), all_(model.parameters) {}

  // Logits of every position from block 1 on.
  Rows logits(const std::vector<std::int32_t>& ids, const std::vector<std::int32_t>& targets) {
    const auto length = static_cast<std::size_t>(c_.block_length);
    const std::size_t blocks = ids.size() / length;
    Rows units(blocks);
    for (std::size_t b = 0; b < blocks; ++b) units[b] = block_embedding(&ids[b * length]);
    for (std::int64_t i = 0; i < c_.block_layers; ++i)
      units = layer("block_decoder.gpt_neox", i, units, std::vector<bool>(blocks, true));
    units = norm("block_decoder.gpt_neox.final_layer_norm", units);

    Rows result;
    const auto prefix = static_cast<std::size_t>(c_.prefix);
    const auto width = static_cast<std::size_t>(c_.width);
    for (std::size_t b = 1; b < blocks; ++b) {
      const auto expanded = linear("token_decoder.expansion_layer", {units[b - 1]})[0];
      Rows rows;
      std::vector<bool> keys(prefix, true);
      for (std::size_t p = 0; p < prefix; ++p)
        rows.emplace_back(expanded.begin() + static_cast<std::ptrdiff_t>(p * width),
                          expanded.begin() + static_cast<std::ptrdiff_t>((p + 1) * width));
      for (std::size_t j = 0; j + 1 < length; ++j) {
        rows.push_back(
            embed("token_decoder.gpt_neox.embed_in.weight", ids[b * length + j], c_.width));
        keys.push_back(targets[b * length + j] != kPadding);
      }
      for (std::int64_t i = 0; i < c_.token_layers; ++i)
        rows = layer("token_decoder.gpt_neox", i, rows, keys);
      rows.erase(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(prefix) - 1);
      rows = norm("token_decoder.gpt_neox.final_layer_norm", rows);
      for (auto& row : linear("token_decoder.embed_out", rows)) result.push_back(row);
    }
    return result;
  }

 private:
  const double* at(const std::string& name) const {
    return all_.data() + table_[table_.find(name)].offset;
  }
  // Embeddings side by side, or their convolution.
  std::vector<double> block_embedding(const std::int32_t* ids) const {
    const bool projects = c_.embedder == Embedder::projection;
    const auto length = static_cast<std::size_t>(c_.block_length);
    Rows rows;
    for (std::size_t k = 0; k < length; ++k)
      rows.push_back(embed("embedder.embeddings.weight", ids[k],
                           projects ? c_.width : c_.width / c_.block_length));
    std::vector<double> unit;
    if (!projects) {
      for (const auto& row : rows) unit.insert(unit.end(), row.begin(), row.end());
      return unit;
    }
    const double* weight = at("embedder.projection_layer.weight");  // [D, D, L_B]
    const std::size_t width = rows[0].size();
    for (std::size_t o = 0; o < width; ++o) {
      unit.push_back(at("embedder.projection_layer.bias")[o]);
      for (std::size_t c = 0; c < width; ++c)
        for (std::size_t k = 0; k < length; ++k)
          unit[o] += weight[(o * width + c) * length + k] * rows[k][c];
    }
    return unit;
  }
  std::vector<double> embed(const std::string& name, std::int32_t id, std::int64_t width) const {
    const double* row = at(name) + id * width;
    return {row, row + width};
  }
  Rows linear(const std::string& name, const Rows& x) const {
    const bool biased = table_.find(name + ".bias") >= 0;
    const double* weight = at(name + ".weight");
    const std::size_t in = x[0].size();
    const auto out = static_cast<std::size_t>(table_[table_.find(name + ".weight")].shape[0]);
    Rows y(x.size(), std::vector<double>(out));
    for (std::size_t r = 0; r < x.size(); ++r)
      for (std::size_t o = 0; o < out; ++o) {
        y[r][o] = biased ? at(name + ".bias")[o] : 0;
        for (std::size_t i = 0; i < in; ++i) y[r][o] += weight[o * in + i] * x[r][i];
      }
    return y;
  }
  Rows norm(const std::string& name, Rows x) const {
    for (auto& row : x) {
      double mean = 0, square = 0;
      for (const double v : row) mean += v / static_cast<double>(row.size());
      for (const double v : row)
        square += (v - mean) * (v - mean) / static_cast<double>(row.size());
      for (std::size_t i = 0; i < row.size(); ++i)
        row[i] = (row[i] - mean) / std::sqrt(square + c_.eps) * at(name + ".weight")[i] +
                 at(name + ".bias")[i];
    }
    return x;
  }
  void rotate(double* head, std::size_t position) const {
    const auto rotary = static_cast<std::size_t>(model::rotary_width(c_)), half = rotary / 2;
    for (std::size_t j = 0; j < half; ++j) {
      // Angles are those of the float tables.
      const auto inverse = static_cast<float>(
          std::pow(c_.rotary_base, -2 * static_cast<double>(j) / static_cast<double>(rotary)));
      const auto angle = static_cast<double>(static_cast<float>(position) * inverse);
      const double a = head[j], b = head[j + half];
      head[j] = a * std::cos(angle) - b * std::sin(angle);
      head[j + half] = b * std::cos(angle) + a * std::sin(angle);
    }
  }
  Rows attention(Rows qkv, const std::vector<bool>& keys) const {
    const auto d = static_cast<std::size_t>(c_.width / c_.heads);
    Rows out(qkv.size(), std::vector<double>(static_cast<std::size_t>(c_.width)));
    for (std::size_t h = 0; h < static_cast<std::size_t>(c_.heads); ++h) {
      for (std::size_t r = 0; r < qkv.size(); ++r)
        rotate(&qkv[r][3 * h * d], r), rotate(&qkv[r][(3 * h + 1) * d], r);
      for (std::size_t i = 0; i < qkv.size(); ++i) {
        std::vector<double> p(i + 1);
        double sum = 0;
        for (std::size_t j = 0; j <= i; ++j) {
          if (!keys[j]) continue;
          double dot = 0;
          for (std::size_t e = 0; e < d; ++e)
            dot += qkv[i][3 * h * d + e] * qkv[j][(3 * h + 1) * d + e];
          sum += p[j] = std::exp(dot / std::sqrt(static_cast<double>(d)));
        }
        for (std::size_t j = 0; j <= i; ++j)
          for (std::size_t e = 0; e < d; ++e)
            out[i][h * d + e] += p[j] / sum * qkv[j][(3 * h + 2) * d + e];
      }
    }
    return out;
  }
  Rows layer(const std::string& prefix, std::int64_t index, const Rows& x,
             const std::vector<bool>& keys) const {
    const std::string base = prefix + ".layers." + std::to_string(index) + ".";
    const Rows qkv = linear(base + "attention.query_key_value", norm(base + "input_layernorm", x));
    const Rows dense = linear(base + "attention.dense", attention(qkv, keys));
    Rows up = linear(base + "mlp.dense_h_to_4h", norm(base + "post_attention_layernorm", x));
    for (auto& row : up)
      for (double& v : row) v *= 0.5 * (1 + std::erf(v / std::sqrt(2.0)));
    Rows y = linear(base + "mlp.dense_4h_to_h", up);
    for (std::size_t r = 0; r < x.size(); ++r)
      for (std::size_t i = 0; i < x[r].size(); ++i) y[r][i] += x[r][i] + dense[r][i];
    return y;
  }

  ModelConfig c_;
  const model::ParameterTable& table_;
  const std::vector<double>& all_;
};

struct Sample {
  std::vector<std::int32_t> ids, targets;

  // Block b of `config` has pads first and last, as a packed stream may: [P x left, ..., P x
  // right].
  Sample(const ModelConfig& config, std::uint64_t seed)
      : ids(random_tokens(config.context, config.vocab, seed)) {
    targets = ids;
    const std::int64_t length = config.block_length;
    for (std::int64_t b = 0; b < config.context / length; ++b) {
      const std::int64_t left = (b + 1) % length, right = b % 2 == 0 ? 0 : (length - 1 - left) / 2;
      for (std::int64_t j = 0; j < length; ++j)
        if (j < left || j >= length - right) pad(b * length + j);
    }
  }
  void pad(std::int64_t at) {
    ids[static_cast<std::size_t>(at)] = 0;
    targets[static_cast<std::size_t>(at)] = kPadding;
  }
  model::MicroBatch batch() const { return {1, ids.data(), targets.data()}; }
};

class PaddedModel : public ::testing::TestWithParam<ModelConfig> {
 protected:
  const ModelConfig config_ = GetParam();
  const model::ModelOptions options_ = [] {
    model::ModelOptions options;
    options.padding = true;
    return options;
  }();
  OwnedStage<double> model_{config_, 1, options_};
};

TEST_P(PaddedModel, EqualsThePlainComputation) {
  const Sample sample(config_, 5);
  Plain plain(model_);
  const Rows expected = plain.logits(sample.ids, sample.targets);
  const std::vector<double> logits = model_.stage.logits(sample.batch());
  const auto vocab = static_cast<std::size_t>(config_.vocab);
  ASSERT_EQ(logits.size(), expected.size() * vocab);
  double loss = 0;
  for (std::size_t r = 0; r < expected.size(); ++r) {
    double sum = 0;
    for (std::size_t v = 0; v < vocab; ++v) {
      ASSERT_NEAR(logits[r * vocab + v], expected[r][v], 1e-6) << r << " " << v;
      sum += std::exp(expected[r][v]);
    }
    const std::int32_t target = sample.targets[r + static_cast<std::size_t>(config_.block_length)];
    if (target >= 0) loss += std::log(sum) - expected[r][static_cast<std::size_t>(target)];
  }
  double found = 0;
  model_.stage.forward(0, sample.batch(), model::HeadMode::loss, nullptr, &found);
  EXPECT_NEAR(found, loss, 1e-6 * loss);
}

TEST_P(PaddedModel, GradientsEqualFiniteDifferences) {
  const Sample sample(config_, 6);
  const auto loss = [&](double* weight) {
    double sum = 0;
    model_.stage.forward(0, sample.batch(), weight ? model::HeadMode::train : model::HeadMode::loss,
                         weight, &sum);
    return sum;
  };
  double one = 1;
  loss(&one);
  model_.stage.backward(0);
  const CounterRandom random(3, 4);
  for (const model::Parameter& p : model_.stage.table().parameters()) {
    double expected = 0;
    const auto shifted = [&](double by) {
      for (std::int64_t i = p.offset; i < p.offset + p.count; ++i)
        model_.parameters[static_cast<std::size_t>(i)] +=
            by * random.normal(static_cast<std::uint64_t>(i));
      return loss(nullptr);
    };
    for (std::int64_t i = p.offset; i < p.offset + p.count; ++i)
      expected += random.normal(static_cast<std::uint64_t>(i)) *
                  model_.gradients[static_cast<std::size_t>(i)];
    const double h = 1e-5, above = shifted(h), below = shifted(-2 * h);
    shifted(h);
    EXPECT_NEAR((above - below) / (2 * h), expected, 2e-5 * std::max(1.0, std::abs(expected)))
        << p.name;
  }
}

// A pad's id reaches the row that it asks for itself and, through the block embedding, later
// blocks; no other row of its block.
TEST_P(PaddedModel, PadsAreNoKeysOfTheirBlockAndPartOfItsEmbedding) {
  Sample sample(config_, 7);
  const std::int64_t length = config_.block_length, blocks = config_.context / length;
  if (length == 1) GTEST_SKIP() << "blocks of one token have no pads";
  int padded = 0;
  for (std::int64_t b = 1; b < blocks; ++b) {
    const auto first = static_cast<std::size_t>(b * length);
    if (sample.targets[first] != kPadding) continue;
    ++padded;
    const auto before = model_.stage.logits(sample.batch());
    sample.ids[first] = 3;
    const auto after = model_.stage.logits(sample.batch());
    for (std::int64_t row = 0; row < (blocks - 1) * length; ++row) {
      const auto from = before.begin() + row * config_.vocab;
      const bool same = std::equal(from, from + config_.vocab, after.begin() + row * config_.vocab);
      const std::int64_t block = row / length + 1;
      EXPECT_EQ(same, block < b || (block == b && row % length != 1)) << b << " " << row;
    }
  }
  EXPECT_GT(padded, 0);
}

// Without pads the mask changes nothing beyond rounding, and -1 is no padding.
TEST_P(PaddedModel, TokensWithoutTargetStayKeys) {
  const auto ids = random_tokens(config_.context, config_.vocab, 8);
  OwnedStage<double> other(config_, 1);
  std::vector<std::int32_t> targets = ids;
  std::fill(targets.begin() + config_.block_length, targets.begin() + 2 * config_.block_length,
            kNoTarget);
  const auto masked = model_.stage.logits({1, ids.data(), targets.data()});
  const auto plain = other.stage.logits({1, ids.data(), ids.data()});
  for (std::size_t i = 0; i < plain.size(); ++i) ASSERT_NEAR(masked[i], plain[i], 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Models, PaddedModel,
                         ::testing::Values(small_block(4, 2), small_block(2, 1), small_block(3, 4),
                                           small_block(1, 2), small_block(6, 1),
                                           projecting(small_block(4, 2)),
                                           projecting(small_block(3, 1))),
                         [](const auto& c) { return testing::name_of(c.param); });

}  // namespace
}  // namespace tessera
