// What a run is made of: plain structs with defaults, as written in a YAML file. Units stand beside
// each field. `load_config` (config/load.h) fills and checks them; nothing else reads YAML.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

enum class DeviceChoice { automatic, cpu, cuda };
enum class Precision { automatic, bf16, fp32 };
enum class ModelKind { vanilla, block };
enum class Recompute { none, attention_mlp, layer };
enum class LearningRateSchedule { cosine, constant, wsd };
enum class Decay { all, matrices };
enum class PipelineSchedule { gpipe, one_f_one_b, eager_one_f_one_b, interleaved };
enum class RankOrder { pipeline_first, data_first };
enum class GradientType { fp32, bf16 };
enum class AttentionChoice { automatic, native, cudnn };
// Of block models: documents start at a block's boundary, or at a random place in their first
// block.
enum class Padding { none, random_pad_first_block, pad_to_block_boundary };
enum class OnBadChunk { stop, skip };
// How a block's tokens become one input of the block decoder: embeddings of D / L_B side by side,
// or of D through a projection of all L_B.
enum class Embedder { concat, projection };

struct RunConfig {
  std::string name = "default";  // folder below root: letters, digits, '.', '_', '-'
  std::string root = "runs";
};

struct ModelConfig {
  ModelKind kind = ModelKind::block;
  std::int64_t vocab = 50304;     // rows of every table
  std::int64_t width = 768;       // D
  std::int64_t heads = 12;        // D / heads = head size
  std::int64_t layers = 12;       // vanilla
  std::int64_t block_layers = 6;  // block: block decoder
  std::int64_t token_layers = 6;  // block: token decoder
  std::int64_t block_length = 4;  // L_B, tokens a block
  std::int64_t prefix = 2;        // P, positions a context embedding expands to
  Embedder embedder = Embedder::concat;
  std::int64_t context = 2048;  // L, tokens a sample
  double rotary_pct = 0.25;     // part of each head that is rotated
  double rotary_base = 10000.0;
  double eps = 1e-5;          // layer norms
  std::int64_t ffn_mult = 4;  // feed-forward width / D
};

// One entry of data.train or data.valid: a shard folder and its weight in the blend.
struct DataSource {
  std::string path;
  double weight = 1.0;
};

struct DataConfig {
  std::vector<DataSource> train;
  std::vector<DataSource> valid;
  Padding padding = Padding::none;
  OnBadChunk on_bad_chunk = OnBadChunk::stop;
};

struct TrainConfig {
  std::int64_t steps = 1000;        // optimizer steps of the whole schedule
  std::int64_t global_batch = 256;  // sequences a step, over all ranks
  std::int64_t micro_batch = 8;     // sequences a forward pass
  std::int64_t stop_at = 0;         // leave after this step (saved, exit 0); 0 = at `steps`
  Recompute recompute = Recompute::none;
};

struct OptimizerConfig {
  double lr = 6e-4;           // peak
  std::int64_t warmup = 100;  // steps
  LearningRateSchedule schedule = LearningRateSchedule::cosine;
  double min_lr_ratio = 0.1;     // floor / peak
  std::int64_t decay_steps = 0;  // wsd: length of the last phase; 0 = a tenth of train.steps
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  Decay decay = Decay::all;  // all parameters (published recipe) or those of 2+ dimensions
  double clip = 1.0;         // global norm; 0 = off
};

struct ParallelConfig {
  std::int64_t pipeline = 1;  // stages
  std::int64_t data = 0;      // replicas; 0 = ranks / pipeline
  std::int64_t virtual_stages = 1;
  PipelineSchedule schedule = PipelineSchedule::one_f_one_b;
  std::int64_t zero = 1;  // 1: each replica owns a slice of the optimizer's state; 0: all of it
  RankOrder order = RankOrder::pipeline_first;
  GradientType gradient_dtype = GradientType::fp32;
  std::int64_t bucket_mib = 128;  // gradients (as fp32) that are reduced at a time
};

struct CheckpointConfig {
  std::int64_t every = 1000;    // steps; 0 = at the end alone
  std::int64_t keep = 2;        // newest that stay
  std::int64_t keep_every = 0;  // multiples of this step stay for good; 0 = none
};

struct EvalConfig {
  std::int64_t every = 1000;       // steps; 0 = never
  std::int64_t batches = 0;        // global batches of validation data; 0 = all of it
  std::vector<std::string> tasks;  // zero-shot, beside the validation loss
  std::string task_data;           // folder of the tasks' files
  std::int64_t task_items = 200;   // items a task; 0 = all
};

struct WatchdogConfig {
  double step_seconds = 600;  // a step may take this long
  double checkpoint_seconds = 1800;
  double start_seconds = 600;
  std::int64_t compare_every = 1000;  // steps between comparisons of replicas; 0 = never
};

struct Config {
  RunConfig run;
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::automatic;
  std::uint64_t seed = 1;
  AttentionChoice attention = AttentionChoice::automatic;
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  ParallelConfig parallel;
  CheckpointConfig checkpoint;
  EvalConfig eval;
  WatchdogConfig watchdog;
};

}  // namespace tessera
