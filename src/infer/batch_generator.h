// What the generators of both families share: memory, the loop over turns, books and graphs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/stopwatch.h"
#include "infer/decoder_stack.h"
#include "infer/generator.h"
#include "infer/output_head.h"
#include "infer/sequence_state.h"
#include "parallel/device_context.h"
#include "parallel/device_weights.h"

namespace tessera::infer {

template <typename T>
class BatchGenerator : public Generator {
 public:
  std::vector<std::vector<std::int32_t>> generate(const std::vector<Prompt>& prompts,
                                                  const GenerateOptions& options,
                                                  const OnToken& on_token) override;
  void set_may_measure(bool may_measure) override;
  double first_token_seconds(const std::vector<Prompt>& prompts,
                             const GenerateOptions& options) override;
  std::vector<parallel::PartTime> time_parts(const std::vector<Prompt>& prompts,
                                             const GenerateOptions& options) override;
  const MemoryPlan& memory() const override { return memory_; }

  // Everything that bind() will need; then bind(), once.
  void plan(MemoryPlan& plan);
  void bind(const float* parameters);

 protected:
  // What a prompt comes to: `pad` pads and its first tokens, `tokens` in all, which are whole rows
  // of the prefill; the rest, at most turn - 1 tokens, is given to the first turn.
  struct Start {
    std::int64_t pad = 0, tokens = 0;
  };

  BatchGenerator(const ModelConfig& config, const model::ParameterTable& table,
                 const Limits& limits, Device device, std::int64_t turn, std::int64_t longest_rows,
                 const std::string& norm_prefix, const std::string& classifier);

  // A family: its memory and constants, ...
  virtual void plan_family(MemoryPlan& plan) = 0;
  virtual void bind_family() = 0;
  virtual std::int64_t prefill_workspace(std::int64_t windows, std::int64_t length) const = 0;
  virtual Start start(const Prompt& prompt, const GenerateOptions& options) const = 0;
  // ... the rows of `windows` windows of `length` rows, from ids [windows, length * turn], into
  // x(), and through the stack into hidden() of sequences from `first` on, ...
  virtual void embed_prompt(std::int64_t rows, const std::int32_t* ids) = 0;
  virtual DecoderStack<T>& prompt_stack() = 0;
  // ... the tokens of a turn from hidden(), and these tokens back into hidden().
  virtual void choose_tokens() = 0;
  virtual void choose_first() = 0;  // the turn's first token alone
  virtual void absorb_tokens() = 0;

  const kernels::Queue& queue() const { return context_.queue(); }
  std::int64_t sequences() const { return sequences_; }
  const T* parameter(std::int64_t index) const { return parameters_ + table_[index].offset; }
  T* x() const { return arena_->at<T>(x_); }
  T* hidden() const { return arena_->at<T>(hidden_); }  // [sequences, D]
  // Names what has been given to the queue since the last mark, where somebody asks.
  void mark(const char* part) {
    if (probe_) probe_(part);
  }
  // Logits of `from` [sequences, D], then token `column` of the turn.
  void choose(std::int64_t column, const T* from);
  // out[r, 0 .. columns) = row ids[r * ids_stride] of the table `index`.
  void look_up(std::int64_t index, std::int64_t rows, std::int64_t columns, const std::int32_t* ids,
               std::int64_t ids_stride, T* out) const;

  const ModelConfig config_;
  const model::ParameterTable& table_;
  const Limits limits_;
  const std::int64_t turn_, longest_rows_;
  StackScratch<T> scratch_;
  SequenceState<T> state_;
  std::unique_ptr<Arena> arena_;
  const T* parameters_ = nullptr;

 private:
  // Checks prompts and options, and takes the prompts in, up to hidden(). Turns to make.
  std::int64_t begin(const std::vector<Prompt>& prompts, const GenerateOptions& options);
  void prefill(const std::vector<Prompt>& prompts, const std::vector<Start>& starts,
               std::int32_t pad_id, std::int64_t length);
  void turn(std::int64_t number, bool last);

  parallel::DeviceContext context_;
  parallel::DeviceWeights<T> weights_;
  OutputHead<T> head_;
  MemoryPlan memory_;
  Buffer x_, hidden_, ids_;
  std::unique_ptr<HostMemory> host_ids_;  // of a prefill, on their way to the device
  std::int64_t prompt_windows_ = 1;       // that a prefill takes at a time
  std::int64_t sequences_ = 0;
  bool any_given_ = false;
  std::function<void(const char*)> probe_;
  // Of the options and number of sequences that they were recorded with.
  std::unique_ptr<DeviceGraph> whole_turn_, last_turn_;
  std::string recorded_;
};

// Rows that a prefill takes at a time: enough for full-speed products.
std::int64_t prefill_rows(Device device);

template <typename T>
std::unique_ptr<BatchGenerator<T>> make_vanilla_generator(const ModelConfig& config,
                                                          const model::ParameterTable& table,
                                                          const Limits& limits, Device device);
template <typename T>
std::unique_ptr<BatchGenerator<T>> make_block_generator(const ModelConfig& config,
                                                        const model::ParameterTable& table,
                                                        const Limits& limits, Device device);

}  // namespace tessera::infer
