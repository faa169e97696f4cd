// Export and import: the way there and back keeps every bit, foreign files are read in all their
// spellings, and what does not fit is refused by name.
#include "checkpoints/exchange.h"

#include <cmath>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "checkpoints/hugging_face.h"
#include "checkpoints/layout.h"
#include "checkpoints/safetensors.h"
#include "config/load.h"
#include "core/float_formats.h"
#include "tests/checkpoints/exchange_support.h"

namespace tessera::checkpoints::testing {
namespace {

using Kind = CheckpointReader::Kind;
namespace fs = std::filesystem;

class Exchange : public ::testing::TestWithParam<ModelConfig> {
 protected:
  Exchange()
      : model_(GetParam()),
        tensors_(tensors_of(model_)),
        values_(sample_values(tensors_, 11)),
        checkpoint_(checkpoint_of(folder_ / "run/checkpoints", model_, values_,
                                  R"({"added_tokens": [{"id": 5, "content": "<|endoftext|>"}]})")) {
  }

  std::string export_as(TensorType type) {
    const std::string out = folder_ / "out";
    export_model(posix(), CheckpointReader(checkpoint_), config_of(model_), out, type, true);
    return out;
  }
  std::string import_from(const std::string& folder) {
    return import_model(posix(), folder, config_of(imported_config(folder)),
                        tensors_of(imported_config(folder)), folder_ / "imported", "test build");
  }
  std::vector<float> all(const CheckpointReader& reader, Kind kind) const {
    std::vector<float> values;
    for (const TensorInfo& tensor : tensors_) {
      std::vector<float> one(static_cast<std::size_t>(element_count(tensor, "test")));
      reader.read(kind, tensor.name, 0, static_cast<std::int64_t>(one.size()), one.data());
      values.insert(values.end(), one.begin(), one.end());
    }
    return values;
  }

