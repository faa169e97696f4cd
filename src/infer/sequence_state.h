// What is known of every sequence while a batch is continued, in the device's memory: where it is,
// what it has produced, whether it has ended. kernels/sample.h chooses tokens and keeps the books.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/device_memory.h"
#include "core/memory.h"
#include "infer/generator.h"
#include "kernels/queue.h"

namespace tessera::infer {

// Rows as the host sees them.
struct Progress {
  std::int64_t width = 0;                  // of outputs
  const std::int32_t* produced = nullptr;  // [sequences]
  const std::int32_t* outputs = nullptr;   // [sequences, width]
  const std::uint8_t* ended = nullptr;     // [sequences]
};

template <typename T>
class SequenceState {
 public:
  // `turn`: tokens that a turn adds to a sequence; for each the first turn may give a fixed one.
  SequenceState(std::int64_t vocab, const Limits& limits, std::int64_t turn);

  void plan(MemoryPlan& plan);
  void bind(const kernels::Queue& queue, const Arena& arena);

  // `rows` [sequences]: row of the prefill's last input; `positions`: its position; `forced`
  // [sequences, turn]: tokens that are given, -1 = to be chosen.
  void begin(const std::vector<Prompt>& prompts, const GenerateOptions& options,
             const std::vector<std::int32_t>& rows, const std::vector<std::int32_t>& positions,
             const std::vector<std::int32_t>& forced);
  // From the second turn on nothing is given.
  void forget_forced();
  // Token number `column` of the turn for all sequences, from logits [sequences, stride]. The last
  // one moves positions on.
  void choose(std::int64_t column, const T* logits, std::int64_t stride);

  // [sequences, turn]: the tokens of this turn.
  std::int32_t* tokens() const { return arena_->at<std::int32_t>(tokens_); }
  const std::int32_t* positions() const { return arena_->at<std::int32_t>(positions_); }
  const std::int32_t* rows() const { return arena_->at<std::int32_t>(rows_); }
  // Waits for the queue and brings what the sequences have so far.
  Progress progress();

 private:
  void send(const Buffer& buffer, const void* from, std::int64_t bytes) const;

  std::int64_t vocab_, capacity_, turn_, width_;
  Buffer prompts_, rows_, positions_, forced_, tokens_, produced_, outputs_, ended_, allowed_;
  kernels::Queue queue_;
  const Arena* arena_ = nullptr;
  std::int64_t sequences_ = 0;
  bool masked_ = false;
  GenerateOptions options_;
  std::unique_ptr<HostMemory> brought_;  // produced, outputs, ended
};

}  // namespace tessera::infer
