#include "cli/kernel_bench/cases.h"
#include "kernels/attention.h"
#include "kernels/rotary.h"
#include "kernels/window_attention.h"

namespace tessera::cli {
namespace {

using namespace kernels;

// Up to here windows are tiny: rotary is fused, out and lse are not needed again. The forward of
// longer ones rotates in a pass of its own, which `again` leaves out here ("rotary" times it).
constexpr Index kTiny = 64;

template <typename T>
WindowAttentionShape<T> shape_of(KernelBench& bench, Operands& operands, const Stack& s,
                                 AttentionKernel choice) {
  WindowAttentionShape<T> shape{s.windows, s.length, s.heads, s.head_size, s.head_size / 4};
  shape.choice = choice;
  std::vector<Wide<T>> cos(static_cast<std::size_t>(s.length * shape.rotary / 2)), sin = cos;
  rotary_tables(s.length, shape.rotary, 10000.0, cos.data(), sin.data());
  shape.cos = operands.values(cos);
  shape.sin = operands.values(sin);
  bench.need_workspace(window_attention_workspace<T>(bench.queue(), shape));
  return shape;
}

template <typename T>
void time_windows(KernelBench& bench, const Stack& s, const std::string& name,
                  AttentionKernel choice) {
  const Index cells = s.rows() * s.width(), statistics = s.rows() * s.heads;
  const std::string text = sizes({s.windows, s.heads, s.length, s.head_size});
  // Multiply-adds of one product of scores; the causal half, diagonal included.
  const double pairs = product({s.windows, s.heads, s.length, s.length + 1, s.head_size}) / 2;
  const bool cudnn = choice == AttentionKernel::cudnn;
  bench.time({name + " forward", s.name, text, 4 * pairs,
              [&](Operands& operands) -> KernelRun {
                WindowAttentionForward<T> args;
                args.shape = shape_of<T>(bench, operands, s, choice);
                args.qkv = operands.other<T>(3 * cells);
                operands.count(3 * static_cast<double>(cells) * sizeof(T));
                args.out = operands.output<T>(cells);
                args.lse = operands.output<Wide<T>>(statistics);
                args.again = true;
                return {[&bench, args] { window_attention_forward<T>(bench.queue(), args); }, {}};
              },
              cudnn});
  bench.time({name + " backward", s.name, text, 10 * pairs,
              [&](Operands& operands) -> KernelRun {
                WindowAttentionForward<T> forward;
                forward.shape = shape_of<T>(bench, operands, s, choice);
                forward.qkv = operands.other<T>(3 * cells);
                forward.out = operands.other<T>(cells);
                forward.lse = operands.other<Wide<T>>(statistics);
                WindowAttentionBackward<T> args;
                args.shape = forward.shape;
                args.qkv = forward.qkv;
                args.out = forward.out;
                args.lse = forward.lse;
                args.dout = operands.input<T>(cells);
                args.dqkv = operands.output<T>(3 * cells);
                args.dbias = operands.update<Wide<T>>(3 * s.width());
                // qkv, and for long windows out.
                operands.count((s.length <= kTiny ? 3.0 : 4.0) * static_cast<double>(cells) *
                               sizeof(T));
                window_attention_forward<T>(bench.queue(), forward);
                return {[&bench, args] { window_attention_backward<T>(bench.queue(), args); }, {}};
              },
              cudnn});
}

}  // namespace

template <typename T>
void time_attention(KernelBench& bench, const KernelSuite& suite) {
  for (const Stack& s : suite.stacks) {
    if (s.length <= kTiny) {
      time_windows<T>(bench, s, "tiny attention", AttentionKernel::automatic);
      continue;
    }
    time_windows<T>(bench, s, "native attention", AttentionKernel::native);
    if (bench.cuda()) time_windows<T>(bench, s, "cudnn attention", AttentionKernel::cudnn);
  }
}

template void time_attention<float>(KernelBench&, const KernelSuite&);
template void time_attention<bf16>(KernelBench&, const KernelSuite&);

}  // namespace tessera::cli
