// Both model families against the golden files: float32 here, float64 there.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>

#include "golden/golden_case.h"
#include "infer/generator.h"
#include "kernels/squared_norms.h"
#include "optim/adamw.h"

namespace tessera::golden {
namespace {

class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  Golden() : case_(GetParam()), model_(case_) {}

  // A parameter's slice of a flat array.
  static std::vector<float> slice(const std::vector<float>& flat, const model::Parameter& p) {
    return {flat.begin() + p.offset, flat.begin() + p.offset + p.count};
  }

  double gradient_norm() const {
    const kernels::TensorSlice all{0, static_cast<std::int64_t>(model_.gradients.size()), 0, 0};
    double sum = 0;
    kernels::squared_norms<float>({}, {&all, 1, model_.gradients.data(), nullptr, &sum, 1});
    return std::sqrt(sum);
  }

  // AdamW as the files were made: clip 1.0, decay on matrices.
  double adamw_step(optim::AdamW<float>& optimizer, std::int64_t step) {
    const double loss = model_.run();
    const double scale = std::min(1.0, 1.0 / (gradient_norm() + 1e-6));
    optimizer.update(model_.parameters.data(), model_.gradients.data(), step, 1e-2, scale);
    return loss;
  }

  Case case_;
  Model model_;
};

// |a - b| / |b| over the elements that `use` selects; |a| where b is exactly zero.
template <typename Use>
double relative(const std::vector<float>& a, const std::vector<float>& b, Use use) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!use(i)) continue;
    const double d = double(a[i]) - double(b[i]);
    difference += d * d;
    norm += double(b[i]) * double(b[i]);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

double relative(const std::vector<float>& a, const std::vector<float>& b) {
  return relative(a, b, [](std::size_t) { return true; });
}

TEST_P(Golden, HoldsExactlyTheModelsParameters) {
  std::size_t given = 0;
  for (const auto& tensor : case_.file().tensors())
    if (tensor.name.starts_with("param.")) {
      ++given;
      const std::int64_t index = model_.table().find(tensor.name.substr(6));
      ASSERT_GE(index, 0) << tensor.name;
      EXPECT_EQ(model_.table()[index].shape, tensor.shape) << tensor.name;
    }
  EXPECT_EQ(given, model_.table().parameters().size());
}

TEST_P(Golden, Loss) {
  const double expected = case_.floats("loss").at(0);
  EXPECT_NEAR(model_.run(), expected, 1e-5 * std::max(1.0, std::abs(expected)));
}

TEST_P(Golden, Logits) {
  const std::vector<float> expected = case_.floats("logits"), found = model_.logits();
  // Vanilla files hold the last position's logits too, which predicts no token of the sample.
  const std::int64_t vocab = case_.model().vocab, context = case_.model().context;
  std::vector<float> wanted;
  if (case_.model().kind == ModelKind::vanilla) {
    ASSERT_EQ(static_cast<std::int64_t>(expected.size()), case_.sequences() * context * vocab);
    for (std::int64_t s = 0; s < case_.sequences(); ++s)
      wanted.insert(wanted.end(), expected.begin() + s * context * vocab,
                    expected.begin() + (s * context + context - 1) * vocab);
  } else {
    wanted = expected;
  }
  ASSERT_EQ(found.size(), wanted.size());
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i)
    worst = std::max(worst, std::abs(double(found[i]) - double(wanted[i])) /
                                std::max(1.0, std::abs(double(wanted[i]))));
  EXPECT_LE(worst, 1e-5);
}

TEST_P(Golden, EveryGradient) {
  model_.run();
  for (const model::Parameter& p : model_.table().parameters())
    EXPECT_LE(relative(slice(model_.gradients, p), case_.floats("grad." + p.name)), 1e-5) << p.name;
}

TEST_P(Golden, GradientNorm) {
  model_.run();
  const double expected = case_.floats("grad_norm").at(0);
  EXPECT_NEAR(gradient_norm(), expected, 1e-5 * expected);
}

TEST_P(Golden, ThreeStepsOfAdamW) {
  const std::vector<float> losses = case_.floats("losses3");
  OptimizerConfig config;
  config.decay = Decay::matrices;
  optim::AdamW<float> optimizer(config, model_.table(), {{0, model_.table().flat_size()}});
  MemoryPlan plan;
  optimizer.plan(plan);
  const Arena arena(plan);
  optimizer.bind(arena, {});
  for (std::int64_t step = 1; step <= 3; ++step) {
    const double expected = losses.at(static_cast<std::size_t>(step - 1));
    EXPECT_NEAR(adamw_step(optimizer, step), expected, 1e-5 * std::max(1.0, expected));
  }
  for (const model::Parameter& p : model_.table().parameters()) {
    // Elements without a true gradient (the un-rotated part of the key bias) move by the sign of
    // rounding noise: only elements whose gradient stands out are compared.
    const std::vector<float> gradient = case_.floats("grad." + p.name);
    float largest = 0;
    for (const float g : gradient) largest = std::max(largest, std::abs(g));
    const auto stands_out = [&](std::size_t i) {
      return largest == 0 || std::abs(gradient[i]) > 1e-4f * largest;
    };
    EXPECT_LE(relative(slice(model_.parameters, p), case_.floats("adamw3." + p.name), stands_out),
              2e-4)
        << p.name;
  }
}

TEST_P(Golden, GreedyContinuation) {
  const std::vector<std::int32_t> prompts = case_.integers("prompt");
  const std::vector<std::int32_t> expected = case_.integers("greedy");
  const std::int64_t rows = case_.shape("prompt").at(0), length = case_.shape("prompt").at(1);
  const std::int64_t total = case_.shape("greedy").at(1);
  std::vector<infer::Prompt> batch;
  for (std::int64_t r = 0; r < rows; ++r)
    batch.push_back({{prompts.begin() + r * length, prompts.begin() + (r + 1) * length}, r});
  infer::GenerateOptions options;
  options.tokens = total - length;
  const auto generator = infer::Generator::make(
      case_.model(), model_.table(), model_.parameters.data(), {rows, length, options.tokens});
  const auto found = generator->generate(batch, options);
  for (std::int64_t r = 0; r < rows; ++r)
    EXPECT_EQ(found[static_cast<std::size_t>(r)],
              std::vector<std::int32_t>(expected.begin() + r * total + length,
                                        expected.begin() + (r + 1) * total))
        << "row " << r;
}

TEST_P(Golden, RecomputationChangesNoBit) {
  Model again(case_, {Recompute::layer});
  EXPECT_EQ(model_.run(), again.run());
  EXPECT_EQ(model_.gradients, again.gradients);
}

INSTANTIATE_TEST_SUITE_P(Files, Golden, ::testing::ValuesIn(case_files()), [](const auto& file) {
  std::string name = std::filesystem::path(file.param).stem().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); },
      '_');
  return name;
});

// Without files nothing above runs: that must not pass for success.
TEST(GoldenFiles, AreThere) {
  EXPECT_FALSE(case_files().empty());
}

}  // namespace
}  // namespace tessera::golden
