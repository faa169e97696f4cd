// Piece times as files: there and back, what they do to predictions, and refusals.
#include "parallel/measured_costs.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/small_models.h"
#include "tests/parallel/plan_support.h"

namespace tessera::parallel {
namespace {

Config small_config() {
  Config config;
  config.model = testing::small_block(4, 2);
  config.precision = Precision::fp32;
  config.train.global_batch = 8;
  config.train.micro_batch = 2;
  return config;
}

std::vector<PartTime> parts() {
  return {{"clear gradients", 0.5},
          {"block embedder", 1},
          {"block decoder layer 0", 2},
          {"block decoder final norm", 3},
          {"expansion and token embedding", 4},
          {"token decoder layer 0", 5},
          {"head", 6},
          {"head backward", 7},
          {"token decoder layer 0 backward", 8},
          {"expansion and token embedding backward", 9},
          {"block decoder final norm backward", 10},
          {"block decoder layer 0 backward", 11},
          {"block embedder backward", 0},
          {"gradient norms", 0.25},
          {"AdamW", 0.75}};
}

PieceTimes times() {
  return piece_times(small_config(), "cpu", parts());
}

std::string refusal(const std::string& text) {
  try {
    piece_times_from_json(text, "times.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::data);
    return error.what();
  }
  return "no error";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(MeasuredCosts, AFileReadsBackAsItWasWritten) {
  const PieceTimes written = times();
  const PieceTimes read = piece_times_from_json(to_json(written), "times.json");
  EXPECT_EQ(read.device, "cpu");
  EXPECT_TRUE(config_differences(read.config, written.config).empty());
  ASSERT_EQ(read.pieces.size(), 6u);
  for (std::size_t i = 0; i < read.pieces.size(); ++i) {
    EXPECT_EQ(read.pieces[i].name, written.pieces[i].name);
    EXPECT_DOUBLE_EQ(read.pieces[i].forward, written.pieces[i].forward);
    EXPECT_DOUBLE_EQ(read.pieces[i].backward, written.pieces[i].backward);
  }
  EXPECT_DOUBLE_EQ(read.pieces[3].backward, 0.009);
  EXPECT_GT(read.pieces[0].backward, 0);  // nothing takes no time at all
  EXPECT_DOUBLE_EQ(read.optimizer.update, 0.75e-3);
}

TEST(MeasuredCosts, PredictWhatWasMeasuredAndScaleFromThere) {
  const Config config = small_config();
  const MachineRates rates = cpu_machine(1).rates;
  const PieceCosts plain(config, Device::cpu, rates);
  const PieceCosts costs(config, Device::cpu, rates,
                         cost_ratios(times(), config, Device::cpu, rates, "times.json"));
  EXPECT_TRUE(costs.measured());
  for (std::size_t i = 0; i < 6; ++i) {
    const PieceCost& at_two = costs.micro_batch(2)[i];
    EXPECT_NEAR(at_two.forward, times().pieces[i].forward, 1e-12);
    EXPECT_NEAR(at_two.backward, times().pieces[i].backward, 1e-12);
    // Another size: as much more as is computed.
    EXPECT_NEAR(costs.micro_batch(8)[i].forward / at_two.forward,
                plain.micro_batch(8)[i].forward / plain.micro_batch(2)[i].forward, 1e-9);
  }
  const std::int64_t flat = model::parameter_table(config.model).flat_size();
  EXPECT_NEAR(costs.optimizer(flat, flat).update, 0.75e-3, 1e-12);
}

TEST(MeasuredCosts, OtherModelsAndDevicesAreRefused) {
  const auto refused = [](Config config, Device device, const std::string& fragment) {
    try {
      cost_ratios(times(), config, device, cpu_machine(1).rates, "times.json");
      ADD_FAILURE() << fragment;
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), Category::config);
      EXPECT_NE(std::string(error.what()).find(fragment), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("times.json"), std::string::npos);
    }
  };
  Config other = small_config();
  other.model.token_layers = 2;
  refused(other, Device::cpu, "model.token_layers");
  other = small_config();
  other.train.recompute = Recompute::layer;
  refused(other, Device::cpu, "train.recompute");
  refused(small_config(), Device::cuda, "cuda");
  // What does not change a piece's time may differ.
  other = small_config();
  other.train.micro_batch = 4;
  other.optimizer.lr = 1;
  other.parallel.zero = 0;
  EXPECT_EQ(cost_ratios(times(), other, Device::cpu, cpu_machine(1).rates, "f").pieces.size(), 6u);
}

TEST(MeasuredCosts, FilesThatAreNotSuchAreRefused) {
  const std::string good = to_json(times());
  EXPECT_NE(refusal("{").find("JSON"), std::string::npos);
  EXPECT_NE(refusal("[]").find("format"), std::string::npos);
  EXPECT_NE(refusal("{\"format\": 3}").find("format"), std::string::npos);
  EXPECT_NE(refusal(replaced(good, "piece-times-1", "piece-times-2")).find("format"),
            std::string::npos);
  EXPECT_NE(refusal(replaced(good, "\"adamw_ms\"", "\"adam_ms\"")).find("adamw_ms"),
            std::string::npos);
  EXPECT_NE(refusal(replaced(good, "\"head\"", "\"hat\"")).find("hat"), std::string::npos);
  EXPECT_NE(refusal(replaced(good, "\"forward_ms\": 1.0", "\"forward_ms\": -1.0")).find("-1"),
            std::string::npos);
  EXPECT_NE(refusal(replaced(good, "\"forward_ms\": 1.0", "\"forward_ms\": \"1\"")).find("number"),
            std::string::npos);
  EXPECT_NE(refusal(replaced(good, "\"pieces\"", "\"parts\"")).find("pieces"), std::string::npos);
}

}  // namespace
}  // namespace tessera::parallel