  const TemporaryFolder folder_;
  const ModelConfig model_;
  const std::vector<TensorInfo> tensors_;
  const Values values_;
  const std::string checkpoint_;
};

INSTANTIATE_TEST_SUITE_P(All, Exchange,
                         ::testing::Values(small(ModelKind::vanilla), small(ModelKind::block),
                                           small_projecting()),
                         [](const auto& each) {
                           return each.param.kind == ModelKind::vanilla         ? "vanilla"
                                  : each.param.embedder == Embedder::projection ? "projecting"
                                                                                : "block";
                         });

TEST_P(Exchange, ThereAndBackKeepsEveryBit) {
  const std::string out = export_as(TensorType::f32);
  EXPECT_EQ(posix().list(out), (std::vector<std::string>{"config.json", "model.safetensors",
                                                         "tessera.json", "tokenizer.json"}));
  const CheckpointReader reader(import_from(out));
  EXPECT_EQ(all(reader, Kind::param), values_.param);
  EXPECT_EQ(all(reader, Kind::m), std::vector<float>(values_.param.size(), 0.0f));
  EXPECT_EQ(all(reader, Kind::v), std::vector<float>(values_.param.size(), 0.0f));
  EXPECT_EQ(reader.state().step, 0);
  EXPECT_EQ(reader.state().samples, 0);
  EXPECT_EQ(reader.state().build, "test build");
  EXPECT_EQ(reader.tokenizer_json(), CheckpointReader(checkpoint_).tokenizer_json());
  const Config config = parse_config(reader.state().config_yaml, "config.yaml", ".");
  EXPECT_EQ(model_to_json(config.model), model_to_json(model_));
}

TEST_P(Exchange, TheHuggingFaceConfigurationAloneDescribesTheModel) {
  const std::string out = export_as(TensorType::f32);
  fs::remove(out + "/tessera.json");
  ASSERT_TRUE(describes_model(out));
  EXPECT_EQ(model_to_json(imported_config(out)), model_to_json(model_));
  fs::remove(out + "/config.json");
  EXPECT_FALSE(describes_model(out));
  message_of(Category::data, [&] { imported_config(out); });
}

TEST_P(Exchange, SixteenBitTypesRoundOnce) {
  for (const auto& [type, narrow] :
       {std::pair{TensorType::bf16, +[](float x) { return bf16_to_float(float_to_bf16(x)); }},
        {TensorType::f16, +[](float x) { return f16_to_float(float_to_f16(x)); }}}) {
    const std::string out = export_as(type);
    const SafetensorsReader file(out + "/model.safetensors");
    for (const TensorEntry& entry : file.tensors()) EXPECT_EQ(entry.type, type);
    const auto found = all(CheckpointReader(import_from(out)), Kind::param);
    ASSERT_EQ(found.size(), values_.param.size());
    for (std::size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i], narrow(values_.param[i]));
  }
}

TEST_P(Exchange, AFilledFolderIsRefusedUnlessForced) {
  fs::create_directories(folder_ / "full");
  write_bytes(folder_ / "full/mine.txt", "mine");
  const CheckpointReader reader(checkpoint_);
  const auto run = [&](bool force) {
    export_model(posix(), reader, config_of(model_), folder_ / "full", TensorType::f32, force);
  };
  message_of(Category::config, [&] { run(false); });
  EXPECT_EQ(posix().list(folder_ / "full"), std::vector<std::string>{"mine.txt"});
  run(true);
  EXPECT_EQ(read_bytes(folder_ / "full/mine.txt"), "mine");
  EXPECT_EQ(imported_config(folder_ / "full").width, 24);
}

TEST_P(Exchange, AConfigurationOfAnotherModelIsRefused) {
  Config other = config_of(model_);
  other.model.vocab += 1;
  const CheckpointReader reader(checkpoint_);
  message_of(Category::data,
             [&] { export_model(posix(), reader, other, folder_ / "o", TensorType::f32, false); });
  const std::string out = export_as(TensorType::f32);
  const std::string message = message_of(Category::data, [&] {
    import_model(posix(), out, other, tensors_of(other.model), folder_ / "imported", "");
  });
  EXPECT_NE(message.find("of another shape: "), std::string::npos) << message;
  EXPECT_NE(message.find("embed_out.weight [31, 24], expected [32, 24]"), std::string::npos);
  Config deeper = config_of(model_);
  deeper.model.layers += 1;
  deeper.model.token_layers += 1;
  EXPECT_NE(message_of(Category::data,
                       [&] {
                         import_model(posix(), out, deeper, tensors_of(deeper.model),
                                      folder_ / "imported", "");
                       })
                .find("missing: "),
            std::string::npos);
  Config flatter = config_of(model_);
  flatter.model.layers -= 1;
  flatter.model.block_layers -= 1;
  EXPECT_NE(message_of(Category::data,
                       [&] {
                         import_model(posix(), out, flatter, tensors_of(flatter.model),
                                      folder_ / "imported", "");
                       })
                .find("not of this model: "),
            std::string::npos);
  EXPECT_FALSE(posix().exists(folder_ / "imported/checkpoints"));
}

// Splits the exported file in two shards with an index, as Hugging Face does, adds the buffers that
// older versions saved, and stores one shard as bf16.
class Shards {
 public:
  Shards(const std::string& from, const std::string& to) : to_(to) {
    fs::create_directories(to);
    fs::copy(from + "/config.json", to + "/config.json");
    const SafetensorsReader all(from + "/model.safetensors");
    std::size_t i = 0;
    for (const TensorEntry& entry : all.tensors()) (i++ % 2 ? odd_ : even_).push_back(entry);
    write(all, even_, "model-00001-of-00002.safetensors", TensorType::f32, true);
    write(all, odd_, "model-00002-of-00002.safetensors", TensorType::bf16, false);
    save_index();
  }
  void save_index() const {
    write_bytes(to_ + "/model.safetensors.index.json",
                Json({{"metadata", {{"total_size", 1}}}, {"weight_map", map}}).dump());
  }
  Json map;

