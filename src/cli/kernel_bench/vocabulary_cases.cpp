#include "cli/kernel_bench/cases.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"

namespace tessera::cli {
namespace {

using namespace kernels;

// With `gradient` the logits are overwritten, so each run gets them anew.
template <typename T>
void time_cross_entropy(KernelBench& bench, const KernelSuite& suite, bool gradient) {
  const Index rows = suite.chunk, cells = rows * suite.vocab;
  bench.time({gradient ? "cross entropy with gradient" : "cross entropy", "classifier",
              sizes({rows, suite.vocab}), 0, [&](Operands& operands) -> KernelRun {
                CrossEntropy<T> args;
                args.rows = rows;
                args.vocab = suite.vocab;
                args.gradient = gradient;
                args.targets = operands.values(token_ids(rows, suite.vocab).ids);
                args.losses = operands.output<Wide<T>>(rows);
                args.weight =
                    operands.values(std::vector<Wide<T>>{Wide<T>(1) / static_cast<Wide<T>>(rows)});
                if (!gradient) {
                  args.logits = operands.other<T>(cells, {2, 0});
                  operands.count(static_cast<double>(cells) * sizeof(T));
                  return {[&bench, args] { cross_entropy<T>(bench.queue(), args); }, {}};
                }
                args.logits = operands.update<T>(cells, {2, 0});
                const T* original = operands.other<T>(cells, {2, 0});
                return {[&bench, args] { cross_entropy<T>(bench.queue(), args); },
                        [&bench, args, original, cells] {
                          copy_memory(bench.queue().device, args.logits, original,
                                      cells * static_cast<Index>(sizeof(T)), bench.queue().stream);
                        }};
              }});
}

template <typename T>
void time_embedding(KernelBench& bench, const std::string& use, const EmbeddingShape& shape,
                    Index tokens) {
  // The rows that a run looks up; the ids are all those of the micro-batch.
  const Index rows = shape.batches * shape.groups * shape.rows;
  const TokenIds ids = token_ids(tokens, shape.vocab);
  const Index spread = shape.groups == 1 ? rows * shape.stride
                                         : shape.batches * shape.groups * shape.out_group_stride;
  const std::string text = sizes({rows, shape.width});
  const double touched = product({ids.distinct, shape.width});  // elements of the table
  const double moved = product({rows, shape.width}) * sizeof(T);
  bench.time({"embedding forward", use, text, 0, [&](Operands& operands) -> KernelRun {
                EmbeddingForward<T> args;
                args.shape = shape;
                args.ids = operands.values(ids.ids);
                args.table = operands.other<T>(shape.vocab * shape.width);
                args.out = operands.other<T>(spread);
                operands.count(moved + touched * sizeof(T));
                return {[&bench, args] { embedding_forward<T>(bench.queue(), args); }, {}};
              }});
  bench.time({"embedding backward", use, text, 0, [&](Operands& operands) -> KernelRun {
                EmbeddingBackward<T> args;
                args.shape = shape;
                args.ids = operands.values(ids.ids);
                args.dout = operands.other<T>(spread);
                args.dtable = operands.other<Wide<T>>(shape.vocab * shape.width);
                operands.count(moved + 2 * touched * sizeof(Wide<T>));
                return {[&bench, args] { embedding_backward<T>(bench.queue(), args); }, {}};
              }});
}

}  // namespace

template <typename T>
void time_vocabulary(KernelBench& bench, const KernelSuite& suite) {
  time_cross_entropy<T>(bench, suite, true);
  time_cross_entropy<T>(bench, suite, false);

  const Index tokens = suite.sequences * suite.context;
  EmbeddingShape plain;
  plain.rows = tokens;
  plain.width = plain.stride = suite.width;
  plain.vocab = suite.vocab;
  time_embedding<T>(bench, "tokens", plain, tokens);
  EmbeddingShape blocks = plain;
  blocks.width = blocks.stride = suite.width / suite.block_length;
  time_embedding<T>(bench, "blocks", blocks, tokens);
  // The token decoder's windows: the tokens of each block but the last, behind the prefix.
  EmbeddingShape windows = plain;
  windows.groups = suite.context / suite.block_length - 1;
  windows.rows = suite.block_length - 1;
  windows.ids_group_stride = suite.block_length;
  windows.out_group_stride = (suite.prefix + suite.block_length - 1) * suite.width;
  windows.batches = suite.sequences;
  windows.ids_batch_stride = suite.context;
  windows.out_batch_stride = windows.groups * windows.out_group_stride;
  time_embedding<T>(bench, "windows", windows, tokens);
}

template void time_vocabulary<float>(KernelBench&, const KernelSuite&);
template void time_vocabulary<bf16>(KernelBench&, const KernelSuite&);

}  // namespace tessera::cli
