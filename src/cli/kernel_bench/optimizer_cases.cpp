#include <algorithm>
#include <type_traits>

#include "cli/kernel_bench/cases.h"
#include "kernels/adamw.h"
#include "kernels/cast.h"
#include "kernels/squared_norms.h"

namespace tessera::cli {
namespace {

using namespace kernels;

// `count` elements as tensors of 2 M elements or less, in slices.
std::vector<TensorSlice> slices_of(Index count) {
  constexpr Index kSlicesATensor = 128;
  std::vector<TensorSlice> slices;
  for (Index i = 0; i < count; i += kSliceElements) {
    const auto tensor = static_cast<std::int32_t>(slices.size() / kSlicesATensor);
    slices.push_back({i, std::min(kSliceElements, count - i), tensor, 0.1f});
  }
  return slices;
}

}  // namespace

template <typename T>
void time_optimizer(KernelBench& bench, const KernelSuite& suite) {
  constexpr bool kHasWorking = !std::is_same_v<T, Wide<T>>;
  const Index count = suite.parameters;
  const std::vector<TensorSlice> slices = slices_of(count);
  const auto slice_count = static_cast<Index>(slices.size());
  const Index tensors = slices.back().tensor + 1;
  bench.time({"adamw", "all parameters", sizes({count}), 0, [&](Operands& operands) -> KernelRun {
                AdamW<T> args;
                args.slices = operands.values(slices);
                args.slice_count = slice_count;
                args.step = operands.values(
                    std::vector<AdamWStep>{adamw_step(1e-6, 1, args.beta1, args.beta2, 100)});
                args.parameter = operands.update<Wide<T>>(count, {0.02, 0});
                args.m = operands.update<Wide<T>>(count, {1e-3, 0});
                args.v = operands.update<Wide<T>>(count, {1e-7, 1e-6});
                args.gradient = operands.input<Wide<T>>(count, {1e-3, 0});
                if (kHasWorking) args.working = operands.output<T>(count);
                return {[&bench, args] { adamw<T>(bench.queue(), args); }, {}};
              }});
  bench.time(
      {"gradient norms", "all gradients", sizes({count}), 0, [&](Operands& operands) -> KernelRun {
         SquaredNorms<Wide<T>> args;
         args.slices = operands.values(slices);
         args.slice_count = slice_count;
         args.x = operands.input<Wide<T>>(count);
         args.partial = operands.scratch<double>(slice_count);
         args.sums = operands.scratch<double>(tensors);
         args.tensors = tensors;
         return {[&bench, args] { squared_norms<Wide<T>>(bench.queue(), args); }, {}};
       }});
  bench.time(
      {"cast to bf16", "all parameters", sizes({count}), 0, [&](Operands& operands) -> KernelRun {
         const CastToBf16 args{count, operands.input<float>(count),
                               reinterpret_cast<std::uint16_t*>(operands.output<bf16>(count))};
         return {[&bench, args] { cast_to_bf16(bench.queue(), args); }, {}};
       }});
  bench.time(
      {"cast from bf16", "all parameters", sizes({count}), 0, [&](Operands& operands) -> KernelRun {
         const CastFromBf16 args{
             count, reinterpret_cast<const std::uint16_t*>(operands.input<bf16>(count)),
             operands.output<float>(count)};
         return {[&bench, args] { cast_from_bf16(bench.queue(), args); }, {}};
       }});
}

template void time_optimizer<float>(KernelBench&, const KernelSuite&);
template void time_optimizer<bf16>(KernelBench&, const KernelSuite&);

}  // namespace tessera::cli
