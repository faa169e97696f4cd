#include "infer/roofline.h"

#include <algorithm>

#include "core/integers.h"
#include "model/layer_forward.h"

namespace tessera::infer {
namespace {

struct Machine {
  double flops_rate, bandwidth, element;
};

// A product of `rows` rows with `weights` numbers.
double product(const Machine& m, double rows, double weights) {
  return std::max(2 * rows * weights / m.flops_rate, m.element * weights / m.bandwidth);
}

struct Stack {
  double layers, width, weights;  // weights: of a layer's products
  double cache(double rows, const Machine& m) const {
    return 2 * layers * width * rows * m.element;
  }
  // Scores and sums over `keys` keys for each of `rows` rows.
  double attention_flops(double rows, double keys) const {
    return 4 * layers * rows * keys * width;
  }
};

Stack stack(const ModelConfig& c, std::int64_t layers) {
  const auto width = static_cast<double>(c.width);
  return {static_cast<double>(layers), width,
          width * width * (4 + 2 * static_cast<double>(c.ffn_mult))};
}

}  // namespace

Roofline roofline(const ModelConfig& config, std::int64_t sequences, std::int64_t prompt,
                  std::int64_t tokens, double flops_rate, double bandwidth, double element) {
  const Machine m{flops_rate, bandwidth, element};
  const auto batch = static_cast<double>(sequences), width = static_cast<double>(config.width);
  const double head = width * static_cast<double>(config.vocab);
  const bool vanilla = config.kind == ModelKind::vanilla;
  const std::int64_t unit = vanilla ? 1 : config.block_length;
  const Stack upper = stack(config, vanilla ? config.layers : config.block_layers);
  const Stack lower = stack(config, vanilla ? 0 : config.token_layers);
  Roofline r;
  const auto compute = [&](double& seconds, double rows, double weights, double layers) {
    seconds += layers * product(m, rows, weights);
    r.flops += 2 * rows * weights * layers;
  };

  // The prompt's rows through the stack (causal attention: half of all pairs).
  const auto rows = static_cast<double>(div_ceil(prompt, unit));
  compute(r.prefill_seconds, batch * rows, upper.weights, upper.layers);
  const bool projects = !vanilla && config.embedder == Embedder::projection;
  const double projection = projects ? static_cast<double>(unit) * width * width : 0;
  compute(r.prefill_seconds, batch * rows, projection, 1);
  const double scores = batch * upper.attention_flops(rows, rows / 2);
  r.prefill_seconds += scores / m.flops_rate;
  r.flops += scores;

  // Turns: the upper stack takes a row a sequence between two of them.
  const auto turns = static_cast<double>(div_ceil(tokens, unit));
  compute(r.decode_seconds, batch, upper.weights, upper.layers * (turns - 1));
  compute(r.decode_seconds, batch, projection, turns - 1);
  const double keys = (turns - 1) * (rows + turns / 2);  // read by all steps
  r.cache_bytes = batch * upper.cache(keys, m);
  r.decode_seconds += r.cache_bytes / m.bandwidth;
  compute(r.decode_seconds, batch, head, static_cast<double>(tokens));
  if (!vanilla) {
    const auto prefix = static_cast<double>(config.prefix), length = static_cast<double>(unit);
    compute(r.decode_seconds, batch, prefix * width * width, turns);
    compute(r.decode_seconds, batch * prefix, lower.weights, lower.layers * turns);
    compute(r.decode_seconds, batch, lower.weights, lower.layers * turns * (length - 1));
  }
  return r;
}

}  // namespace tessera::infer
