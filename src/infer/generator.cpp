#include "infer/generator.h"

#include <algorithm>

#include "core/error.h"
#include "core/integers.h"
#include "infer/cached_stack.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"

namespace tessera::infer {
namespace {

using Tokens = std::vector<std::int32_t>;

// Named parameters of a flat space.
class Weights {
 public:
  Weights(const ModelConfig& config, const model::ParameterTable& table, const float* parameters)
      : config_(config), table_(table), parameters_(parameters) {}

  const float* at(const std::string& name) const {
    const std::int64_t index = table_.find(name);
    TESSERA_CHECK(index >= 0);
    return parameters_ + table_[index].offset;
  }
  // out[0 .. width) = row `id` of a table of `width` columns.
  void look_up(const std::string& name, std::int32_t id, std::int64_t width, float* out) const {
    TESSERA_CHECK(id >= 0 && id < config_.vocab);
    std::copy_n(at(name) + id * width, width, out);
  }
  // In place: x [rows, D] through "PREFIX.final_layer_norm".
  void final_norm(const std::string& prefix, float* x, std::int64_t rows) const {
    kernels::LayerNormForward<float> args;
    args.rows = rows;
    args.width = config_.width;
    args.eps = config_.eps;
    args.x = x;
    args.gain1 = at(prefix + ".final_layer_norm.weight");
    args.bias1 = at(prefix + ".final_layer_norm.bias");
    args.y1 = x;
    kernels::layer_norm_forward<float>({}, args);
  }
  // Logits [vocab] of one row after its final norm.
  void classify(const std::string& prefix, const std::string& classifier, const float* x,
                std::vector<float>& logits) const {
    std::vector<float> hidden(x, x + config_.width);
    final_norm(prefix, hidden.data(), 1);
    logits.resize(static_cast<std::size_t>(config_.vocab));
    kernels::linear_forward<float>({}, {1, config_.width, config_.vocab, hidden.data(),
                                        at(classifier), nullptr, logits.data()});
  }

 private:
  const ModelConfig& config_;
  const model::ParameterTable& table_;
  const float* parameters_;
};

// Collects tokens and knows when to end.
class Output {
 public:
  Output(const GenerateOptions& options, const std::function<bool(std::int32_t)>& on_token)
      : options_(options), on_token_(on_token) {}

  void add(std::int32_t token) {
    tokens_.push_back(token);
    if (on_token_ && !on_token_(token)) stopped_ = true;
    if (token == options_.end_id) stopped_ = true;
  }
  bool done() const {
    return stopped_ || static_cast<std::int64_t>(tokens_.size()) >= options_.tokens;
  }
  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }
  Tokens take() { return std::move(tokens_); }

 private:
  const GenerateOptions& options_;
  const std::function<bool(std::int32_t)>& on_token_;
  Tokens tokens_;
  bool stopped_ = false;
};

class VanillaGenerator : public Generator {
 public:
  VanillaGenerator(const ModelConfig& config, const model::ParameterTable& table,
                   const float* parameters, std::int64_t longest)
      : config_(config),
        weights_(config_, table, parameters),
        stack_(config_, table, parameters, "gpt_neox", config.layers, longest) {}

  Tokens generate(const Tokens& prompt, const GenerateOptions& options, Sampler& sampler,
                  std::int64_t prompt_index,
                  const std::function<bool(std::int32_t)>& on_token) override {
    TESSERA_CHECK(!prompt.empty());
    stack_.reset();
    Output output(options, on_token);
    Tokens next = prompt;
    while (!output.done()) {
      const auto rows = static_cast<std::int64_t>(next.size());
      x_.resize(static_cast<std::size_t>(rows * config_.width));
      for (std::int64_t r = 0; r < rows; ++r)
        weights_.look_up("gpt_neox.embed_in.weight", next[static_cast<std::size_t>(r)],
                         config_.width, x_.data() + r * config_.width);
      stack_.feed(x_.data(), rows);
      weights_.classify("gpt_neox", "embed_out.weight", x_.data() + (rows - 1) * config_.width,
                        logits_);
      next = {sampler.choose(logits_.data(), config_.vocab, prompt_index, output.size())};
      output.add(next[0]);
    }
    return output.take();
  }

