// The files that describe an exported model: what is written, which spellings are read, and what
// is refused.
#include <gtest/gtest.h>

#include "checkpoints/exchange.h"
#include "checkpoints/hugging_face.h"
#include "tests/checkpoints/exchange_support.h"

namespace tessera::checkpoints::testing {
namespace {

TEST(ExchangeConfig, WhatHuggingFaceReadsIsWritten) {
  ModelConfig model = small(ModelKind::vanilla);
  const OrderedJson json = hugging_face_config(model, TensorType::bf16, 5);
  EXPECT_EQ(json.dump(),
            R"({"architectures":["GPTNeoXForCausalLM"],"model_type":"gpt_neox",)"
            R"("torch_dtype":"bfloat16","vocab_size":31,"hidden_size":24,"intermediate_size":96,)"
            R"("num_attention_heads":3,"num_hidden_layers":2,"max_position_embeddings":36,)"
            R"("hidden_act":"gelu","layer_norm_eps":1.1e-05,"rotary_pct":0.5,)"
            R"("rotary_emb_base":10000.1,"use_parallel_residual":true,"attention_bias":true,)"
            R"("tie_word_embeddings":false,"initializer_range":0.02,"bos_token_id":5,)"
            R"("eos_token_id":5})");
}

TEST(ExchangeConfig, SpellingsOfBothMajorVersionsAreRead) {
  Json json =
      Json::parse(hugging_face_config(small(ModelKind::vanilla), TensorType::f32, 0).dump());
  json.erase("rotary_pct");
  json.erase("rotary_emb_base");
  json["rope_scaling"] = nullptr;
  json["rope_parameters"] = {
      {"rope_type", "default"}, {"rope_theta", 5000.0}, {"partial_rotary_factor", 0.75}};
  const ModelConfig model = model_from_hugging_face(json, "config.json");
  EXPECT_EQ(model.rotary_pct, 0.75);
  EXPECT_EQ(model.rotary_base, 5000.0);
  json.erase("rope_parameters");
  EXPECT_EQ(model_from_hugging_face(json, "config.json").rotary_pct, 0.25);
  json["rope_theta"] = 777;
  EXPECT_EQ(model_from_hugging_face(json, "config.json").rotary_base, 777.0);
}

TEST(ExchangeConfig, ModelsThatTesseraCannotComputeAreRefused) {
  const Json good =
      Json::parse(hugging_face_config(small(ModelKind::vanilla), TensorType::f32, 0).dump());
  ASSERT_NO_THROW(model_from_hugging_face(good, "config.json"));
  const auto refused = [&](const char* key, const Json& value) {
    Json bad = good;
    bad[key] = value;
    const std::string message =
        message_of(Category::data, [&] { model_from_hugging_face(bad, "config.json"); });
    EXPECT_EQ(message.rfind("config.json: ", 0), 0u) << message;
  };
  refused("model_type", "llama");
  refused("model_type", 4);
  refused("hidden_act", "gelu_new");
  refused("use_parallel_residual", false);
  refused("attention_bias", false);
  refused("tie_word_embeddings", true);
  refused("rope_scaling", {{"type", "linear"}, {"factor", 2.0}});
  refused("rope_parameters", {{"rope_type", "yarn"}});
  refused("intermediate_size", 100);
  refused("hidden_size", 0);
  refused("hidden_size", -24);
  refused("hidden_size", "24");
  refused("vocab_size", nullptr);
  refused("num_hidden_layers", 1e30);
  refused("layer_norm_eps", 0);
  refused("rotary_pct", "a quarter");
  message_of(Category::data, [] { model_from_hugging_face(Json::array(), "config.json"); });
}

TEST(ExchangeConfig, OurOwnFileIsCheckedToo) {
  const TemporaryFolder folder;
  const Json good = {{"format", "tessera-export"},
                     {"version", 1},
                     {"model", Json::parse(model_to_json(small(ModelKind::block)).dump())}};
  const auto write = [&](const Json& json) { write_bytes(folder / "tessera.json", json.dump()); };
  write(good);
  EXPECT_EQ(imported_config(folder.path()).eps, 1.1e-5);
  for (const char* pointer : {"/format", "/version", "/model", "/model/kind", "/model/width",
                              "/model/prefix", "/model/eps"}) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = 2.5;
    if (std::string(pointer) == "/model/eps") bad[Json::json_pointer(pointer)] = "x";
    write(bad);
    const std::string message = message_of(Category::data, [&] { imported_config(folder.path()); });
    EXPECT_NE(message.find("tessera.json"), std::string::npos) << message;
  }
}

// Exports that are older than the key, of block models, concatenate.
TEST(ExchangeConfig, BothFilesNameABlockModelsEmbedder) {
  for (const Embedder embedder : {Embedder::concat, Embedder::projection}) {
    ModelConfig model = small(ModelKind::block);
    model.embedder = embedder;
    Json own = Json::parse(model_to_json(model).dump());
    Json other = Json::parse(hugging_face_config(model, TensorType::f32, 0).dump());
    EXPECT_EQ(own.at("embedder"), embedder == Embedder::concat ? "concat" : "projection");
    EXPECT_EQ(other.at("embedder"), own.at("embedder"));
    EXPECT_EQ(model_from_json(own, "f").embedder, embedder);
    EXPECT_EQ(model_from_hugging_face(other, "f").embedder, embedder);
    for (Json* json : {&own, &other}) json->erase("embedder");
    EXPECT_EQ(model_from_json(own, "f").embedder, Embedder::concat);
    EXPECT_EQ(model_from_hugging_face(other, "f").embedder, Embedder::concat);
    for (Json* json : {&own, &other}) (*json)["embedder"] = "roberta";
    for (const std::string& message :
         {message_of(Category::data, [&] { model_from_json(own, "f"); }),
          message_of(Category::data, [&] { model_from_hugging_face(other, "f"); })})
      EXPECT_NE(message.find("key \"embedder\" is \"roberta\""), std::string::npos) << message;
  }
  EXPECT_FALSE(model_to_json(small(ModelKind::vanilla)).contains("embedder"));
}

TEST(ExchangeConfig, EndOfTextComesFromTheTokenizer) {
  EXPECT_EQ(end_of_text_id(""), 0);
  EXPECT_EQ(end_of_text_id(R"({"type": "bytes"})"), 256);
  EXPECT_EQ(end_of_text_id(R"({"added_tokens": [{"id": 3, "content": "<pad>"},
                                {"id": 9, "content": "<|endoftext|>"}]})"),
            9);
  EXPECT_EQ(end_of_text_id(R"({"added_tokens": [{"id": "x", "content": "</s>"}, 7]})"), 0);
  EXPECT_EQ(end_of_text_id("[]"), 0);
}

