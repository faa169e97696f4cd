// Every operation of kernels/ at the shapes of models: what `tessera bench kernels` times. T is
// bf16 on CUDA and float on the CPU.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "cli/kernel_bench/measure.h"

namespace tessera::cli {

using Index = std::int64_t;

// A stack of layers at a micro-batch: `windows` of `length` positions that attend to one another.
struct Stack {
  std::string name;
  Index windows = 0, length = 0, heads = 0, head_size = 0;

  Index width() const { return heads * head_size; }
  Index rows() const { return windows * length; }
};

struct KernelSuite {
  std::vector<Stack> stacks;
  // Classifier: rows of logits that exist at a time, of models of these widths.
  Index chunk = 0, vocab = 0;
  std::vector<Index> classifier_widths;
  // Token ids of a micro-batch, and how a Block Transformer with P = 2 cuts them.
  Index sequences = 0, context = 0, width = 0, block_length = 4, prefix = 2;
  // Elements of the optimizer's arrays.
  Index parameters = 0;
  // Generation: sequences (windows) that each ask one query of so many cached keys.
  std::vector<std::pair<Stack, Index>> caches;
};

// The paper's vanilla 160M and 410M and block 170M and 1.4B at 16 sequences of 2048 tokens.
KernelSuite paper_suite();
// What a laptop's CPU does in seconds.
KernelSuite small_suite();

inline std::string sizes(std::initializer_list<Index> numbers) {
  std::string text;
  for (const Index n : numbers) text += (text.empty() ? "" : " x ") + std::to_string(n);
  return text;
}
inline double product(std::initializer_list<Index> numbers) {
  double result = 1;
  for (const Index n : numbers) result *= static_cast<double>(n);
  return result;
}

// Linear layers' forward, dx and dw, and gradients of biases. (linear_cases.cpp)
template <typename T>
void time_linear(KernelBench& bench, const KernelSuite& suite);
// Norms, GELU, rotary, copied and transposed rows, casts, sums. (row_cases.cpp)
template <typename T>
void time_rows(KernelBench& bench, const KernelSuite& suite);
// Training attention, tiny and long, native and cuDNN's, and generation's. (attention_cases.cpp)
template <typename T>
void time_attention(KernelBench& bench, const KernelSuite& suite);
// Cross entropy and embeddings. (vocabulary_cases.cpp)
template <typename T>
void time_vocabulary(KernelBench& bench, const KernelSuite& suite);
// AdamW, gradient norms, casts of parameters. (optimizer_cases.cpp)
template <typename T>
void time_optimizer(KernelBench& bench, const KernelSuite& suite);
// Rows into a cache, attention to it, sampling. (decoding_cases.cpp)
template <typename T>
void time_decoding(KernelBench& bench, const KernelSuite& suite);

}  // namespace tessera::cli
