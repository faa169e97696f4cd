// Vanilla models: the prompt through the stack at once, then a row a token.
#include "infer/batch_generator.h"

namespace tessera::infer {
namespace {

template <typename T>
class VanillaGenerator : public BatchGenerator<T> {
  using Base = BatchGenerator<T>;
  using Start = typename Base::Start;

 public:
  VanillaGenerator(const ModelConfig& config, const model::ParameterTable& table,
                   const Limits& limits, Device device)
      : Base(config, table, limits, device, 1, std::max<std::int64_t>(1, limits.prompt_tokens),
             "gpt_neox", "embed_out.weight"),
        embedding_(index_of(table, "gpt_neox.embed_in.weight")),
        stack_(this->config_, table, "gpt_neox", config.layers, limits.sequences,
               std::max<std::int64_t>(1, limits.prompt_tokens) + limits.new_tokens) {}

 protected:
  void plan_family(MemoryPlan& plan) override { stack_.plan(plan, "keys and values"); }
  void bind_family() override {
    stack_.bind(this->queue(), *this->arena_, this->scratch_, this->parameters_);
  }
  std::int64_t prefill_workspace(std::int64_t windows, std::int64_t length) const override {
    return stack_.workspace_bytes(this->queue(), windows, length);
  }
  Start start(const Prompt& prompt, const GenerateOptions&) const override {
    return {0, static_cast<std::int64_t>(prompt.ids.size())};
  }
  void embed_prompt(std::int64_t rows, const std::int32_t* ids) override {
    this->look_up(embedding_, rows, this->config_.width, ids, 1, this->x());
  }
  DecoderStack<T>& prompt_stack() override { return stack_; }
  void choose_tokens() override { this->choose(0, this->hidden()); }
  void choose_first() override { choose_tokens(); }
  void absorb_tokens() override {
    this->look_up(embedding_, this->sequences(), this->config_.width, this->state_.tokens(), 1,
                  this->hidden());
    stack_.step(this->sequences(), this->hidden(), this->state_.positions(), 0);
    this->mark("layers");
  }

 private:
  std::int64_t embedding_;
  DecoderStack<T> stack_;
};

}  // namespace

template <typename T>
std::unique_ptr<BatchGenerator<T>> make_vanilla_generator(const ModelConfig& config,
                                                          const model::ParameterTable& table,
                                                          const Limits& limits, Device device) {
  return std::make_unique<VanillaGenerator<T>>(config, table, limits, device);
}

template std::unique_ptr<BatchGenerator<float>> make_vanilla_generator(const ModelConfig&,
                                                                       const model::ParameterTable&,
                                                                       const Limits&, Device);
#ifdef TESSERA_HAS_CUDA
template std::unique_ptr<BatchGenerator<kernels::bf16>> make_vanilla_generator(
    const ModelConfig&, const model::ParameterTable&, const Limits&, Device);
#endif

}  // namespace tessera::infer
