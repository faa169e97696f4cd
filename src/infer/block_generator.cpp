// Block Transformers. A turn: the context embedding (block decoder's last output) becomes P prefix
// rows of the token decoder, which then takes the block's tokens one by one, with a cache of
// P + L_B - 1 positions that every block starts afresh; the finished block is embedded as one row
// and goes through the block decoder. The token decoder never sees prompt tokens, except those
// behind the last whole block.
#include <algorithm>
#include <numeric>

#include "core/integers.h"
#include "infer/batch_generator.h"
#include "kernels/linear.h"
#include "model/projection_embedder.h"

namespace tessera::infer {
namespace {

// Blocks that a projecting embedder takes at a time: enough for full-speed products.
constexpr std::int64_t kProjectedBlocks = 4096;

// Whole blocks that a prompt of up to `tokens` may come to.
std::int64_t prompt_blocks(const ModelConfig& config, const Limits& limits) {
  return std::max<std::int64_t>(1, div_ceil(limits.prompt_tokens, config.block_length));
}

template <typename T>
class BlockGenerator : public BatchGenerator<T> {
  using Base = BatchGenerator<T>;
  using Start = typename Base::Start;

 public:
  BlockGenerator(const ModelConfig& config, const model::ParameterTable& table,
                 const Limits& limits, Device device)
      : Base(config, table, limits, device, config.block_length, prompt_blocks(config, limits),
             "token_decoder.gpt_neox", "token_decoder.embed_out.weight"),
        block_embedding_(index_of(table, "embedder.embeddings.weight")),
        projects_(config.embedder == Embedder::projection),
        projection_(projects_ ? index_of(table, "embedder.projection_layer.weight") : -1),
        projection_bias_(projects_ ? index_of(table, "embedder.projection_layer.bias") : -1),
        token_embedding_(index_of(table, "token_decoder.gpt_neox.embed_in.weight")),
        norm_gain_(index_of(table, "block_decoder.gpt_neox.final_layer_norm.weight")),
        norm_bias_(index_of(table, "block_decoder.gpt_neox.final_layer_norm.bias")),
        expansion_(index_of(table, "token_decoder.expansion_layer.weight")),
        expansion_bias_(index_of(table, "token_decoder.expansion_layer.bias")),
        // Given tokens may take all but one place of the first block.
        upper_(this->config_, table, "block_decoder.gpt_neox", config.block_layers,
               limits.sequences,
               prompt_blocks(config, limits) +
                   div_ceil(limits.new_tokens + config.block_length - 1, config.block_length)),
        lower_(this->config_, table, "token_decoder.gpt_neox", config.token_layers,
               limits.sequences, config.prefix + config.block_length - 1) {
    this->scratch_.rows = std::max(this->scratch_.rows, limits.sequences * config.prefix);
    this->scratch_.windows = std::max(this->scratch_.windows, limits.sequences);
  }

 protected:
  void plan_family(MemoryPlan& plan) override {
    const std::int64_t sequences = this->limits_.sequences, width = this->config_.width;
    upper_.plan(plan, "keys and values of blocks");
    lower_.plan(plan, "keys and values of tokens");
    if (projects_) {
      projected_blocks_ = std::min(this->scratch_.rows, kProjectedBlocks);
      const std::int64_t count = projected_blocks_ * this->turn_ * width;
      embedded_ = plan.reserve<T>("activations", count);
      turned_ = plan.reserve<T>("activations", count);
    }
    context_ = plan.reserve<T>("activations", sequences * width);
    prefix_ = plan.reserve<T>("activations", sequences * this->config_.prefix * width);
    row_ = plan.reserve<T>("activations", sequences * width);
    last_rows_ = plan.reserve<std::int32_t>("constants", sequences);
    last_positions_ = plan.reserve<std::int32_t>("constants", sequences);
  }
  void bind_family() override {
    upper_.bind(this->queue(), *this->arena_, this->scratch_, this->parameters_);
    lower_.bind(this->queue(), *this->arena_, this->scratch_, this->parameters_);
    const auto sequences = static_cast<std::size_t>(this->limits_.sequences);
    const auto prefix = static_cast<std::int32_t>(this->config_.prefix);
    std::vector<std::int32_t> rows(sequences), positions(sequences, prefix - 1);
    for (std::size_t s = 0; s < sequences; ++s)
      rows[s] = static_cast<std::int32_t>(s + 1) * prefix - 1;
    const auto send = [&](const Buffer& to, const std::vector<std::int32_t>& from) {
      upload(this->queue().device, this->arena_->template at<std::int32_t>(to), from.data(),
             static_cast<std::int64_t>(from.size() * sizeof(std::int32_t)), this->queue().stream);
    };
    send(last_rows_, rows);
    send(last_positions_, positions);
  }
  std::int64_t prefill_workspace(std::int64_t windows, std::int64_t length) const override {
    return std::max(
        upper_.workspace_bytes(this->queue(), windows, length),
        lower_.workspace_bytes(this->queue(), this->limits_.sequences, this->config_.prefix));
  }

