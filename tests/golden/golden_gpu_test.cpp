// Both model families on the device against the golden files: fp32 within the CPU's tolerances,
// bf16 within what its rounding allows.
//
// The bf16 table. Every stored value is rounded to 8 bits: a relative error of up to u = 2^-9,
// taken as independent. A forward path passes about kRoundings stored values a layer (two norms,
// QKV, attention, two joins, up, GELU, and the weights between them) and as many again backwards,
// so outputs carry a normwise error of about u sqrt(n), n = roundings on the path; a factor 3
// covers correlation and the amplification of a residual stream that is normalised again.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>

#include "core/device_memory.h"
#include "golden/golden_case.h"
#include "support/owned_engine.h"

namespace tessera::golden {
namespace {

constexpr double kUnit = 1.0 / 512;
constexpr double kRoundings = 14;

double bf16_forward(const ModelConfig& c) {
  const double layers = static_cast<double>(
      c.kind == ModelKind::vanilla ? c.layers : c.block_layers + c.token_layers);
  return 3 * kUnit * std::sqrt(kRoundings * layers + 4);
}
double bf16_backward(const ModelConfig& c) {
  return std::sqrt(2.0) * bf16_forward(c);
}

template <typename T>
struct Tolerances {
  double logits, loss, gradient;
  explicit Tolerances(const ModelConfig& c) : logits(1e-5), loss(1e-5), gradient(1e-5) {
    if (std::is_same_v<T, float>) return;
    logits = bf16_forward(c);
    loss = bf16_forward(c) / 3;  // a mean over tokens: errors average out
    gradient = bf16_backward(c);
  }
};

double norm(const std::vector<float>& a) {
  double sum = 0;
  for (const float x : a) sum += double(x) * double(x);
  return std::sqrt(sum);
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double sum = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    sum += std::pow(double(a[i]) - double(b[i]), 2);
  return std::sqrt(sum);
}

float to_float(float x) {
  return x;
}
float to_float(kernels::bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

template <typename T>
void check(const std::string& path) {
  const Case c(path);
  const Tolerances<T> tolerance(c.model());
  Config config;
  config.model = c.model();
  config.train.global_batch = config.train.micro_batch = c.sequences();
  config.optimizer.decay = Decay::matrices;
  testing::OwnedEngine<T> model(config, Device::cuda);
  const auto& table = model.engine.table();
  const auto restart = [&] {
    for (const model::Parameter& p : table.parameters())
      model.engine.restore(parallel::State::parameter, p.offset, p.count,
                           c.floats("param." + p.name).data());
    model.engine.finish_restore();
  };
  restart();

  // Logits; vanilla files hold the last position's too, which predicts no token of the sample.
  std::vector<float> expected = c.floats("logits"), found;
  if (c.model().kind == ModelKind::vanilla) {
    std::vector<float> predicting;
    const std::int64_t vocab = c.model().vocab, context = c.model().context;
    for (std::int64_t s = 0; s < c.sequences(); ++s)
      predicting.insert(predicting.end(), expected.begin() + s * context * vocab,
                        expected.begin() + (s * context + context - 1) * vocab);
    expected = predicting;
  }
  for (const T x : model.engine.logits({c.sequences(), c.ids().data(), c.ids().data()}))
    found.push_back(to_float(x));
  EXPECT_LE(distance(found, expected), tolerance.logits * norm(expected)) << "logits";

  // Loss, gradients, norm, and three steps.
  const double targets = static_cast<double>(c.sequences() * model::targets_a_sample(c.model()));
  const std::vector<float> losses = c.floats("losses3");
  for (std::int64_t step = 1; step <= 3; ++step) {
    const parallel::Agreement a = model.accumulate(config, c.ids());
    const double loss = losses.at(static_cast<std::size_t>(step - 1));
    EXPECT_NEAR(a.loss_sum / targets, loss, tolerance.loss * std::max(1.0, loss))
        << "step " << step;
    if (step == 1) {
      const double total = c.floats("grad_norm").at(0);
      EXPECT_NEAR(a.gradient_norm, total, tolerance.gradient * total);
      const std::vector<float> gradients = model.engine.gradients();
      for (const model::Parameter& p : table.parameters()) {
        const std::vector<float> g = c.floats("grad." + p.name);
        const std::vector<float> mine(gradients.begin() + p.offset,
                                      gradients.begin() + p.offset + p.count);
        // A tensor whose gradient nearly cancels carries the rounding of what cancelled.
        const double scale = std::is_same_v<T, float> ? norm(g) : norm(g) + 0.05 * total;
        EXPECT_LE(distance(mine, g), tolerance.gradient * scale + 1e-9) << p.name;
      }
    }
    model.engine.update(step, 1e-2, std::min(1.0, 1.0 / (a.gradient_norm + 1e-6)));
  }
}

class GoldenGpu : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  }
};

TEST_P(GoldenGpu, Fp32) {
  check<float>(GetParam());
}
TEST_P(GoldenGpu, Bf16) {
  check<kernels::bf16>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenGpu, ::testing::ValuesIn(case_files()), [](const auto& file) {
  std::string name = std::filesystem::path(file.param).stem().string();
  std::replace_if(
      name.begin(), name.end(),
      [](char ch) { return !std::isalnum(static_cast<unsigned char>(ch)); }, '_');
  return name;
});

}  // namespace
}  // namespace tessera::golden
