#include "cli/kernel_bench/cases.h"
#include "kernels/copy_rows.h"
#include "kernels/gelu.h"
#include "kernels/layer_norm.h"
#include "kernels/rotary.h"
#include "kernels/sum.h"
#include "kernels/transpose.h"

namespace tessera::cli {
namespace {

using namespace kernels;

constexpr Spread kGains{0.1, 1};

template <typename T>
LayerNormForward<T> forward_norms(Operands& operands, Index rows, Index width) {
  LayerNormForward<T> args;
  args.rows = rows;
  args.width = width;
  args.x = operands.input<T>(rows * width);
  args.gain1 = operands.input<T>(width, kGains);
  args.bias1 = operands.input<T>(width);
  args.mean = operands.output<Wide<T>>(rows);
  args.rstd = operands.output<Wide<T>>(rows);
  return args;
}

// With all that a layer's backward asks of it.
template <typename T>
KernelRun backward_norms(KernelBench& bench, Operands& operands, Index rows, Index width) {
  LayerNormForward<T> forward = forward_norms<T>(operands, rows, width);
  LayerNormBackward<T> args;
  args.rows = rows;
  args.width = width;
  args.x = forward.x;
  args.mean = forward.mean;
  args.rstd = forward.rstd;
  args.gain1 = forward.gain1;
  args.dy1 = operands.input<T>(rows * width);
  args.gain2 = operands.input<T>(width, kGains);
  args.dy2 = operands.input<T>(rows * width);
  args.dresidual = operands.input<T>(rows * width);
  args.dx = operands.output<T>(rows * width);
  for (Wide<T>** sum :
       {&args.dgain1, &args.dbias1, &args.dgain2, &args.dbias2, &args.dsum1, &args.dsum2})
    *sum = operands.update<Wide<T>>(width);
  forward.y1 = args.dx;
  layer_norm_forward<T>(bench.queue(), forward);  // the statistics
  return {[&bench, args] { layer_norm_backward<T>(bench.queue(), args); }, {}};
}

template <typename T>
void time_stack(KernelBench& bench, const Stack& s) {
  const Index rows = s.rows(), width = s.width(), ffn = 4 * width;
  const std::string shape = sizes({rows, width}), wide = sizes({rows, ffn});
  bench.time({"layer norm x2 forward", s.name, shape, 0, [&](Operands& operands) -> KernelRun {
                LayerNormForward<T> args = forward_norms<T>(operands, rows, width);
                args.y1 = operands.output<T>(rows * width);
                args.gain2 = operands.input<T>(width, kGains);
                args.bias2 = operands.input<T>(width);
                args.y2 = operands.output<T>(rows * width);
                return {[&bench, args] { layer_norm_forward<T>(bench.queue(), args); }, {}};
              }});
  bench.time({"layer norm x2 backward", s.name, shape, 0,
              [&](Operands& operands) { return backward_norms<T>(bench, operands, rows, width); }});
  bench.time({"gelu forward", s.name, wide, 0, [&](Operands& operands) -> KernelRun {
                const GeluForward<T> args{rows * ffn, operands.input<T>(rows * ffn),
                                          operands.output<T>(rows * ffn)};
                return {[&bench, args] { gelu_forward<T>(bench.queue(), args); }, {}};
              }});
  bench.time({"gelu backward with bias", s.name, wide, 0, [&](Operands& operands) -> KernelRun {
                const GeluBackward<T> args{rows,
                                           ffn,
                                           operands.input<T>(rows * ffn),
                                           operands.input<T>(rows * ffn),
                                           operands.output<T>(rows * ffn),
                                           operands.update<Wide<T>>(ffn)};
                return {[&bench, args] { gelu_backward<T>(bench.queue(), args); }, {}};
              }});
}

template <typename T>
void time_rotary(KernelBench& bench, const Stack& s) {
  const Index turned = s.head_size / 4;
  std::vector<Wide<T>> cos(static_cast<std::size_t>(s.length * turned / 2)), sin = cos;
  rotary_tables(s.length, turned, 10000.0, cos.data(), sin.data());
  bench.time({"rotary", s.name, sizes({s.windows, s.length, s.heads, s.head_size}), 0,
              [&](Operands& operands) -> KernelRun {
                Rotary<T> args;
                args.rows = s.rows();
                args.heads = s.heads;
                args.head_size = s.head_size;
                args.rotary = turned;
                args.length = s.length;
                args.cos = operands.values(cos);
                args.sin = operands.values(sin);
                args.qkv = operands.other<T>(3 * s.rows() * s.width());
                // Of q and k the rotated components, read and written.
                operands.count(4 * product({s.rows(), s.heads, turned}) * sizeof(T));
                return {[&bench, args] { rotary<T>(bench.queue(), args); }, {}};
              }});
}

// Runs of rows between a compact matrix and the windows that hold them among others.
template <typename T>
void time_copy(KernelBench& bench, const std::string& use, Index groups, Index runs, Index width,
               Index window, bool into_windows) {
  bench.time(
      {"copy rows", use, sizes({groups, runs, width}), 0, [&](Operands& operands) -> KernelRun {
         CopyRows<T> args;
         args.groups = groups;
         args.runs_a_group = runs;
         args.width = width;
         args.from_group = (into_windows ? runs : window) * width;
         args.to_group = (into_windows ? window : runs) * width;
         args.from = operands.other<T>(groups * args.from_group);
         args.to = operands.other<T>(groups * args.to_group);
         operands.count(2 * product({groups, runs, width}) * sizeof(T));
         return {[&bench, args] { copy_rows<T>(bench.queue(), args); }, {}};
       }});
}

}  // namespace

template <typename T>
void time_rows(KernelBench& bench, const KernelSuite& suite) {
  for (const Stack& s : suite.stacks) time_stack<T>(bench, s);
  // Tiny windows rotate inside their attention.
  for (const Stack& s : suite.stacks)
    if (s.length > 64) time_rotary<T>(bench, s);

  const Index groups = suite.sequences * (suite.context / suite.block_length - 1);
  const Index window = suite.prefix + suite.block_length - 1;
  time_copy<T>(bench, "expansion to windows", groups, suite.prefix, suite.width, window, true);
  time_copy<T>(bench, "windows to classifier", groups, suite.block_length, suite.width, window,
               false);
  const Index tokens = suite.sequences * suite.context;
  bench.time({"transpose", "block embedder with projection",
              sizes({tokens / suite.block_length, suite.block_length, suite.width}), 0,
              [&](Operands& operands) -> KernelRun {
                const Transpose<T> args{tokens / suite.block_length, suite.block_length,
                                        suite.width, operands.input<T>(tokens * suite.width),
                                        operands.output<T>(tokens * suite.width)};
                return {[&bench, args] { transpose<T>(bench.queue(), args); }, {}};
              }});
  bench.time(
      {"sum of losses", "micro-batch", sizes({tokens}), 0, [&](Operands& operands) -> KernelRun {
         const Sum<Wide<T>> args{tokens, operands.input<Wide<T>>(tokens),
                                 operands.scratch<double>(1)};
         return {[&bench, args] { sum<Wide<T>>(bench.queue(), args); }, {}};
       }});
}

template void time_rows<float>(KernelBench&, const KernelSuite&);
template void time_rows<bf16>(KernelBench&, const KernelSuite&);

}  // namespace tessera::cli