TEST(ExchangeConfig, ValuesBeyondHalfPrecisionAreNotMadeInfinite) {
  const TemporaryFolder folder;
  const ModelConfig model = small(ModelKind::vanilla);
  const auto tensors = tensors_of(model);
  Values values = sample_values(tensors, 1);
  values.param[100] = 70000;
  const CheckpointReader reader(checkpoint_of(folder / "c", model, values, ""));
  const std::string message = message_of(Category::data, [&] {
    export_model(posix(), reader, config_of(model), folder / "out", {.type = TensorType::f16});
  });
  EXPECT_NE(message.find("gpt_neox.embed_in.weight: value 70000"), std::string::npos) << message;
  EXPECT_TRUE(posix().list(folder / "out").empty());  // nor half a file left
  EXPECT_NO_THROW(
      export_model(posix(), reader, config_of(model), folder / "out", {.type = TensorType::bf16}));
}

TEST(ExchangeConfig, FoldersWithoutSafetensorsAreRefused) {
  const TemporaryFolder folder;
  write_bytes(folder / "pytorch_model.bin", "x");
  const Config config = config_of(small(ModelKind::vanilla));
  const std::string message = message_of(Category::data, [&] {
    import_model(posix(), folder.path(), config, tensors_of(config.model), folder / "run", "");
  });
  EXPECT_NE(message.find("holds neither model.safetensors nor"), std::string::npos) << message;
}

}  // namespace
}  // namespace tessera::checkpoints::testing
