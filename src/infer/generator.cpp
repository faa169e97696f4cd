#include "infer/generator.h"

#include "core/error.h"
#include "infer/batch_generator.h"

namespace tessera::infer {
namespace {

template <typename T>
std::unique_ptr<BatchGenerator<T>> make_of(const ModelConfig& config,
                                           const model::ParameterTable& table, const Limits& limits,
                                           Device device) {
  return config.kind == ModelKind::vanilla
             ? make_vanilla_generator<T>(config, table, limits, device)
             : make_block_generator<T>(config, table, limits, device);
}

// `use` is called with a generator of the right element type.
template <typename Use>
auto with_generator(const ModelConfig& config, const model::ParameterTable& table,
                    const Limits& limits, Device device, Precision precision, const Use& use) {
#ifdef TESSERA_HAS_CUDA
  if (precision == Precision::bf16 && device == Device::cuda)
    return use(make_of<kernels::bf16>(config, table, limits, device));
#endif
  if (precision != Precision::fp32)
    throw Error(Category::config, "precision bf16 needs a CUDA device; use fp32");
  return use(make_of<float>(config, table, limits, device));
}

}  // namespace

std::unique_ptr<Generator> Generator::make(const ModelConfig& config,
                                           const model::ParameterTable& table,
                                           const float* parameters, const Limits& limits,
                                           Device device, Precision precision) {
  return with_generator(config, table, limits, device, precision,
                        [&](auto generator) -> std::unique_ptr<Generator> {
                          generator->bind(parameters);
                          return generator;
                        });
}

MemoryPlan Generator::plan(const ModelConfig& config, const model::ParameterTable& table,
                           const Limits& limits, Device device, Precision precision) {
  return with_generator(config, table, limits, device, precision, [](auto generator) {
    MemoryPlan plan;
    generator->plan(plan);
    return plan;
  });
}

std::int64_t Generator::largest_batch(const ModelConfig& config, const model::ParameterTable& table,
                                      Limits limits, Device device, Precision precision,
                                      std::int64_t bytes) {
  const auto fits = [&](std::int64_t sequences) {
    limits.sequences = sequences;
    return plan(config, table, limits, device, precision).total_bytes() <= bytes;
  };
  if (!fits(1)) return 0;
  std::int64_t low = 1, high = 2;
  while (high < (std::int64_t{1} << 20) && fits(high)) low = high, high *= 2;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace tessera::infer