  Start start(const Prompt& prompt, const GenerateOptions& options) const override {
    const std::int64_t length = this->config_.block_length;
    const auto size = static_cast<std::int64_t>(prompt.ids.size());
    const bool padded = (options.pad_left || size < length) && size % length != 0;
    const std::int64_t pad = padded ? length - size % length : 0;
    return {pad, (pad + size) / length * length};
  }
  void embed_prompt(std::int64_t rows, const std::int32_t* ids) override {
    embed(rows, ids, this->x());
  }
  DecoderStack<T>& prompt_stack() override { return upper_; }

  void choose_first() override {
    const std::int64_t sequences = this->sequences(), width = this->config_.width;
    const std::int64_t prefix = this->config_.prefix;
    T* const context = this->arena_->template at<T>(context_);
    T* const rows = this->arena_->template at<T>(prefix_);
    T* const row = this->arena_->template at<T>(row_);
    final_norm(this->queue(), this->config_, this->table_, this->parameters_, norm_gain_,
               norm_bias_, sequences, static_cast<const T*>(this->hidden()), context);
    kernels::linear_forward<T>(
        this->queue(), {sequences, width, prefix * width, context, this->parameter(expansion_),
                        this->parameter(expansion_bias_), rows});
    this->mark("block decoder's norm and expansion");
    lower_.prefill(0, sequences, prefix, rows, this->arena_->template at<std::int32_t>(last_rows_),
                   this->arena_->template at<std::int32_t>(last_positions_), row);
    this->mark("token decoder layers");
    this->choose(0, row);
  }
  void choose_tokens() override {
    choose_first();
    T* const row = this->arena_->template at<T>(row_);
    for (std::int64_t j = 1; j < this->turn_; ++j) {
      this->look_up(token_embedding_, this->sequences(), this->config_.width,
                    this->state_.tokens() + j - 1, this->turn_, row);
      lower_.step(this->sequences(), row, nullptr, this->config_.prefix + j - 1);
      this->mark("token decoder layers");
      this->choose(j, row);
    }
  }
  void absorb_tokens() override {
    embed(this->sequences(), this->state_.tokens(), this->hidden());
    upper_.step(this->sequences(), this->hidden(), this->state_.positions(), 0);
    this->mark("block decoder layers");
  }

 private:
  // out [blocks, D] from ids [blocks, L_B].
  void embed(std::int64_t blocks, const std::int32_t* ids, T* out) const {
    const std::int64_t length = this->turn_, width = this->config_.width;
    // Rows of D are the concatenated embeddings of L_B tokens, D / L_B wide each.
    if (!projects_)
      return this->look_up(block_embedding_, blocks * length, width / length, ids, 1, out);
    for (std::int64_t first = 0; first < blocks; first += projected_blocks_)
      model::project_blocks<T>(
          this->queue(), this->config_,
          {std::min(projected_blocks_, blocks - first), ids + first * length,
           this->parameter(block_embedding_), this->parameter(projection_),
           this->parameter(projection_bias_), this->arena_->template at<T>(embedded_),
           this->arena_->template at<T>(turned_), out + first * width});
  }

  std::int64_t block_embedding_;
  bool projects_;
  std::int64_t projection_, projection_bias_, token_embedding_, norm_gain_, norm_bias_, expansion_,
      expansion_bias_;
  DecoderStack<T> upper_, lower_;
  std::int64_t projected_blocks_ = 0;
  Buffer embedded_, turned_;  // [projected_blocks_, L_B, D] and [projected_blocks_, D, L_B]
  // [sequences, D] normed context, [sequences, P, D] prefix rows, [sequences, D] a token's row
  Buffer context_, prefix_, row_;
  Buffer last_rows_, last_positions_;  // of every window of prefix rows
};

}  // namespace

template <typename T>
std::unique_ptr<BatchGenerator<T>> make_block_generator(const ModelConfig& config,
                                                        const model::ParameterTable& table,
                                                        const Limits& limits, Device device) {
  return std::make_unique<BlockGenerator<T>>(config, table, limits, device);
}

template std::unique_ptr<BatchGenerator<float>> make_block_generator(const ModelConfig&,
                                                                     const model::ParameterTable&,
                                                                     const Limits&, Device);
#ifdef TESSERA_HAS_CUDA
template std::unique_ptr<BatchGenerator<kernels::bf16>> make_block_generator(
    const ModelConfig&, const model::ParameterTable&, const Limits&, Device);
#endif

}  // namespace tessera::infer
