#include "cli/kernel_bench/cases.h"
#include "kernels/linear.h"

namespace tessera::cli {
namespace {

using namespace kernels;

constexpr Spread kWeights{0.02, 0};

struct Product {
  std::string use;
  Index rows = 0, in = 0, out = 0;
  bool bias = true;
  bool joins = false;  // adds the residual stream to its output
};

// Forward, dx and dw apart: training runs all three.
template <typename T>
void time_product(KernelBench& bench, const Product& p) {
  const std::string shape = sizes({p.rows, p.in, p.out});
  const double flops = 2 * product({p.rows, p.in, p.out});
  const auto at = [&](const char* operation, auto prepare) {
    bench.time({operation, p.use, shape, flops, prepare});
  };
  at("linear forward", [&](Operands& operands) -> KernelRun {
    LinearForward<T> args{p.rows, p.in, p.out};
    args.x = operands.input<T>(p.rows * p.in);
    args.weight = operands.input<T>(p.out * p.in, kWeights);
    if (p.bias) args.bias = operands.input<T>(p.out);
    if (p.joins) args.add = operands.input<T>(p.rows * p.out);
    args.y = operands.output<T>(p.rows * p.out);
    return {[&bench, args] { linear_forward<T>(bench.queue(), args); }, {}};
  });
  at("linear dx", [&](Operands& operands) -> KernelRun {
    LinearBackward<T> args{p.rows, p.in, p.out};
    args.weight = operands.input<T>(p.out * p.in, kWeights);
    args.dy = operands.input<T>(p.rows * p.out);
    args.dx = operands.output<T>(p.rows * p.in);
    return {[&bench, args] { linear_backward<T>(bench.queue(), args); }, {}};
  });
  at("linear dw", [&](Operands& operands) -> KernelRun {
    LinearBackward<T> args{p.rows, p.in, p.out};
    args.x = operands.input<T>(p.rows * p.in);
    args.dy = operands.input<T>(p.rows * p.out);
    args.dweight = operands.update<Wide<T>>(p.out * p.in);
    return {[&bench, args] { linear_backward<T>(bench.queue(), args); }, {}};
  });
}

template <typename T>
void time_bias_gradient(KernelBench& bench, const std::string& use, Index rows, Index width) {
  bench.time({"bias gradient", use, sizes({rows, width}), 0, [&](Operands& operands) -> KernelRun {
                LinearBackward<T> args{rows, 1, width};
                args.dy = operands.input<T>(rows * width);
                args.dbias = operands.update<Wide<T>>(width);
                return {[&bench, args] { linear_backward<T>(bench.queue(), args); }, {}};
              }});
}

}  // namespace

template <typename T>
void time_linear(KernelBench& bench, const KernelSuite& suite) {
  for (const Stack& s : suite.stacks) {
    const Index rows = s.rows(), width = s.width();
    time_product<T>(bench, {s.name + " qkv", rows, width, 3 * width});
    time_product<T>(bench, {s.name + " dense", rows, width, width, true, true});
    time_product<T>(bench, {s.name + " up", rows, width, 4 * width});
    time_product<T>(bench, {s.name + " down", rows, 4 * width, width, true, true});
    time_bias_gradient<T>(bench, s.name + " qkv", rows, 3 * width);
  }
  time_product<T>(bench, {"context expansion", suite.sequences * suite.context / suite.block_length,
                          suite.width, suite.prefix * suite.width});
  time_product<T>(bench, {"block projection", suite.sequences * suite.context / suite.block_length,
                          suite.block_length * suite.width, suite.width});
  for (const Index width : suite.classifier_widths)
    time_product<T>(bench, {"classifier", suite.chunk, width, suite.vocab, false});
}

template void time_linear<float>(KernelBench&, const KernelSuite&);
template void time_linear<bf16>(KernelBench&, const KernelSuite&);

}  // namespace tessera::cli