 private:
  void write(const SafetensorsReader& all, const std::vector<TensorEntry>& entries,
             const std::string& name, TensorType type, bool buffers) {
    SafetensorsWriter writer(posix(), to_ + "/" + name);
    for (const TensorEntry& entry : entries) {
      writer.declare(entry.name, type, entry.shape);
      map[entry.name] = name;
    }
    if (buffers) {
      for (const char* buffer :
           {"gpt_neox.layers.0.attention.bias", "gpt_neox.layers.1.attention.masked_bias",
            "gpt_neox.layers.0.attention.rotary_emb.inv_freq", "gpt_neox.rotary_emb.inv_freq",
            "block_decoder.gpt_neox.embed_in.weight"}) {
        writer.declare(buffer, TensorType::u8, {3});
        map[buffer] = name;
      }
    }
    for (const TensorEntry& entry : entries) {
      std::vector<float> values(static_cast<std::size_t>(entry.count()));
      all.read_floats(entry, 0, entry.count(), values.data());
      for (const float value : values) {
        const std::uint16_t brain = float_to_bf16(value);
        if (type == TensorType::bf16)
          writer.append(&brain, 2);
        else
          writer.append(&value, 4);
      }
    }
    if (buffers) writer.append("123123123123123", 15);
    writer.finish();
  }

  std::string to_;
  std::vector<TensorEntry> even_, odd_;
};

TEST_P(Exchange, ShardsAndOldBuffersAreRead) {
  const Shards shards(export_as(TensorType::f32), folder_ / "shards");
  const CheckpointReader reader(import_from(folder_ / "shards"));
  for (const TensorInfo& tensor : tensors_) {
    std::vector<float> mine(static_cast<std::size_t>(element_count(tensor, "test")));
    std::vector<float> theirs = mine;
    reader.read(Kind::param, tensor.name, 0, static_cast<std::int64_t>(mine.size()), mine.data());
    CheckpointReader(checkpoint_)
        .read(Kind::param, tensor.name, 0, static_cast<std::int64_t>(theirs.size()), theirs.data());
    const bool rounded = shards.map.at(tensor.name) == "model-00002-of-00002.safetensors";
    for (std::size_t i = 0; i < mine.size(); ++i)
      ASSERT_EQ(mine[i], rounded ? bf16_to_float(float_to_bf16(theirs[i])) : theirs[i]);
  }
  EXPECT_EQ(reader.tokenizer_json(), "");
}

TEST_P(Exchange, IndexesThatLieAreRefused) {
  Shards shards(export_as(TensorType::f32), folder_ / "shards");
  const Json good = shards.map;
  const std::string first = tensors_[0].name;
  const auto refused = [&](const std::string& expected) {
    shards.save_index();
    const std::string message =
        message_of(Category::data, [&] { import_from(folder_ / "shards"); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    shards.map = good;
  };
  for (const char* path : {"../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""}) {
    shards.map[first] = path;
    refused("is not a plain file name");
  }
  shards.map[first] = 3;
  refused("is not a plain file name");
  shards.map[first] = good.at(first) == "model-00001-of-00002.safetensors"
                          ? "model-00002-of-00002.safetensors"
                          : "model-00001-of-00002.safetensors";
  refused("does not place tensor");
  shards.map.erase(first);
  refused("does not place tensor");
  shards.map["absent.weight"] = good.at(first);
  refused("lacks tensor \"absent.weight\"");
  shards.map = Json::array();
  refused("\"weight_map\" is not an object");
  fs::remove(folder_ / "shards/model-00002-of-00002.safetensors");
  shards.save_index();
  message_of(Category::io, [&] { import_from(folder_ / "shards"); });
}

}  // namespace
}  // namespace tessera::checkpoints::testing
