// Export and import: the way there and back keeps every bit, foreign files are read in all their
// spellings, and what does not fit is refused by name.
#include "checkpoints/exchange.h"

#include <cmath>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "checkpoints/hugging_face.h"
#include "checkpoints/import_source.h"
#include "checkpoints/layout.h"
#include "checkpoints/safetensors.h"
#include "config/load.h"
#include "core/float_formats.h"
#include "tests/checkpoints/exchange_support.h"

namespace tessera::checkpoints::testing {
namespace {

using Kind = CheckpointReader::Kind;
namespace fs = std::filesystem;

INSTANTIATE_TEST_SUITE_P(All, Exchange,
                         ::testing::Values(small(ModelKind::vanilla), small(ModelKind::block),
                                           small_projecting()),
                         name_of_case);

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
    export_model(posix(), reader, config_of(model_), folder_ / "full",
                 {TensorType::f32, kDefaultShardBytes, force});
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
  message_of(Category::data, [&] { export_model(posix(), reader, other, folder_ / "o", {}); });
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

// A foreign file of `tensors` whose elements take all bit patterns of a 16-bit type in turn.
void write_all_patterns(const std::string& path, const std::vector<TensorInfo>& tensors,
                        TensorType type) {
  SafetensorsWriter writer(posix(), path);
  for (const TensorInfo& tensor : tensors) writer.declare(tensor.name, type, tensor.shape);
  std::uint16_t pattern = 0;
  for (const TensorInfo& tensor : tensors)
    for (std::int64_t i = 0; i < element_count(tensor, "test"); ++i, ++pattern)
      writer.append(&pattern, sizeof pattern);
  writer.finish();
}

TEST_P(Exchange, EverySixteenBitValueComesBackAsItWas) {
  ModelConfig model = model_;
  model.vocab = 2800;  // so that the tensors hold every pattern
  const auto tensors = tensors_of(model);
  ASSERT_GT(total_elements(tensors), 65536);
  for (const auto& [type, infinity, quiet] :
       {std::tuple{TensorType::bf16, 0x7f80, 0x40}, {TensorType::f16, 0x7c00, 0x200}}) {
    const std::string foreign = folder_ / "foreign", out = folder_ / "again";
    fs::create_directories(foreign);
    write_all_patterns(foreign + "/model.safetensors", tensors, type);
    write_bytes(foreign + "/config.json", hugging_face_config(model, type, 0).dump());
    const CheckpointReader reader(import_from(foreign));
    export_model(posix(), reader, config_of(model), out, {type, 50'000, true});
    const ImportSource source(out);
    EXPECT_GT(source.files().size(), 1u);
    std::uint16_t pattern = 0;
    for (const TensorInfo& tensor : tensors) {
      const auto& from = source.tensors().at(tensor.name);
      ASSERT_EQ(from.entry->type, type);
      const auto* found = static_cast<const std::uint16_t*>(from.file->bytes(*from.entry));
      for (std::int64_t i = 0; i < from.entry->count(); ++i, ++pattern) {
        const bool nan = (pattern & 0x7fff) > infinity;  // becomes a quiet one
        ASSERT_EQ(found[i], nan ? pattern | quiet : pattern) << tensor.name << " " << i;
      }
    }
    fs::remove_all(folder_ / "imported");
  }
}

// The names of a published checkpoint: one layer of each stack, and the table that nothing reads.
TEST(PublishedBlockTransformer, ComesInWithItsDeadTableAndGoesOutWithout) {
  const TemporaryFolder folder;
  ModelConfig model = small(ModelKind::block);
  model.block_layers = 1;
  std::vector<TensorInfo> published = {{"embedder.embeddings.weight", {31, 8}},
                                       {"block_decoder.gpt_neox.embed_in.weight", {31, 24}},
                                       {"token_decoder.expansion_layer.weight", {48, 24, 1}},
                                       {"token_decoder.expansion_layer.bias", {48}},
                                       {"token_decoder.gpt_neox.embed_in.weight", {31, 24}},
                                       {"token_decoder.embed_out.weight", {31, 24}}};
  for (const std::string decoder : {"block_decoder.gpt_neox.", "token_decoder.gpt_neox."}) {
    const std::string layer = decoder + "layers.0.";
    for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<std::int64_t>>>{
             {layer + "input_layernorm", {24}},
             {layer + "post_attention_layernorm", {24}},
             {layer + "attention.query_key_value", {72, 24}},
             {layer + "attention.dense", {24, 24}},
             {layer + "mlp.dense_h_to_4h", {96, 24}},
             {layer + "mlp.dense_4h_to_h", {24, 96}},
             {decoder + "final_layer_norm", {24}}}) {
      published.push_back({name + ".weight", shape});
      published.push_back({name + ".bias", {shape[0]}});
    }
  }
  for (const TensorType type : {TensorType::f32, TensorType::bf16}) {
    const std::string from = folder / "published", out = folder / "out";
    fs::create_directories(from);
    const Values values = sample_values(published, 5);
    SafetensorsWriter writer(posix(), from + "/model.safetensors");
    for (const TensorInfo& tensor : published) writer.declare(tensor.name, type, tensor.shape);
    for (const float value : values.param) {
      const std::uint16_t brain = float_to_bf16(value);
      if (type == TensorType::bf16)
        writer.append(&brain, 2);
      else
        writer.append(&value, 4);
    }
    writer.finish();
    // No configuration that Tessera reads: the caller describes the model.
    const Config config = config_of(model);
    const CheckpointReader reader(
        import_model(posix(), from, config, tensors_of(model), folder / "run", ""));
    export_model(posix(), reader, config, out, {.type = type, .force = true});
    const SafetensorsReader before(from + "/model.safetensors"), after(out + "/model.safetensors");
    EXPECT_EQ(after.tensors().size(), published.size() - 1);
    for (const TensorInfo& tensor : published) {
      const TensorEntry* found = after.find(tensor.name);
      const TensorEntry* wanted = before.find(tensor.name);
      if (tensor.name == "block_decoder.gpt_neox.embed_in.weight") {
        EXPECT_EQ(found, nullptr);
        continue;
      }
      ASSERT_TRUE(found) << tensor.name;
      EXPECT_EQ(found->type, type);
      EXPECT_EQ(found->shape, tensor.shape);
      EXPECT_EQ(std::memcmp(after.bytes(*found), before.bytes(*wanted),
                            static_cast<std::size_t>(wanted->bytes)),
                0)
          << tensor.name;
    }
    fs::remove_all(folder / "run");
  }
}

}  // namespace
}  // namespace tessera::checkpoints::testing
