// Exports in several files: how tensors are dealt out, that shards and a single file hold the same,
// that nothing of an earlier export survives, and that indexes that lie are refused.
#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>

#include "checkpoints/export_weights.h"
#include "checkpoints/import_source.h"
#include "core/float_formats.h"
#include "core/json.h"
#include "tests/checkpoints/exchange_support.h"

namespace tessera::checkpoints::testing {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_of(const std::vector<WeightFile>& files) {
  std::vector<std::string> names;
  for (const WeightFile& file : files) names.push_back(file.name);
  return names;
}

TEST(ShardPlan, FillsFilesInOrderUpToTheLimit) {
  const std::vector<TensorInfo> tensors = {{"a", {10}}, {"b", {5, 2}}, {"c", {100}},
                                           {"d", {1}},  {"e", {19}},   {"f", {1}}};
  const auto plan = plan_weights(tensors, TensorType::f32, 80);
  EXPECT_EQ(names_of(plan),
            (std::vector<std::string>{
                "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors"}));
  const std::vector<std::vector<std::string>> expected = {{"a", "b"}, {"c"}, {"d", "e"}, {"f"}};
  for (std::size_t i = 0; i < plan.size(); ++i) {
    std::vector<std::string> found;
    for (const TensorInfo& tensor : plan[i].tensors) found.push_back(tensor.name);
    EXPECT_EQ(found, expected[i]);
  }
  EXPECT_EQ(plan[0].bytes, 80);   // exactly full
  EXPECT_EQ(plan[1].bytes, 400);  // larger than the limit, alone
  EXPECT_EQ(plan[2].bytes, 80);
  EXPECT_EQ(plan[3].bytes, 4);
  // Half the bytes: two files less.
  EXPECT_EQ(plan_weights(tensors, TensorType::bf16, 80).size(), 3u);
  EXPECT_EQ(names_of(plan_weights(tensors, TensorType::f32, 564)),
            std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(plan_weights(tensors, TensorType::f32, 563).size(), 2u);
  EXPECT_EQ(plan_weights(tensors, TensorType::f32, 1).size(), 6u);
}

TEST(ShardPlan, MoreFilesThanAnImportTakesAreRefused) {
  std::vector<TensorInfo> tensors;
  for (int i = 0; i <= kMostShards; ++i) tensors.push_back({"t" + std::to_string(i), {2}});
  EXPECT_EQ(plan_weights(tensors, TensorType::f32, 16).size(), 5001u);
  const std::string message =
      message_of(Category::config, [&] { plan_weights(tensors, TensorType::f32, 15); });
  EXPECT_EQ(message,
            "--max-shard-size 15 would make 10001 files, at most 10000 are allowed; choose a "
            "larger one");
}

TEST(ShardPlan, NamesOfWeightFilesAreTold) {
  for (const char* name :
       {"model-00001-of-00002.safetensors", "model-100000-of-100000.safetensors"})
    EXPECT_TRUE(is_shard(name) && is_weight_file(name)) << name;
  EXPECT_TRUE(is_weight_file("model.safetensors"));
  for (const char* name :
       {"model.safetensors.index.json", "model-00001-of-00002.safetensors.tmp",
        "model-.safetensors", "model-1-of-2.safetensors", "model-00001-of-.safetensors",
        "mymodel-00001-of-00002.safetensors", "model-0000a-of-00002.safetensors",
        "model.fp16.safetensors", "adapter_model.safetensors", ""})
    EXPECT_FALSE(is_weight_file(name)) << name;
}

class Shards : public Exchange {
 protected:
  // The files' tensors by name: type, shape and bytes.
  static std::map<std::string, std::string> contents(const std::string& folder) {
    const ImportSource source(folder);
    std::map<std::string, std::string> found;
    for (const auto& [name, from] : source.tensors()) {
      std::string& text = found[name] = type_name(from.entry->type);
      for (const std::int64_t extent : from.entry->shape) text += " " + std::to_string(extent);
      text.append(static_cast<const char*>(from.file->bytes(*from.entry)),
                  static_cast<std::size_t>(from.entry->bytes));
    }
    return found;
  }
  static std::size_t weight_files(const std::string& folder) {
    const auto names = posix().list(folder);
    return static_cast<std::size_t>(std::count_if(names.begin(), names.end(), is_weight_file));
  }
};

INSTANTIATE_TEST_SUITE_P(All, Shards,
                         ::testing::Values(small(ModelKind::vanilla), small(ModelKind::block),
                                           small_projecting()),
                         name_of_case);

TEST_P(Shards, HoldWhatOneFileHoldsInEveryType) {
  for (const TensorType type : {TensorType::f32, TensorType::bf16, TensorType::f16}) {
    const auto single = contents(export_as(type));
    ASSERT_EQ(single.size(), tensors_.size());
    for (const std::int64_t most : {1, 4000, 9000, 20000}) {
      EXPECT_EQ(contents(export_as(type, most)), single) << most;
      EXPECT_GT(weight_files(folder_ / "out"), 1u) << most;
    }
    EXPECT_EQ(weight_files(folder_ / "out"),
              plan_weights(tensors_, type, 20000).size());  // none of the finer ones survives
  }
}

TEST_P(Shards, ThereAndBackKeepsEveryBit) {
  const CheckpointReader reader(import_from(export_as(TensorType::f32, 4000)));
  EXPECT_EQ(all(reader, CheckpointReader::Kind::param), values_.param);
}

TEST_P(Shards, TheIndexIsWhatTransformersWrites) {
  const std::string out = export_as(TensorType::bf16, 4000);
  const auto plan = plan_weights(tensors_, TensorType::bf16, 4000);
  const Json index = parse_json(read_bytes(out + "/model.safetensors.index.json"), "index");
  const auto elements = static_cast<std::int64_t>(values_.param.size());
  EXPECT_EQ(index.at("metadata"),
            (Json{{"total_size", 2 * elements}, {"total_parameters", elements}}));
  EXPECT_EQ(index.at("weight_map").size(), tensors_.size());
  EXPECT_EQ(index.size(), 2u);
  for (const WeightFile& file : plan) {
    const SafetensorsReader reader(out + "/" + file.name);
    EXPECT_EQ(reader.metadata().at("format"), "pt");
    ASSERT_EQ(reader.tensors().size(), file.tensors.size());
    for (std::size_t i = 0; i < file.tensors.size(); ++i) {
      EXPECT_EQ(reader.tensors()[i].name, file.tensors[i].name);
      EXPECT_EQ(index.at("weight_map").at(file.tensors[i].name), file.name);
    }
  }
}

TEST_P(Shards, AnEarlierExportGoesAndOtherFilesStay) {
  const std::string out = folder_ / "out";
  fs::create_directories(out);
  // Another's, and what a killed export left.
  for (const char* mine : {"notes.txt", "adapter_model.safetensors.txt", "generation_config.json"})
    write_bytes(out + "/" + mine, "mine");
  std::vector<std::string> expected;
  for (const std::int64_t most : {std::int64_t{9000}, kDefaultShardBytes, std::int64_t{4000},
                                  std::int64_t{20000}, kDefaultShardBytes}) {
    write_bytes(out + "/model-00007-of-00009.safetensors.tmp", "half");
    write_bytes(out + "/model-00007-of-00009.safetensors", "stale");
    write_bytes(out + "/model.safetensors.tmp", "half");
    export_as(TensorType::f32, most);
    expected = {"adapter_model.safetensors.txt",
                "config.json",
                "generation_config.json",
                "notes.txt",
                "tessera.json",
                "tokenizer.json"};
    const auto plan = plan_weights(tensors_, TensorType::f32, most);
    for (const WeightFile& file : plan) expected.push_back(file.name);
    if (plan.size() > 1) expected.push_back(kShardIndexFile);
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(posix().list(out), expected);
    EXPECT_EQ(contents(out).size(), tensors_.size());
  }
  EXPECT_EQ(read_bytes(out + "/notes.txt"), "mine");
}

TEST_P(Shards, CheckpointsAndTokenShardsAreNoPlaceForAnExport) {
  write_bytes(folder_ / "dataset.json", "{}");
  const CheckpointReader reader(checkpoint_);
  for (const std::string& out : {checkpoint_, folder_.path()}) {
    const auto before = posix().list(out);
    const std::string message = message_of(Category::config, [&] {
      export_model(posix(), reader, config_of(model_), out, {.force = true});
    });
    EXPECT_NE(message.find("tokenizer.json an export would replace"), std::string::npos) << message;
    EXPECT_EQ(posix().list(out), before);
  }
}

// Splits an exported file in two shards with an index, as Hugging Face does, adds the buffers that
// older versions saved, and stores one shard as bf16.
class ForeignShards {
 public:
  ForeignShards(const std::string& from, const std::string& to) : to_(to) {
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

TEST_P(Shards, ShardsAndOldBuffersAreRead) {
  const ForeignShards shards(export_as(TensorType::f32), folder_ / "shards");
  const CheckpointReader reader(import_from(folder_ / "shards"));
  for (const TensorInfo& tensor : tensors_) {
    std::vector<float> mine(static_cast<std::size_t>(element_count(tensor, "test")));
    std::vector<float> theirs = mine;
    reader.read(CheckpointReader::Kind::param, tensor.name, 0,
                static_cast<std::int64_t>(mine.size()), mine.data());
    CheckpointReader(checkpoint_)
        .read(CheckpointReader::Kind::param, tensor.name, 0,
              static_cast<std::int64_t>(theirs.size()), theirs.data());
    const bool rounded = shards.map.at(tensor.name) == "model-00002-of-00002.safetensors";
    for (std::size_t i = 0; i < mine.size(); ++i)
      ASSERT_EQ(mine[i], rounded ? bf16_to_float(float_to_bf16(theirs[i])) : theirs[i]);
  }
  EXPECT_EQ(reader.tokenizer_json(), "");
}

TEST_P(Shards, IndexesThatLieAreRefused) {
  ForeignShards shards(export_as(TensorType::f32), folder_ / "shards");
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
  refused("model-00002-of-00002.safetensors: is missing, but model.safetensors.index.json places");
}

TEST_P(Shards, WhatDoesNotBelongTogetherIsNotRead) {
  const std::string out = export_as(TensorType::f32, 9000);
  const std::string index = out + "/" + kShardIndexFile, text = read_bytes(index);
  const auto refused = [&](Category category, const std::string& expected) {
    const std::string message = message_of(category, [&] { import_from(out); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_FALSE(posix().exists(folder_ / "imported/checkpoints"));
  };
  // Shards without their index, even where only one is left.
  fs::remove(index);
  refused(Category::data, "one shard of several, but no model.safetensors.index.json");
  fs::create_directories(folder_ / "one");
  fs::copy(out + "/tessera.json", folder_ / "one/tessera.json");
  fs::copy(out + "/" + posix().list(out)[1], folder_ / "one");
  message_of(Category::data, [&] { import_from(folder_ / "one"); });
  // A single file beside an index: which one is meant?
  write_bytes(index, text);
  fs::copy(out + "/" + posix().list(out)[1], out + "/model.safetensors");
  refused(Category::data, "holds both model.safetensors and model.safetensors.index.json");
  fs::remove(out + "/model.safetensors");
  // A shard that the index does not name is another's: left alone.
  write_bytes(out + "/model-00001-of-00077.safetensors", "of an earlier save");
  EXPECT_EQ(all(CheckpointReader(import_from(out)), CheckpointReader::Kind::param), values_.param);
  fs::remove_all(folder_ / "imported");
  // Repeated names, nothing in it, and too much of it.
  const std::string twice = "\"weight_map\": {\"" + tensors_[0].name + "\": \"x\", ";
  std::string repeated = text;
  repeated.replace(repeated.find("\"weight_map\": {"), 15, twice);
  write_bytes(index, repeated);
  refused(Category::data, "model.safetensors.index.json");
  write_bytes(index, R"({"weight_map": {}})");
  refused(Category::data, "\"weight_map\" names no tensor");
  write_bytes(index, std::string(17 << 20, ' '));
  refused(Category::data, "larger than the 16777216 bytes allowed here");
  Json many;
  for (int i = 0; i <= kMostShards; ++i)
    many["weight_map"]["t" + std::to_string(i)] = "f" + std::to_string(i) + ".safetensors";
  write_bytes(index, many.dump());
  refused(Category::data, "names 10001 files, at most 10000 are allowed");
  write_bytes(index, std::string(100, '['));
  refused(Category::data, "model.safetensors.index.json");
  fs::remove(index);
  fs::create_directory(index);
  refused(Category::io, "model.safetensors.index.json");
}

}  // namespace
}  // namespace tessera::checkpoints::testing