 private:
  ModelConfig config_;
  Weights weights_;
  CachedStack stack_;
  std::vector<float> x_, logits_;
};

class BlockGenerator : public Generator {
 public:
  BlockGenerator(const ModelConfig& config, const model::ParameterTable& table,
                 const float* parameters, std::int64_t longest)
      : config_(config),
        weights_(config_, table, parameters),
        upper_(config_, table, parameters, "block_decoder.gpt_neox", config.block_layers,
               div_ceil(longest, config.block_length) + 1),
        lower_(config_, table, parameters, "token_decoder.gpt_neox", config.token_layers,
               config.prefix + config.block_length - 1) {}

  Tokens generate(const Tokens& prompt, const GenerateOptions& options, Sampler& sampler,
                  std::int64_t prompt_index,
                  const std::function<bool(std::int32_t)>& on_token) override {
    TESSERA_CHECK(!prompt.empty());
    const std::int64_t length = config_.block_length;
    Tokens tokens = prompt;
    const auto size = static_cast<std::int64_t>(prompt.size());
    if ((options.pad_left || size < length) && size % length != 0)
      tokens.insert(tokens.begin(), static_cast<std::size_t>(length - size % length),
                    options.pad_id);
    const std::int64_t whole = static_cast<std::int64_t>(tokens.size()) / length;

    upper_.reset();
    feed_blocks(tokens.data(), whole);
    Output output(options, on_token);
    Tokens block(tokens.begin() + whole * length, tokens.end());  // given tokens of the next block
    while (!output.done()) {
      decode_block(block, output, sampler, prompt_index);
      if (output.done()) break;
      feed_blocks(block.data(), 1);
      block.clear();
    }
    return output.take();
  }

 private:
  // Block decoder over `count` blocks of tokens; leaves the last context embedding in context_.
  void feed_blocks(const std::int32_t* tokens, std::int64_t count) {
    const std::int64_t width = config_.width, part = width / config_.block_length;
    x_.resize(static_cast<std::size_t>(count * width));
    for (std::int64_t t = 0; t < count * config_.block_length; ++t)
      weights_.look_up("embedder.embeddings.weight", tokens[t], part, x_.data() + t * part);
    upper_.feed(x_.data(), count);
    context_.assign(x_.end() - static_cast<std::ptrdiff_t>(width), x_.end());
    weights_.final_norm("block_decoder.gpt_neox", context_.data(), 1);
  }

  // Token decoder: completes `block` (which may hold given tokens) up to L_B tokens.
  void decode_block(Tokens& block, Output& output, Sampler& sampler, std::int64_t prompt_index) {
    const std::int64_t width = config_.width;
    lower_.reset();
    std::int64_t rows = config_.prefix + static_cast<std::int64_t>(block.size());
    x_.resize(static_cast<std::size_t>(rows * width));
    kernels::linear_forward<float>({},
                                   {1, width, config_.prefix * width, context_.data(),
                                    weights_.at("token_decoder.expansion_layer.weight"),
                                    weights_.at("token_decoder.expansion_layer.bias"), x_.data()});
    for (std::size_t t = 0; t < block.size(); ++t)
      embed(block[t], x_.data() + (config_.prefix + static_cast<std::int64_t>(t)) * width);
    while (true) {
      lower_.feed(x_.data(), rows);
      weights_.classify("token_decoder.gpt_neox", "token_decoder.embed_out.weight",
                        x_.data() + (rows - 1) * width, logits_);
      block.push_back(sampler.choose(logits_.data(), config_.vocab, prompt_index, output.size()));
      output.add(block.back());
      if (output.done() || static_cast<std::int64_t>(block.size()) == config_.block_length) return;
      rows = 1;
      embed(block.back(), x_.data());
    }
  }

  void embed(std::int32_t token, float* out) const {
    weights_.look_up("token_decoder.gpt_neox.embed_in.weight", token, config_.width, out);
  }

  ModelConfig config_;
  Weights weights_;
  CachedStack upper_, lower_;
  std::vector<float> x_, context_, logits_;
};

}  // namespace

std::unique_ptr<Generator> Generator::make(const ModelConfig& config,
                                           const model::ParameterTable& table,
                                           const float* parameters, std::int64_t longest) {
  if (config.kind == ModelKind::vanilla)
    return std::make_unique<VanillaGenerator>(config, table, parameters, longest);
  return std::make_unique<BlockGenerator>(config, table, parameters, longest);
}

}  // namespace tessera::infer
