#include "cli/kernel_bench/cases.h"
#include "kernels/cache_rows.h"
#include "kernels/decode_attention.h"
#include "kernels/sample.h"

namespace tessera::cli {
namespace {

using namespace kernels;

constexpr double kRotaryPart = 0.25;

template <typename T>
void time_cache_rows(KernelBench& bench, const Stack& s) {
  bench.time({"rows into a cache", s.name, sizes({s.windows, s.length, s.heads, s.head_size}), 0,
              [&](Operands& operands) -> KernelRun {
                const Index cells = s.rows() * s.width();
                CacheRows<T> args;
                args.windows = s.windows, args.length = s.length;
                args.heads = s.heads, args.head_size = s.head_size;
                args.rotary = static_cast<Index>(kRotaryPart * static_cast<double>(s.head_size));
                args.cos = operands.other<Wide<T>>(s.length * args.rotary / 2);
                args.sin = operands.other<Wide<T>>(s.length * args.rotary / 2);
                args.qkv = operands.other<T>(3 * cells);
                args.keys = operands.output<T>(cells);
                args.values = operands.output<T>(cells);
                args.cache_window = s.length * s.width();
                args.cache_row = s.width();
                // k and v are read; the rotated part of q is read and written, of k written.
                operands.count((2 + 3 * kRotaryPart) * static_cast<double>(cells) * sizeof(T));
                return {[&bench, args] { cache_rows<T>(bench.queue(), args); }, {}};
              }});
}

// `keys` cached rows of each of `windows` sequences, all of which are read.
template <typename T>
void time_decode_attention(KernelBench& bench, const Stack& s, Index keys) {
  const double pairs = product({s.windows, s.heads, keys, s.head_size});
  bench.time({"decode attention", s.name, sizes({s.windows, s.heads, keys, s.head_size}), 4 * pairs,
              [&](Operands& operands) -> KernelRun {
                DecodeAttention<T> args;
                args.sequences = s.windows, args.heads = s.heads, args.head_size = s.head_size;
                args.rotary = static_cast<Index>(kRotaryPart * static_cast<double>(s.head_size));
                args.longest = keys;
                args.position = keys - 1;
                args.cos = operands.other<Wide<T>>(keys * args.rotary / 2);
                args.sin = operands.other<Wide<T>>(keys * args.rotary / 2);
                args.qkv = operands.input<T>(3 * s.windows * s.width());
                args.qkv_row = 3 * s.width();
                args.keys = operands.other<T>(s.windows * keys * s.width());
                args.values = operands.other<T>(s.windows * keys * s.width());
                args.cache_sequence = keys * s.width();
                args.cache_row = s.width();
                args.out = operands.output<T>(s.windows * s.width());
                operands.count(2 * pairs * sizeof(T));
                return {[&bench, args] { decode_attention<T>(bench.queue(), args); }, {}};
              }});
}

template <typename T>
void time_sample(KernelBench& bench, const std::string& use, Index rows, Index vocab,
                 double temperature, Index top_k, double top_p) {
  bench.time({"sampling", use, sizes({rows, vocab}), 0, [&](Operands& operands) -> KernelRun {
                Sample<T> args;
                args.rows = rows, args.vocab = args.stride = vocab;
                args.temperature = temperature, args.top_k = top_k, args.top_p = top_p;
                args.logits = operands.input<T>(rows * vocab, {2, 0});
                const std::vector<std::int32_t> zeros(static_cast<std::size_t>(rows));
                args.prompts =
                    operands.values(std::vector<std::int64_t>(static_cast<std::size_t>(rows)));
                args.tokens = operands.values(zeros);
                args.produced = operands.values(zeros);
                args.outputs = operands.values(zeros);
                args.output_stride = 1;
                args.limit = 1;
                // Ended rows choose as others do and write no outputs, however often they run.
                args.ended =
                    operands.values(std::vector<std::uint8_t>(static_cast<std::size_t>(rows), 1));
                return {[&bench, args] { sample<T>(bench.queue(), args); }, {}};
              }});
}

}  // namespace

template <typename T>
void time_decoding(KernelBench& bench, const KernelSuite& suite) {
  for (const Stack& stack : suite.stacks) time_cache_rows<T>(bench, stack);
  for (const auto& [stack, keys] : suite.caches) time_decode_attention<T>(bench, stack, keys);
  const Index rows = suite.chunk / 4;
  time_sample<T>(bench, "greedy", rows, suite.vocab, 0, 0, 1);
  time_sample<T>(bench, "temperature", rows, suite.vocab, 1, 0, 1);
  time_sample<T>(bench, "top-k and top-p", rows, suite.vocab, 1, 50, 0.9);
}

template void time_decoding<float>(KernelBench&, const KernelSuite&);
template void time_decoding<kernels::bf16>(KernelBench&, const KernelSuite&);

}  // namespace tessera::cli
