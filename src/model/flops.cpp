#include "model/flops.h"

namespace tessera::model {
namespace {

// Multiply-adds of one row through a layer whose window has `length` rows: QKV, output, up, down,
// then scores and values with the causal half counted.
double layer(const ModelConfig& c, double length) {
  const auto width = static_cast<double>(c.width);
  return (4 + 2 * static_cast<double>(c.ffn_mult)) * width * width + length * width;
}

}  // namespace

double training_flops_per_token(const ModelConfig& c) {
  const auto width = static_cast<double>(c.width), context = static_cast<double>(c.context);
  const double head = width * static_cast<double>(c.vocab);
  if (c.kind == ModelKind::vanilla)
    return 6 * (static_cast<double>(c.layers) * layer(c, context) + head);
  const auto length = static_cast<double>(c.block_length), prefix = static_cast<double>(c.prefix);
  const double window = prefix + length - 1;
  const double projected = c.embedder == Embedder::projection ? length : 0;
  const double block_decoder = (static_cast<double>(c.block_layers) * layer(c, context / length) +
                                (projected + prefix) * width * width) /
                               length;
  const double token_decoder =
      static_cast<double>(c.token_layers) * layer(c, window) * window / length;
  return 6 * (block_decoder + token_decoder + head);
}

}  // namespace tessera::model
