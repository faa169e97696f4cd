// config/: loading, `base:` chains, overrides, files that are no configuration.
#include <filesystem>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>

#include "tests/unit/config_support.h"

namespace tessera {
namespace {

using testing::Test;

class ConfigFiles : public Test {
 protected:
  void SetUp() override {
    folder_ = std::string(TESSERA_BINARY_DIR) + "/config_test/" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  std::string write(const std::string& name, const std::string& text) {
    const std::string path = folder_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  std::string load_refusal(const std::string& path) {
    try {
      load_config(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), Category::config);
      return error.what();
    }
    return "";
  }
  std::string folder_;
};

TEST(Config, DefaultsAreSound) {
  EXPECT_TRUE(config_problems(Config{}).empty());
  EXPECT_EQ(resolved_config(from_text("{}")), resolved_config(Config{}));
}

TEST(Config, ReadsEveryKindOfValue) {
  const Config c = from_text(R"(run: {name: a-b_c.1, root: /tmp/some where}
device: cuda
seed: 18446744073709551615
model:
  kind: vanilla
  width: 128
  heads: 4
  rotary_pct: .5
data:
  train: [{path: x, weight: 2}, {weight: 5e-1, path: "y: z"}, plain]
  valid: one
train: {steps: 10, recompute: attention+mlp}
optimizer: {lr: +6.0e-4, warmup: 2, betas: [0.8, 0.9]}
parallel: {schedule: 1f1b, order: data_first}
eval: {tasks: lambada}
)");
  EXPECT_EQ(c.run.name, "a-b_c.1");
  EXPECT_EQ(c.run.root, "/tmp/some where");
  EXPECT_EQ(c.device, DeviceChoice::cuda);
  EXPECT_EQ(c.seed, std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(c.model.kind, ModelKind::vanilla);
  EXPECT_EQ(c.model.rotary_pct, 0.5);
  ASSERT_EQ(c.data.train.size(), 3u);
  EXPECT_EQ(c.data.train[0].path, "x");
  EXPECT_EQ(c.data.train[0].weight, 2.0);
  EXPECT_EQ(c.data.train[1].path, "y: z");
  EXPECT_EQ(c.data.train[1].weight, 0.5);
  EXPECT_EQ(c.data.train[2].path, "plain");
  EXPECT_EQ(c.data.train[2].weight, 1.0);
  ASSERT_EQ(c.data.valid.size(), 1u);
  EXPECT_EQ(c.data.valid[0].path, "one");
  EXPECT_EQ(c.train.recompute, Recompute::attention_mlp);
  EXPECT_EQ(c.optimizer.lr, 6e-4);
  EXPECT_EQ(c.optimizer.betas, (std::array<double, 2>{0.8, 0.9}));
  EXPECT_EQ(c.parallel.schedule, PipelineSchedule::one_f_one_b);
  EXPECT_EQ(c.parallel.order, RankOrder::data_first);
  EXPECT_EQ(c.eval.tasks, std::vector<std::string>{"lambada"});
}

TEST(Config, DottedKeysWindowsLinesAndEmptySectionsAreFine) {
  const Config c = from_text("train.steps: 5000\r\nmodel:\r\n  # width: 3\r\n\r\nseed: 4\r\n");
  EXPECT_EQ(c.train.steps, 5000);
  EXPECT_EQ(c.seed, 4u);
  EXPECT_EQ(from_text("\xEF\xBB\xBFseed: 5\n").seed, 5u);
}

TEST(Config, OverridesReachEveryDepthAndTheLastWins) {
  const Config c = from_text("train: {steps: 5000}",
                             {"train.steps=6000", "data.train=[{path: a, weight: 2}, b]",
                              "optimizer.betas=[0.5, 0.6]", "model={kind: vanilla, layers: 3}",
                              "run.name=x=y", "run.name=last", "data.valid=dir/with=sign"});
  EXPECT_EQ(c.train.steps, 6000);
  ASSERT_EQ(c.data.train.size(), 2u);
  EXPECT_EQ(c.data.train[0].weight, 2.0);
  EXPECT_EQ(c.optimizer.betas[1], 0.6);
  EXPECT_EQ(c.model.kind, ModelKind::vanilla);
  EXPECT_EQ(c.model.layers, 3);
  EXPECT_EQ(c.run.name, "last");
  EXPECT_EQ(c.data.valid.at(0).path, "dir/with=sign");
}

TEST_F(ConfigFiles, NearerFilesWinAndBasesAreRelativeToTheFileThatNamesThem) {
  write("common/far.yaml", "train: {steps: 7000, micro_batch: 4}\ndata: {train: far/path}\n");
  write("common/mid.yaml", "base: far.yaml\ntrain: {steps: 8000}\nseed: 3\n");
  const std::string top = write("runs/top.yaml", "seed: 9\nbase: ../common/mid.yaml\n");
  const Config c = load_config(top, {"train.micro_batch=2"});
  EXPECT_EQ(c.train.steps, 8000);
  EXPECT_EQ(c.train.micro_batch, 2);
  EXPECT_EQ(c.seed, 9u);
  EXPECT_EQ(c.data.train.at(0).path, "far/path");  // as typed
  const Config text = parse_config("base: far.yaml\n", "text", folder_ + "/common");
  EXPECT_EQ(text.train.steps, 7000);
  const Config absolute = parse_config("base: " + folder_ + "/common/far.yaml\n", "text", ".");
  EXPECT_EQ(absolute.train.steps, 7000);
}

TEST_F(ConfigFiles, CircularAndMissingBasesAreRefused) {
  const std::string a = write("a.yaml", "seed: 1\nbase: b.yaml\n");
  write("b.yaml", "base: ./a.yaml\n");
  const std::string circular = load_refusal(a);
  EXPECT_NE(circular.find("b.yaml:1: base: '"), std::string::npos) << circular;
  EXPECT_NE(circular.find("circular"), std::string::npos) << circular;

  const std::string missing = load_refusal(write("c.yaml", "seed: 1\n\nbase: nowhere.yaml\n"));
  EXPECT_NE(missing.find("c.yaml:3: base: '"), std::string::npos) << missing;
  EXPECT_NE(missing.find("No such file"), std::string::npos) << missing;

  const std::string list = load_refusal(write("d.yaml", "base: [a.yaml, b.yaml]\n"));
  EXPECT_NE(list.find("d.yaml:1: base: found a list"), std::string::npos) << list;
}

TEST_F(ConfigFiles, ChainsHoldEightBasesAndNoMore) {
  write("0.yaml", "seed: 77\n");
  for (int i = 1; i <= 9; ++i)
    write(std::to_string(i) + ".yaml", "base: " + std::to_string(i - 1) + ".yaml\n");
  EXPECT_EQ(load_config(folder_ + "/8.yaml").seed, 77u);
  const std::string text = load_refusal(folder_ + "/9.yaml");
  EXPECT_NE(text.find("1.yaml:1: base: "), std::string::npos) << text;
  EXPECT_NE(text.find("longer than 8"), std::string::npos) << text;
  EXPECT_EQ(parse_config("base: 7.yaml", "text", folder_).seed, 77u);
  EXPECT_THROW(parse_config("base: 8.yaml", "text", folder_), Error);
}

TEST_F(ConfigFiles, ProblemsOfAllFilesAndOverridesComeTogether) {
  write("base.yaml", "train:\n  steps: many\n");
  const std::string top = write("top.yaml", "base: base.yaml\n\nmodel:\n  widht: 3\n");
  try {
    load_config(top, {"optimizer.lr=-1", "device=gpu"});
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("4 problems"), std::string::npos) << text;
    EXPECT_NE(text.find("base.yaml:2: train.steps: found many"), std::string::npos) << text;
    EXPECT_NE(text.find("top.yaml:4: model.widht: unknown key; did you mean model.width?"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("override optimizer.lr=-1: optimizer.lr: found -1"), std::string::npos);
    EXPECT_NE(text.find("override device=gpu: device: found gpu, expected auto, cpu or cuda"),
              std::string::npos)
        << text;
  }
}

TEST_F(ConfigFiles, FilesThatAreNoConfigurationGetOneSentence) {
  EXPECT_EQ(load_refusal(folder_), folder_ + ": cannot be read: Is a directory");
  EXPECT_EQ(load_refusal(folder_ + "/none.yaml"),
            folder_ + "/none.yaml: cannot be opened: No such file or directory");
  const std::string empty = write("empty.yaml", "");
  EXPECT_EQ(load_refusal(empty).find(empty + ": holds no settings"), 0u) << load_refusal(empty);
  const std::string comment = write("comment.yaml", "# nothing\n\n");
  EXPECT_EQ(load_refusal(comment).find(comment + ": holds no settings"), 0u);
  const std::string binary = write("binary.yaml", std::string("\x7f"
                                                              "ELF\0\1\2",
                                                              7));
  EXPECT_EQ(load_refusal(binary), binary + ": not text: control byte 127 at offset 0");
  const std::string latin = write("latin.yaml", "run: {root: caf\xE9}\n");
  EXPECT_EQ(load_refusal(latin), latin + ": not text: its bytes are not UTF-8");
  const std::string large = write("large.yaml", "seed: 1\n" + std::string(1 << 20, '#'));
  EXPECT_NE(load_refusal(large).find("larger than the 1048576 bytes"), std::string::npos);
  for (const std::string& path : {empty, binary, large})
    EXPECT_EQ(load_refusal(path).find('\n'), std::string::npos);
}

}  // namespace
}  // namespace tessera
